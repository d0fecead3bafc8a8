//! The policy for dependencies in `deny.toml`, with cargo-deny: licences, sources and banned crates always,
//! advisories where their database can be fetched.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use xshell::{Shell, cmd};

use model::text::last_line;

use super::cargo_home::CargoHome;
use super::{Outcome, output_of};
use machine::tools::crates::CARGO_DENY;
use machine::workspace::Workspace;

/// What cargo-deny is always told.
const ALWAYS: [&str; 4] = ["--workspace", "--locked", "--color", "never"];

/// Checks licences, sources and banned crates, and that each part of deny.toml can fail; skipped where cargo-deny is
/// not there or the sources can't be had. They are fetched into a home of their own: cargo-deny reads the manifests of
/// all systems' crates, and a home in use holds those that happened to be built there.
pub(crate) fn check(workspace: &Workspace) -> Result<Outcome> {
    let Some(program) = CARGO_DENY.find(workspace) else { return Ok(lacking()) };
    let home = match CargoHome::fetched(&workspace.root, None) {
        Ok(home) => home,
        Err(error) => return Ok(Outcome::Skipped(last_line(&format!("{error:#}")).to_owned())),
    };
    let shell = shell(workspace)?;
    let policy = workspace.root.join("deny.toml");
    let deny = |policy: &Path| {
        let offline = cmd!(shell, "{program}").args(ALWAYS).env("CARGO_HOME", home.path());
        output_of(
            offline
                .args(["--offline", "--config"])
                .arg(policy)
                .args(["check", "bans", "licenses", "sources"]),
        )
        .context("a dependency breaks deny.toml")
    };
    deny(&policy)?;
    every_part_can_fail(&policy, deny)?;
    Ok(Outcome::Passed("licences, sources and crates are those deny.toml allows".to_owned()))
}

/// A policy that allows everything would pass as well: each part of it is broken once, and must be told.
fn every_part_can_fail<T>(policy: &Path, deny: impl Fn(&Path) -> Result<T>) -> Result<()> {
    let good = fs::read_to_string(policy).with_context(|| format!("cannot read {}", policy.display()))?;
    let folder = tempfile::tempdir()?;
    let broken = folder.path().join("deny.toml");
    for (right, wrong, named) in [
        ("  \"ISC\",\n", "", "error[rejected]"),
        ("exceptions = [", "unused = [", "unused"),
        ("crate = \"openssl-sys\"", "crate = \"axum\"", "error[banned]"),
        ("[sources]\n", "[sources]\nallow-registry = []\n", "error[source-not-allowed]"),
    ] {
        ensure!(good.contains(right), "{right:?} is not in {}", policy.display());
        fs::write(&broken, good.replacen(right, wrong, 1))?;
        let said = deny(&broken).err().map_or_else(String::new, |error| format!("{error:#}"));
        ensure!(
            said.contains(named),
            "with {wrong:?} in place of {right:?}, {named} is not told, but: {said}"
        );
    }
    Ok(())
}

/// Checks advisories; skipped where cargo-deny is not there or the database can't be had.
pub(crate) fn advisories(workspace: &Workspace) -> Result<Outcome> {
    let Some(program) = CARGO_DENY.find(workspace) else { return Ok(lacking()) };
    let shell = shell(workspace)?;
    let deny = |args: &[&str]| output_of(cmd!(shell, "{program}").args(ALWAYS).args(args));
    if let Err(error) = deny(&["fetch", "db"]) {
        return Ok(Outcome::Skipped(format!("no database of advisories: {}", last_line(&error.to_string()))));
    }
    deny(&["check", "--disable-fetch", "advisories"]).context("there is an advisory about a dependency")?;
    Ok(Outcome::Passed("no advisory is about a dependency, but for those deny.toml names".to_owned()))
}

fn lacking() -> Outcome {
    Outcome::Skipped(
        "there is no cargo-deny; `cargo xtask test --setup` builds it, `nix develop` brings it".to_owned(),
    )
}

fn shell(workspace: &Workspace) -> Result<Shell> {
    let shell = Shell::new()?;
    shell.change_dir(&workspace.root);
    Ok(shell)
}
