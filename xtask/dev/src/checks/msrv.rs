//! The oldest Rust that the workspace promises to build with, against what its dependencies ask for. That our own
//! code keeps the promise is clippy's to say: its lint `incompatible_msrv` reads the same promise.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use cargo_metadata::{Metadata, MetadataCommand};
use semver::Version;
use xshell::{Shell, cmd};

use super::Outcome;
use machine::tools::host_of;

/// Checks every dependency of the work tree at `root` that is compiled on this machine: the crates of others need not
/// have been fetched.
pub(crate) fn check(root: &Path) -> Result<Outcome> {
    let shell = Shell::new()?;
    let rustc = cmd!(shell, "rustc -vV").quiet().read()?;
    let metadata = MetadataCommand::new()
        .manifest_path(root.join("Cargo.toml"))
        .other_options(["--locked", "--filter-platform", host_of(&rustc)?].map(str::to_owned))
        .exec()
        .context("cargo does not tell what the workspace depends on")?;
    let promised = promised(&metadata)?;
    let crates = metadata.packages.iter();
    let asked = crates.map(|it| (format!("{} {}", it.name, it.version), it.rust_version.as_ref()));
    let faults = faults(asked, &promised);
    ensure!(faults.is_empty(), "Cargo.toml promises Rust {promised}:\n  {}", faults.join("\n  "));
    Ok(Outcome::Passed(format!(
        "none of {} crates asks for more than Rust {promised}",
        metadata.packages.len()
    )))
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

fn faults<'a>(
    crates: impl Iterator<Item = (String, Option<&'a Version>)>,
    promised: &Version,
) -> Vec<String> {
    let newer = crates.filter_map(|(name, asked)| Some((name, asked.filter(|asked| *asked > promised)?)));
    newer.map(|(name, asked)| format!("{name} asks for Rust {asked}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dependency_that_asks_for_a_newer_rust_is_named() {
        let (promised, newer) = (Version::new(1, 88, 0), Version::new(1, 89, 0));
        let crates = [("new 5.0.0", Some(&newer)), ("same 1.0.0", Some(&promised)), ("silent 2.0.0", None)];
        let faults = faults(crates.map(|(name, asked)| (name.to_owned(), asked)).into_iter(), &promised);
        assert_eq!(faults, ["new 5.0.0 asks for Rust 1.89.0"]);
    }
}
