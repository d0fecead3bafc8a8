//! Runs what the command line asks of a lab: the front has built this program, and hands its arguments on.

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use cli::{Cli, Subcommands};
use machine::exit::{self, Exit};
use machine::interrupt;
use machine::progress::Progress;
use machine::workspace::Workspace;

#[tokio::main]
async fn main() -> ExitCode {
    exit::conclude(dispatch(Cli::parse()).await)
}

async fn dispatch(cli: Cli) -> Result<Exit> {
    let workspace = Workspace::discover()?;
    let progress = Progress::new();
    match cli.command {
        Subcommands::Lab(args) => engine::lab(&workspace, &args, &progress).await,
        Subcommands::Grade(args) => engine::grade(&workspace, &args, &progress).await,
        Subcommands::Image(args) => interrupt::or(engine::build_image(&workspace, &args, &progress)).await,
        Subcommands::Cluster { action } => engine::cluster(&workspace, action, &progress).await,
        Subcommands::Shell => engine::cluster::shell(&workspace, &progress).await,
        Subcommands::Docs { check } => engine::docs(&workspace, check),
        Subcommands::Schema { check } => engine::lab::schema::schema(&workspace, check),
        other => unreachable!("{other:?} is no command of a lab"),
    }
}
