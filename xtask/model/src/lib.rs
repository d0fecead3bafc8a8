//! What a lab is, and what a run of it recorded. This crate knows no other of ours.

// Each knows only those above it.
pub mod text;
pub mod kinds;
pub mod spec;
pub mod record;
pub mod condition;
pub mod verbs;
mod stack;
pub mod expression;
pub mod load;
