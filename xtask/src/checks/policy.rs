//! The policy for dependencies in `deny.toml`: licences, sources and banned crates, with cargo-deny.
//!
//! Advisories need a database from the network: CI asks for them, here they are left out.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::{Outcome, answers, output_of};

/// Checks the dependencies of the work tree at `root`; skipped where cargo-deny is not installed.
pub fn check(root: &Path) -> Result<Outcome> {
    if !answers("cargo-deny", &["--version"]) {
        return Ok(Outcome::Skipped("cargo-deny is not on PATH; `nix develop` provides it".to_owned()));
    }
    deny(root, &root.join("deny.toml"))?;
    Ok(Outcome::Passed("licences, sources and crates are those deny.toml allows".to_owned()))
}

fn deny(root: &Path, policy: &Path) -> Result<()> {
    let mut deny = Command::new("cargo-deny");
    deny.current_dir(root).args(["--workspace", "--locked", "--offline", "--color", "never", "--config"]);
    deny.arg(policy).args(["check", "bans", "licenses", "sources"]);
    output_of(&mut deny).context("a dependency breaks deny.toml")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn every_part_of_the_policy_can_fail() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace");
        let Outcome::Passed(_) = check(root).unwrap() else {
            eprintln!("skipped: cargo-deny is not on PATH");
            return;
        };
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
            let said = format!("{:#}", deny(root, &policy).expect_err(wrong));
            assert!(said.contains(named), "{wrong:?} is not named in:\n{said}");
        }
    }
}
