//! Hands a command to the program that does it, built first: whoever only asks the doctor waits for none of them.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail};

use machine::workspace::Workspace;

/// A program behind the front, by its package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    /// Runs labs.
    Engine,
    /// Runs what developers need.
    Dev,
}

impl Program {
    fn package(self) -> &'static str {
        match self {
            Self::Engine => "engine",
            Self::Dev => "dev",
        }
    }

    /// Builds it and becomes it, with the arguments of this program; returns only when that fails.
    ///
    /// # Errors
    /// It does not compile, or can't be started.
    pub(crate) fn become_it(self, workspace: &Workspace) -> Result<std::convert::Infallible> {
        let program = self.build(workspace)?;
        let error = Command::new(&program).args(std::env::args_os().skip(1)).exec();
        Err(error).with_context(|| format!("cannot run {}", program.display()))
    }

    /// Cargo says what it compiles, and nothing when all is there.
    fn build(self, workspace: &Workspace) -> Result<PathBuf> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        build.current_dir(&workspace.root).args(["build", "--locked", "--package", self.package()]);
        // What it prints for people goes to stderr; on stdout it tells what it made.
        build.arg("--message-format=json-render-diagnostics").stderr(std::process::Stdio::inherit());
        let output = build.output().context("cannot run cargo")?;
        if !output.status.success() {
            bail!("the {} of the lab does not compile", self.package());
        }
        executable(&String::from_utf8_lossy(&output.stdout), self.package())
            .ok_or_else(|| anyhow!("cargo does not say where it put the {}", self.package()))
    }
}

/// <https://doc.rust-lang.org/cargo/reference/external-tools.html#artifact-messages>
fn executable(messages: &str, package: &str) -> Option<PathBuf> {
    messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok()).find_map(
        |message| {
            let ours = message["reason"] == "compiler-artifact" && message["target"]["name"] == package;
            message["executable"].as_str().filter(|_| ours).map(PathBuf::from)
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_found_among_what_cargo_says() {
        let said = "{\"reason\":\"compiler-artifact\",\"target\":{\"name\":\"engine\"},\"executable\":null}\n\
                    {\"reason\":\"compiler-artifact\",\"target\":{\"name\":\"engine\"},\"executable\":\"/t/engine\"}\n";
        assert_eq!(executable(said, "engine"), Some(PathBuf::from("/t/engine")));
        assert_eq!(executable(said, "dev"), None);
    }
}
