//! How the program ends: the exit codes, and the one kind of error that is the caller's own.

use std::process::ExitCode;

use crate::advice;
use crate::print;

/// Exit codes. They are part of the contract with scripts and CI: `--help` and the README list them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Every claim holds.
    Holds = 0,
    /// The lab ran, and a claim does not hold.
    ClaimFails = 1,
    /// Bad usage or an invalid lab file.
    BadInput = 2,
    /// The lab could not run: environment, cluster or build.
    CannotRun = 3,
    /// Committed evidence is out of date.
    OutOfDate = 4,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// What the user gave is not usable; ends with [`Exit::BadInput`].
#[derive(Debug)]
pub struct BadInput(pub String);

impl std::error::Error for BadInput {}

impl std::fmt::Display for BadInput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// The exit code of an error: the user's own mistakes apart, the lab could not run.
fn exit_of(error: &anyhow::Error) -> Exit {
    if error.chain().any(|cause| cause.is::<BadInput>()) { Exit::BadInput } else { Exit::CannotRun }
}

/// How the program ends: an error is printed, once.
pub fn conclude(result: anyhow::Result<Exit>) -> ExitCode {
    let exit = result.unwrap_or_else(|error| {
        report(&error);
        exit_of(&error)
    });
    exit.into()
}

/// Prints an error once: what failed, then the chain of causes, each on a line of its own, then what to do about it.
fn report(error: &anyhow::Error) {
    print::message(format!("error: {}", indent(&error.to_string())));
    for cause in error.chain().skip(1) {
        print::message(format!("  caused by: {}", indent(&cause.to_string())));
    }
    if let Some(next) = advice::next(error) {
        print::message(format!("next: {}", indent(next)));
    }
}

fn indent(text: &str) -> String {
    text.trim_end().replace('\n', "\n  ")
}
