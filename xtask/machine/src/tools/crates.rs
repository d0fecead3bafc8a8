//! Builds a program out of a published crate into the cache, with the lock file it was published with.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::cache;
use crate::command::Command;
use crate::lock::Lock;
use crate::pins;
use crate::progress::Progress;
use crate::tools::on_path;
use crate::workspace::Workspace;

/// A crate with a program of its name.
#[derive(Debug)]
pub struct Crate {
    /// What both are called.
    pub name: &'static str,
    /// The version that is built; another one on `PATH` will do.
    pub version: &'static str,
    /// Minutes it takes on two cores.
    pub cold_min: u64,
}

/// Holds dependencies against deny.toml.
pub const CARGO_DENY: Crate = Crate { name: "cargo-deny", version: pins::CARGO_DENY, cold_min: 3 };

impl Crate {
    fn place(&self, workspace: &Workspace) -> PathBuf {
        workspace.cache.join("tools").join(format!("{}-{}", self.name, self.version))
    }

    /// The program on `PATH`, or the one that was built.
    pub fn find(&self, workspace: &Workspace) -> Option<PathBuf> {
        let built = self.place(workspace).join("bin").join(self.name);
        on_path(self.name).into_iter().next().or_else(|| built.exists().then_some(built))
    }

    /// Builds it unless that has been done.
    ///
    /// # Errors
    /// The registry can't be reached, or the crate does not compile.
    pub async fn build(&self, workspace: &Workspace, progress: &Progress) -> Result<()> {
        let task = progress.start(format!("build {}", self.name));
        let tools = workspace.cache.join("tools");
        let lock = tools.join(format!("{}.lock", self.name));
        let lock =
            Lock::wait(&lock, |holder| task.note(format!("waits for {holder}, which builds it"))).await?;
        if self.find(workspace).is_some() {
            task.done("built by another run");
            return Ok(());
        }
        let unfinished = lock.workplace(&tools, self.name)?;
        let root = unfinished.path().join("root");
        Command::new("cargo")
            .args(["install", "--locked", "--debug", "--no-track", "--version", self.version, "--root"])
            .arg(&root)
            .arg("--target-dir")
            .arg(unfinished.path().join("target"))
            .arg(self.name)
            // Unoptimized: it runs for two seconds, and compiling it better would take minutes.
            .env("CARGO_PROFILE_DEV_DEBUG", "0")
            .deadline(Duration::from_secs(1800))
            .logged(&workspace.logs().join(format!("build-{}.log", self.name)), |line| task.note(line.trim()))
            .await
            .with_context(|| format!("cannot build {}", self.name))?;
        let place = self.place(workspace);
        std::fs::rename(&root, &place).with_context(|| format!("cannot move {}", place.display()))?;
        cache::used(&place, self.name);
        task.done(self.version);
        Ok(())
    }
}
