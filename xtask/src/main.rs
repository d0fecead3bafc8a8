//! The lab: build, cluster, install, experiments, evidence.
#![expect(unreachable_pub, reason = "a program has no outside: `pub` marks what other modules may call")]

mod command;
mod exit;
mod progress;
mod workspace;

fn main() {}
