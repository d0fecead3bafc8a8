//! What developers run: tests, measurements, releases, and the picture of a run.

// Each knows only those above it.
mod checks;
mod bench;
mod release;
mod screencast;
mod test;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use cli::{BenchArg, Cli, Subcommands};
use machine::exit::{self, Exit};
use machine::interrupt;
use machine::progress::Progress;
use machine::workspace::Workspace;

#[tokio::main]
async fn main() -> ExitCode {
    exit::conclude(dispatch(Cli::parse().command).await)
}

async fn dispatch(command: Subcommands) -> Result<Exit> {
    let workspace = Workspace::discover()?;
    let progress = Progress::new();
    match command {
        Subcommands::Test(args) => interrupt::or(test::test(&workspace, &args, &progress)).await,
        Subcommands::Bench { what: BenchArg::App } => {
            interrupt::or(bench::bench_app(&workspace, &progress)).await
        }
        Subcommands::Release(args) => interrupt::or(release::release(&workspace, &args, &progress)).await,
        Subcommands::Screencast => interrupt::or(screencast::screencast(&workspace)).await,
        // Tests and the picture run the lab as a program of its own, which is this one.
        other => engine::dispatch(other).await,
    }
}
