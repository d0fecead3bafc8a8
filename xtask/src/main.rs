//! The lab: build, cluster, install, experiments, evidence.
#![expect(
    unreachable_pub,
    reason = "a program has no outside: `pub` marks what other modules may call"
)]

mod cli;
mod command;
mod evidence;
mod exit;
mod lab;
mod progress;
mod run;
mod workspace;

fn main() {}
