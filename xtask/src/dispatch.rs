//! Hands a command to the program that does it, built first: whoever only asks the doctor waits for none of them. What a
//! command is to install is installed meanwhile.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

use cli::{ClusterArg, RunArgs, Subcommands};
use machine::command::{Command, CommandFailed};
use machine::lock::Lock;
use machine::progress::{Progress, Task};
use machine::workspace::Workspace;
use setup::Need;

/// A cargo that takes longer has something to compile.
const NOTHING_TO_COMPILE: Duration = Duration::from_secs(3);
/// The whole program on a slow machine.
const BUILD_DEADLINE: Duration = Duration::from_secs(3600);

/// A program behind the front, by its package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    /// Runs labs.
    Engine,
    /// Runs what developers need.
    Dev,
}

/// What a command was told to install first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Installation {
    /// What a run will use; `None` for checks that use no cluster.
    need: Option<Need>,
    /// A node image that the cluster fetches by itself.
    node_image: Option<String>,
    /// What the checks need besides.
    checks: bool,
    /// Whether it is one of the runs that would meet in one cluster.
    alone: bool,
}

impl Installation {
    /// What this command was told to; `None`: nothing.
    pub(crate) fn of(command: &Subcommands) -> Option<Self> {
        match command {
            Subcommands::Lab(args) if !args.list && !args.dry_run => Self::of_run(&args.run),
            Subcommands::Grade(args) => Self::of_run(&args.run),
            Subcommands::Test(args) if args.setup => Some(Self {
                need: (!args.no_cluster).then_some(Need::OwnCluster),
                node_image: None,
                checks: args.control.is_empty(),
                alone: false,
            }),
            _ => None,
        }
    }

    fn of_run(args: &RunArgs) -> Option<Self> {
        let need = if args.cluster == ClusterArg::Kind { Need::OwnCluster } else { Need::Tools };
        let node_image = args.node_image.clone();
        // What can't be run is the program's to tell, and nothing is installed for it.
        (args.setup && args.sound().is_ok()).then_some(Self {
            need: Some(need),
            node_image,
            checks: false,
            alone: true,
        })
    }

    async fn run(&self, workspace: &Workspace, progress: &Progress) -> Result<()> {
        let _alone = self.alone.then(|| Lock::of_run(workspace)).transpose()?;
        let checks = async {
            if self.checks {
                setup::ensure_checks(workspace, progress).await;
            }
            Ok(())
        };
        let tools = async {
            match self.need {
                Some(need) => {
                    let node_image = self.node_image.as_deref();
                    setup::ensure(workspace, progress, need, node_image, true).await.map(drop)
                }
                None => Ok(()),
            }
        };
        tokio::try_join!(checks, tools).map(drop)
    }
}

impl Program {
    fn package(self) -> &'static str {
        match self {
            Self::Engine => "engine",
            Self::Dev => "dev",
        }
    }

    /// What cargo is told. What it prints for people goes to stderr; on stdout it tells what it made.
    fn build(self) -> [&'static str; 5] {
        ["build", "--locked", "--package", self.package(), "--message-format=json-render-diagnostics"]
    }

    /// Builds it; cargo says what it compiles, and nothing when all is there.
    ///
    /// # Errors
    /// It does not compile.
    pub(crate) fn built(self, workspace: &Workspace) -> Result<PathBuf> {
        let mut build = std::process::Command::new(cargo());
        build.current_dir(&workspace.root).args(self.build()).stderr(Stdio::inherit());
        let output = build.output().context("cannot run cargo")?;
        if !output.status.success() {
            bail!("the {} of the lab does not compile", self.package());
        }
        self.made(String::from_utf8_lossy(&output.stdout).lines())
    }

    /// Builds it, and while it compiles installs what was asked for. Nothing to compile: the program installs it.
    ///
    /// # Errors
    /// It does not compile, or something can't be installed: whichever is first ends the other.
    pub(crate) async fn built_beside(
        self,
        workspace: &Workspace,
        installation: &Installation,
    ) -> Result<PathBuf> {
        let progress = Progress::new();
        let task = progress.start(format!("compile the {}", self.package()));
        let mut build = std::pin::pin!(self.compiled(workspace, &progress, task));
        if let Ok(built) = tokio::time::timeout(NOTHING_TO_COMPILE, &mut build).await {
            return built;
        }
        let (program, ()) = tokio::try_join!(build, installation.run(workspace, &progress))?;
        Ok(program)
    }

    async fn compiled(self, workspace: &Workspace, progress: &Progress, task: Task) -> Result<PathBuf> {
        let log = workspace.logs().join(format!("build-{}.log", self.package()));
        let (mut told, mut said) = (vec![], String::new());
        let on_line = |line: &str| {
            if line.starts_with('{') {
                told.push(line.to_owned());
            } else {
                task.note(line.trim());
                said += &format!("{line}\n");
            }
        };
        let build = Command::new(cargo()).args(self.build()).dir(&workspace.root).deadline(BUILD_DEADLINE);
        if let Err(error) = build.logged(&log, on_line).await {
            task.fail("");
            if error.is::<CommandFailed>() {
                progress.say(said.trim_end());
                bail!("the {} of the lab does not compile", self.package());
            }
            return Err(error);
        }
        task.done("");
        self.made(told.iter().map(String::as_str))
    }

    fn made<'a>(self, told: impl Iterator<Item = &'a str>) -> Result<PathBuf> {
        executable(told, self.package())
            .ok_or_else(|| anyhow!("cargo does not say where it put the {}", self.package()))
    }
}

fn cargo() -> PathBuf {
    std::env::var_os("CARGO").map_or_else(|| "cargo".into(), PathBuf::from)
}

/// Becomes a program, with the arguments of this one; returns only when that fails.
///
/// # Errors
/// It can't be started.
pub(crate) fn become_it(program: &std::path::Path) -> Result<std::convert::Infallible> {
    let error = std::process::Command::new(program).args(std::env::args_os().skip(1)).exec();
    Err(error).with_context(|| format!("cannot run {}", program.display()))
}

/// <https://doc.rust-lang.org/cargo/reference/external-tools.html#artifact-messages>
fn executable<'a>(mut messages: impl Iterator<Item = &'a str>, package: &str) -> Option<PathBuf> {
    messages.find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let ours = message["reason"] == "compiler-artifact" && message["target"]["name"] == package;
        message["executable"].as_str().filter(|_| ours).map(PathBuf::from)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[test]
    fn the_program_is_found_among_what_cargo_says() {
        let said = "{\"reason\":\"compiler-artifact\",\"target\":{\"name\":\"engine\"},\"executable\":null}\n\
                    {\"reason\":\"compiler-artifact\",\"target\":{\"name\":\"engine\"},\"executable\":\"/t/engine\"}\n";
        assert_eq!(executable(said.lines(), "engine"), Some(PathBuf::from("/t/engine")));
        assert_eq!(executable(said.lines(), "dev"), None);
    }

    #[test]
    fn only_what_was_told_to_install_does_so_while_its_program_compiles() {
        let installs = |line: &str| {
            let words = ["xtask"].into_iter().chain(line.split(' '));
            Installation::of(&cli::Cli::parse_from(words).command)
        };
        for line in [
            "lab",
            "lab --setup --list",
            "lab --setup --dry-run",
            "lab --setup --cluster context:a --image a.tar",
            "grade a",
            "test",
            "docs --check",
            "cluster up",
        ] {
            assert_eq!(installs(line), None, "{line}");
        }
        let need = |line: &str| installs(line).unwrap().need;
        assert_eq!(need("lab --setup"), Some(Need::OwnCluster));
        assert_eq!(need("grade --setup --cluster context:a b"), Some(Need::Tools));
        assert_eq!(need("test --setup"), Some(Need::OwnCluster));
        assert_eq!(need("test --setup --no-cluster"), None);
        let node = installs("lab --setup --node-image kindest/node:v1.36.0").unwrap().node_image;
        assert_eq!(node.as_deref(), Some("kindest/node:v1.36.0"));
    }
}
