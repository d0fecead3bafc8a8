//! The oldest Rust that the workspace promises to build with, against what its dependencies ask for. That our own
//! code keeps the promise is clippy's to say: its lint `incompatible_msrv` reads the same promise.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use cargo_metadata::{Metadata, MetadataCommand};
use semver::Version;

use super::{Outcome, output_of};
use machine::tools::host_of;

/// Checks every dependency of the work tree at `root`.
pub(crate) fn check(root: &Path) -> Result<Outcome> {
    let metadata = metadata(root)?;
    let promised = promised(&metadata)?;
    let faults = faults(&metadata, &promised);
    ensure!(faults.is_empty(), "Cargo.toml promises Rust {promised}:\n  {}", faults.join("\n  "));
    Ok(Outcome::Passed(format!(
        "none of {} crates asks for more than Rust {promised}",
        metadata.packages.len()
    )))
}

/// What is compiled on this machine: the crates of others need not have been fetched.
fn metadata(root: &Path) -> Result<Metadata> {
    let (rustc, _) = output_of(Command::new("rustc").arg("-vV"))?;
    MetadataCommand::new()
        .manifest_path(root.join("Cargo.toml"))
        .other_options(["--locked", "--filter-platform", host_of(&rustc)?].map(str::to_owned))
        .exec()
        .context("cargo does not tell what the workspace depends on")
}

/// What the members say, and all say alike.
fn promised(metadata: &Metadata) -> Result<Version> {
    let mut said: Vec<_> =
        metadata.workspace_packages().into_iter().map(|member| member.rust_version.clone()).collect();
    said.dedup();
    match said.as_slice() {
        [Some(version)] => Ok(version.clone()),
        _ => anyhow::bail!("the members promise {said:?} instead of one Rust"),
    }
}

fn faults(metadata: &Metadata, promised: &Version) -> Vec<String> {
    let asks = metadata.packages.iter().filter_map(|package| {
        let version = package.rust_version.as_ref().filter(|version| *version > promised)?;
        Some(format!("{} {} asks for Rust {version}", package.name, package.version))
    });
    asks.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dependency_that_asks_for_a_newer_rust_is_named() {
        let root =
            Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("it lies in the workspace");
        let metadata = metadata(root).unwrap();
        assert_eq!(faults(&metadata, &promised(&metadata).unwrap()), [""; 0]);
        let kube = faults(&metadata, &Version::new(1, 80, 0)).join("\n");
        assert!(kube.contains("kube 5.") && kube.contains("asks for Rust 1."), "{kube}");
    }
}
