//! What a lab is, and what a run of it recorded. This crate knows no other of ours.

// Each knows only those above it.
pub mod text;
pub mod kinds;
pub mod failure;
mod stack;
pub mod condition;
pub mod hopeless;
pub mod field;
pub mod settings;
pub mod record;
pub mod expression;
pub mod verbs;
pub mod spec;
pub mod roles;
pub mod load;
