//! A cargo home as a new machine has it: with the user's settings, and no crate that nobody fetched on purpose.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::TempDir;
use xshell::{Shell, cmd};

use super::output_of;

/// What says which registry is asked, and who asks.
const SETTINGS: [&str; 4] = ["config.toml", "config", "credentials.toml", "credentials"];

/// A folder that goes when this is dropped.
#[derive(Debug)]
pub(crate) struct CargoHome(TempDir);

impl CargoHome {
    /// Holds the sources of what `root`'s lock file names: all of them, or those that are compiled for `target`.
    ///
    /// # Errors
    /// They can't be fetched.
    pub(crate) fn fetched(root: &Path, target: Option<&str>) -> Result<Self> {
        let home = Self(tempfile::tempdir().context("cannot make a cargo home")?);
        for name in SETTINGS {
            let theirs = users().join(name);
            if theirs.is_file() {
                let place = home.path().join(name);
                std::os::unix::fs::symlink(&theirs, &place)
                    .with_context(|| format!("cannot make {}", place.display()))?;
            }
        }
        let shell = Shell::new()?;
        shell.change_dir(root);
        let target = target.map(|target| format!("--target={target}"));
        let fetch = cmd!(shell, "cargo fetch --locked --quiet {target...}").env("CARGO_HOME", home.path());
        output_of(fetch).context("the sources of the dependencies can't be fetched")?;
        Ok(home)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

/// Cargo's own rule: <https://doc.rust-lang.org/cargo/guide/cargo-home.html>
fn users() -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cargo");
    std::env::var_os("CARGO_HOME").map_or_else(home, PathBuf::from)
}
