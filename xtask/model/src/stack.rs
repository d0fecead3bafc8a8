//! Room for parsers and interpreters, which call themselves for every level of what they read, through a dozen
//! functions each time; and a wall before a crate's panic, which must not end a run.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// What a parser takes of the deepest text that is in bounds, unoptimized.
pub(crate) const PARSER: usize = 24 << 20;
/// What the interpreter takes for each level of an expression, unoptimized.
pub(crate) const LEVEL: usize = 64 << 10;
/// Address space, not memory: what is not used costs nothing.
const STACK_BYTES: usize = 64 << 20;

/// Does it on this thread, on another stack where this one has less than `needed` bytes left; nothing when it panicked.
pub(crate) fn with_room<T>(needed: usize, work: impl FnOnce() -> T) -> Option<T> {
    stacker::maybe_grow(needed, STACK_BYTES, || catch_unwind(AssertUnwindSafe(work)).ok())
}
