//! The lab is one sentence: build → cluster → install → experiments → evidence. `engine/src/lib.rs` says it.
//!
//! This is the front of it. What a newcomer asks first, it answers by itself, and so it compiles in seconds; for
//! everything else it builds the program that does it, and becomes that program.

mod doctor;
mod dispatch;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use cli::{Cli, Subcommands};
use dispatch::{Installation, Program, become_it};
use machine::exit::{self, Exit};
use machine::interrupt;
use machine::lock::Lock;
use machine::print;
use machine::progress::Progress;
use machine::workspace::Workspace;
use setup::Need;

fn main() -> ExitCode {
    exit::conclude(run(&Cli::parse()))
}

fn run(cli: &Cli) -> Result<Exit> {
    let workspace = Workspace::discover()?;
    match cli.command {
        Subcommands::Doctor => wait_for(doctor::doctor(&workspace)),
        Subcommands::Setup => wait_for(interrupt::or(set_up(&workspace))),
        Subcommands::Lab(_)
        | Subcommands::Grade(_)
        | Subcommands::PostRender { .. }
        | Subcommands::Values(_)
        | Subcommands::Explain(_)
        | Subcommands::Image(_)
        | Subcommands::Cluster { .. }
        | Subcommands::Shell
        | Subcommands::Docs { .. }
        | Subcommands::Schema { .. } => hand_over(&workspace, Program::Engine, &cli.command),
        Subcommands::Test(_)
        | Subcommands::Bench { .. }
        | Subcommands::Release(_)
        | Subcommands::Screencast => hand_over(&workspace, Program::Dev, &cli.command),
    }
}

fn hand_over(workspace: &Workspace, program: Program, command: &Subcommands) -> Result<Exit> {
    let path = match Installation::of(command) {
        Some(installation) => wait_for(interrupt::or(program.built_beside(workspace, &installation)))?,
        None => program.built(workspace)?,
    };
    match become_it(&path)? {}
}

fn wait_for<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Runtime::new()?.block_on(work)
}

async fn set_up(workspace: &Workspace) -> Result<Exit> {
    let _alone = Lock::of_run(workspace)?;
    setup::ensure(workspace, &Progress::new(), Need::OwnCluster, None, true).await?;
    print::result("this machine has all that the lab needs\nnext: cargo xtask lab");
    Ok(Exit::Holds)
}
