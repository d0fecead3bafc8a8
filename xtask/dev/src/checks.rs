//! Checks of what stands around the code: the flake, the workflows, the pins, the policy for dependencies and the oldest
//! Rust; and of the code itself what no compiler keeps: dependencies that are used, rooms that stand on each other.

pub(crate) mod cargo_home;
pub(crate) mod chart;
pub(crate) mod dependencies;
pub(crate) mod flake;
pub(crate) mod layers;
pub(crate) mod msrv;
pub(crate) mod policy;
pub(crate) mod sources;
pub(crate) mod versions;
pub(crate) mod workflows;

use std::path::Path;

use anyhow::{Context, Result, bail};
use xshell::Cmd;

/// How a check ended that found no fault. A fault is an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// What was found to hold.
    Passed(String),
    /// What is missing on this machine, and what provides it.
    Skipped(String),
}

/// What `command` says on standard output and error; a failure shows the command line with both.
fn output_of(command: Cmd<'_>) -> Result<(String, String)> {
    let line = command.to_string();
    let output = command.quiet().ignore_status().output()?;
    let [stdout, stderr] =
        [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned());
    if !output.status.success() {
        bail!("{line} ended with {}\n{}{}", output.status, stdout, stderr.trim_end());
    }
    Ok((stdout, stderr))
}

/// The Rust below `folder`, comments aside.
fn rust_below(folder: &Path) -> Result<String> {
    let files = machine::files::files_below(folder)?;
    let rust = files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "rs"));
    let texts = rust.map(|file| {
        std::fs::read_to_string(file).with_context(|| format!("could not read {}", file.display()))
    });
    let texts = texts.collect::<Result<Vec<_>>>()?.concat();
    Ok(texts
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| [line, "\n"])
        .collect())
}
