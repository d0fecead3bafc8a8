//! Checks of what stands around the code: the flake, the workflows, the pins, the policy for dependencies and the oldest Rust.

pub(crate) mod cargo_home;
pub(crate) mod chart;
pub(crate) mod flake;
pub(crate) mod msrv;
pub(crate) mod policy;
pub(crate) mod versions;
pub(crate) mod workflows;

use std::process::Command;

use anyhow::{Context, Result, bail};

/// How a check ended that found no fault. A fault is an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// What was found to hold.
    Passed(String),
    /// What is missing on this machine, and what provides it.
    Skipped(String),
}

/// Runs `command` and returns its standard output and error; a failure shows the command line and what it said.
fn output_of(command: &mut Command) -> Result<(String, String)> {
    let line = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>();
    let line = shell_words::join(line);
    let output = command.output().with_context(|| format!("could not run {line}"))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    if !output.status.success() {
        bail!("{line} ended with {}\n{}{}", output.status, stdout, stderr.trim_end());
    }
    Ok((stdout, stderr))
}

/// Whether `program` is on `PATH` and answers `arguments`.
fn answers(program: &str, arguments: &[&str]) -> bool {
    Command::new(program).args(arguments).output().is_ok_and(|output| output.status.success())
}
