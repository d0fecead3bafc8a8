//! What this machine is and has: where things are, which tools and engine it holds, and how a tool is run on it.

pub mod workspace;
pub mod pins;
pub mod command;
pub mod tools;
pub mod container;
pub mod progress;
pub mod interrupt;
pub mod lock;
pub mod exit;
pub mod print;
pub mod cache;
pub mod digest;
pub mod compare;
pub mod surroundings;
