//! Runs what the command line asks of a lab: the front has built this program, and hands its arguments on.

use std::process::ExitCode;

use clap::Parser;

use cli::Cli;
use machine::exit;

#[tokio::main]
async fn main() -> ExitCode {
    exit::conclude(engine::dispatch(Cli::parse().command).await)
}
