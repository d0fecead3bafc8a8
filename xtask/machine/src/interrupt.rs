//! Ctrl-C and SIGTERM: the first stops what is under way and lets the caller clean up, the second quits at once.

use std::future::Future;

use anyhow::{Result, bail};
use tokio::signal::unix::{SignalKind, signal};

use crate::print;

/// Exit status after a second signal, as a shell gives it for SIGINT.
const QUIT: i32 = 130;

/// Runs `work` unless a signal comes first; dropping it ends the commands it started.
///
/// # Errors
/// Those of the work, or that it was interrupted.
pub async fn or<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let name = tokio::select! {
        result = work => return result,
        _ = interrupt.recv() => "Ctrl-C",
        _ = terminate.recv() => "SIGTERM",
    };
    print::message(format!("{name}: stopping, and cleaning up; once more quits at once"));
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        print::message("quit; the next run, or `cargo xtask cluster down`, removes what is left");
        std::process::exit(QUIT);
    });
    bail!("interrupted by {name}")
}
