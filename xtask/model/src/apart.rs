//! Work on a thread of its own with a large stack: parsers and interpreters call themselves for every level of what
//! they read, through a dozen functions each time, and that is more than a thread usually has.

/// Address space, not memory: what is not used costs nothing.
const STACK_BYTES: usize = 64 << 20;

/// Does it and waits for it; nothing when it panicked, which a crate's parser must not do to a run.
pub(crate) fn apart<T: Send>(work: impl FnOnce() -> T + Send) -> Option<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
        thread.spawn_scoped(scope, work).ok()?.join().ok()
    })
}
