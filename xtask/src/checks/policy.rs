//! The policy for dependencies in `deny.toml`, with cargo-deny: licences, sources and banned crates always,
//! advisories where their database can be fetched.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::{Outcome, output_of};
use crate::tools::crates::CARGO_DENY;
use crate::workspace::Workspace;

/// Checks licences, sources and banned crates; skipped where cargo-deny is not there.
pub fn check(workspace: &Workspace) -> Result<Outcome> {
    let Some(program) = CARGO_DENY.find(workspace) else { return Ok(lacking()) };
    deny(&program, &workspace.root, &workspace.root.join("deny.toml"))?;
    Ok(Outcome::Passed("licences, sources and crates are those deny.toml allows".to_owned()))
}

/// Checks advisories; skipped where cargo-deny is not there or the database can't be had.
pub fn advisories(workspace: &Workspace) -> Result<Outcome> {
    let Some(program) = CARGO_DENY.find(workspace) else { return Ok(lacking()) };
    let root = &workspace.root;
    if let Err(error) = output_of(cargo_deny(&program, root).args(["fetch", "db"])) {
        let said = error.to_string();
        let why = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
        return Ok(Outcome::Skipped(format!("no database of advisories: {}", why.trim())));
    }
    output_of(cargo_deny(&program, root).args(["check", "--disable-fetch", "advisories"]))
        .context("there is an advisory about a dependency")?;
    Ok(Outcome::Passed("no advisory is about a dependency, but for those deny.toml names".to_owned()))
}

fn lacking() -> Outcome {
    Outcome::Skipped(
        "there is no cargo-deny; `cargo xtask test --setup` builds it, `nix develop` brings it".to_owned(),
    )
}

fn deny(program: &Path, root: &Path, policy: &Path) -> Result<()> {
    let mut deny = cargo_deny(program, root);
    deny.args(["--offline", "--config"]).arg(policy).args(["check", "bans", "licenses", "sources"]);
    output_of(&mut deny).context("a dependency breaks deny.toml")?;
    Ok(())
}

fn cargo_deny(program: &Path, root: &Path) -> Command {
    let mut deny = Command::new(program);
    deny.current_dir(root).args(["--workspace", "--locked", "--color", "never"]);
    deny
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn every_part_of_the_policy_can_fail() {
        let workspace = Workspace::discover().unwrap();
        let Some(program) = CARGO_DENY.find(&workspace) else {
            eprintln!("skipped: there is no cargo-deny");
            return;
        };
        let root = &workspace.root;
        let good = fs::read_to_string(root.join("deny.toml")).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let policy = folder.path().join("deny.toml");
        for (right, wrong, named) in [
            ("  \"ISC\",\n", "", "error[rejected]"),
            ("exceptions = [", "unused = [", "unused"),
            ("crate = \"openssl-sys\"", "crate = \"axum\"", "error[banned]"),
            ("[sources]\n", "[sources]\nallow-registry = []\n", "error[source-not-allowed]"),
        ] {
            assert!(good.contains(right), "{right} is not in deny.toml");
            fs::write(&policy, good.replacen(right, wrong, 1)).unwrap();
            let said = format!("{:#}", deny(&program, root, &policy).expect_err(wrong));
            assert!(said.contains(named), "{wrong:?} is not named in:\n{said}");
        }
    }
}
