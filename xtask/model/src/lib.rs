//! What a lab is, and what a run of it recorded. This crate knows no other of ours.

pub mod spec;
pub mod load;
mod stack;
pub mod expression;
pub mod condition;
pub mod kinds;
pub mod verbs;
pub mod record;
pub mod text;
