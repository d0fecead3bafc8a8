//! What this machine is and has: where things are, which tools and engine it holds, and how a tool is run on it.

// Each knows only those above it.
pub mod advice;
pub mod paint;
pub mod digest;
pub mod identity;
pub mod workspace;
pub mod pins;
pub mod print;
pub mod cache;
pub mod files;
pub mod command;
pub mod surroundings;
pub mod progress;
pub mod lock;
pub mod tools;
pub mod container;
pub mod interrupt;
pub mod exit;
pub mod compare;
