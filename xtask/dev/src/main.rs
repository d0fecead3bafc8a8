//! What developers run: tests, measurements, releases, and the picture of a run.

mod test;
mod checks;
mod bench;
mod release;
mod screencast;

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
    exit::conclude(interrupt::or(dispatch(Cli::parse())).await)
}

async fn dispatch(cli: Cli) -> Result<Exit> {
    let workspace = Workspace::discover()?;
    let progress = Progress::new();
    match cli.command {
        Subcommands::Test(args) => test::test(&workspace, &args, &progress).await,
        Subcommands::Bench { what: BenchArg::App } => bench::bench_app(&workspace, &progress).await,
        Subcommands::Release(args) => release::release(&workspace, &args, &progress).await,
        Subcommands::Screencast => screencast::screencast(&workspace).await,
        other => unreachable!("{other:?} is no task of developers"),
    }
}
