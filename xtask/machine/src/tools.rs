//! kind, kubectl and helm: found on `PATH` when the version fits, else built from pinned Go modules.

pub mod gomod;
pub mod crates;
pub mod elf;
pub mod nix;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use semver::Version;

use crate::advice::advised;
use crate::command::Command;
use crate::pins::{Accepts, HELM_ACCEPTS, KIND_ACCEPTS, KUBECTL_ACCEPTS};
use crate::tools::gomod::{Go, HELM, KIND, KUBECTL, Module};
use crate::workspace::Workspace;

/// A program on `PATH` may be a wrapper that asks a network or a person: it gets this long to answer.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);

/// A tool the lab calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Makes the cluster.
    Kind,
    /// Talks to it.
    Kubectl,
    /// Installs the chart.
    Helm,
}

/// A tool that is there and fits.
#[derive(Debug, Clone)]
pub struct Tool {
    /// Where it is.
    pub path: PathBuf,
    /// What it says it is.
    pub version: Version,
}

/// What was found of a tool, before anything is built.
#[derive(Debug, Clone)]
pub struct Found {
    /// The tool, when it is there and fits.
    pub tool: Option<Tool>,
    /// Why what is on `PATH` won't do; `None` when there is nothing.
    pub unfit: Option<(PathBuf, String)>,
}

impl Wanted {
    /// Its name, as it is typed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kind => "kind",
            Self::Kubectl => "kubectl",
            Self::Helm => "helm",
        }
    }

    /// The versions that will do.
    pub fn accepts(self) -> Accepts {
        match self {
            Self::Kind => KIND_ACCEPTS,
            Self::Kubectl => KUBECTL_ACCEPTS,
            Self::Helm => HELM_ACCEPTS,
        }
    }

    /// The module that holds it.
    pub fn module(self) -> &'static Module {
        match self {
            Self::Kind => &KIND,
            Self::Kubectl => &KUBECTL,
            Self::Helm => &HELM,
        }
    }

    fn version_args(self) -> &'static [&'static str] {
        match self {
            Self::Kind => &["version", "--quiet"],
            Self::Kubectl => &["version", "--client", "--output=json"],
            Self::Helm => &["version", "--short"],
        }
    }
}

/// Looks for a tool on `PATH`, then in the cache. `go` is needed to know which of the cache is current.
pub async fn find(workspace: &Workspace, go: Option<&Go>, wanted: Wanted) -> Found {
    let mut unfit = None;
    for path in on_path(wanted.name()) {
        match ask_version(wanted, &path).await {
            Ok(version) if wanted.accepts().fits(&version) => {
                return Found { tool: Some(Tool { path, version }), unfit: None };
            }
            Ok(version) => unfit = unfit.or(Some((path, version.to_string()))),
            Err(error) => unfit = unfit.or(Some((path, first_line(&error)))),
        }
    }
    let cached = go.and_then(|go| {
        let module = wanted.module();
        let path = module.built(workspace, go)?.join(wanted.name());
        let version = parse_version(module.version)?;
        path.exists().then_some(Tool { path, version })
    });
    Found { tool: cached, unfit }
}

/// Every program of this name on `PATH`, in its order.
pub fn on_path(name: &str) -> Vec<PathBuf> {
    std::env::var_os("PATH").map_or_else(Vec::new, |path| in_folders(name, &path))
}

/// The busybox that goes into images: one that needs no libraries. Debian's two packages of it, one static
/// and one not, have the same path.
///
/// # Errors
/// There is none.
pub fn static_busybox() -> Result<PathBuf> {
    first_static(on_path("busybox")).ok_or_else(|| {
        anyhow!(advised(
            "there is no static busybox on PATH for the images' shell",
            "apt-get install busybox-static (Debian, Ubuntu), or cargo xtask setup"
        ))
    })
}

fn first_static(paths: Vec<PathBuf>) -> Option<PathBuf> {
    paths.into_iter().find(|path| std::fs::read(path).is_ok_and(|binary| elf::is_static(&binary)))
}

fn in_folders(name: &str, path: &OsStr) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = vec![];
    for dir in std::env::split_paths(path) {
        let file = dir.join(name);
        if is_executable(&file) && !found.contains(&file) {
            found.push(file);
        }
    }
    found
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// Asks a program for its version.
///
/// # Errors
/// It does not answer, or with none.
pub async fn ask_version(wanted: Wanted, path: &Path) -> Result<Version> {
    let answer = Command::new(path).args(wanted.version_args()).deadline(ANSWER_DEADLINE).read().await?;
    parse_version(&answer).ok_or_else(|| anyhow!("does not tell its version"))
}

/// The first version in a tool's answer: `v4.3.1+g1234`, `0.33.0`, or kubectl's JSON with its `gitVersion`.
/// Vendors' suffixes after the three numbers are dropped: they are builds of that version, not earlier ones.
pub fn parse_version(answer: &str) -> Option<Version> {
    let from = answer.find("\"gitVersion\"").map_or(answer, |at| &answer[at..]);
    from.split(|c: char| !(c.is_ascii_alphanumeric() || c == '.')).find_map(|word| {
        let mut numbers = word.trim_start_matches(|c: char| c.is_ascii_alphabetic()).splitn(3, '.');
        let mut next = || numbers.next()?.parse::<u64>().ok();
        let (major, minor) = (next()?, next()?);
        let rest = numbers.next().unwrap_or("0");
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let patch = rest[..digits].parse().ok()?;
        Some(Version::new(major, minor, patch))
    })
}

/// The target that rustc compiles for unless told otherwise, out of what `rustc -vV` says.
///
/// # Errors
/// It says none.
pub fn host_of(rustc: &str) -> Result<&str> {
    rustc.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc doesn't say its host")
}

fn first_line(error: &anyhow::Error) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_the_tools_really_print() {
        let table = [
            ("0.33.0\n", "0.33.0"),
            ("v4.3.1\n", "4.3.1"),
            ("v3.15.2+g1a500d5\n", "3.15.2"),
            (
                "{\n  \"clientVersion\": {\n    \"major\": \"1\",\n    \"gitVersion\": \"v1.32.4-dispatcher\",\n",
                "1.32.4",
            ),
            (
                "{\n  \"clientVersion\": {\n    \"gitVersion\": \"v1.37.0\",\n    \"goVersion\": \"go1.26.1\"",
                "1.37.0",
            ),
            ("go version go1.26.1 linux/amd64\n", "1.26.1"),
            ("go version go1.26rc2 linux/amd64\n", ""),
            ("podman version 4.3.1\n", "4.3.1"),
            ("go1.26", "1.26.0"),
            ("command not found", ""),
        ];
        for (answer, version) in table {
            let parsed = parse_version(answer).map_or_else(String::new, |v| v.to_string());
            assert_eq!(parsed, version, "{answer}");
        }
    }

    #[tokio::test]
    async fn a_wrapper_that_hangs_or_lies_is_passed_over() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let wrapper = dir.path().join("kubectl");
        for (script, complaint) in
            [("sleep 60", "did not end within"), ("echo hello", "does not tell its version")]
        {
            std::fs::write(&wrapper, format!("#!/bin/sh\n{script}\n")).unwrap();
            std::fs::set_permissions(&wrapper, std::fs::Permissions::from_mode(0o755)).unwrap();
            let error = ask_version(Wanted::Kubectl, &wrapper).await.unwrap_err();
            assert!(error.to_string().contains(complaint), "{error}");
        }
    }

    #[test]
    fn only_executable_files_count_as_found() {
        use std::os::unix::fs::PermissionsExt;
        let (with, without) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for (dir, mode) in [(&with, 0o755), (&without, 0o644)] {
            let file = dir.path().join("kind");
            std::fs::write(&file, "").unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        let path = std::env::join_paths([without.path(), with.path(), with.path()]).unwrap();
        assert_eq!(in_folders("kind", &path), [with.path().join("kind")]);
    }
    #[test]
    fn the_first_busybox_is_passed_over_when_it_is_dynamic() {
        let dir = tempfile::tempdir().unwrap();
        let mut elf = vec![0; 64];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        let [dynamic, fixed] = ["dynamic", "static"].map(|name| dir.path().join(name));
        std::fs::copy(std::env::current_exe().unwrap(), &dynamic).unwrap();
        std::fs::write(&fixed, elf).unwrap();
        assert_eq!(first_static(vec![dynamic.clone(), fixed.clone()]), Some(fixed));
        assert_eq!(first_static(vec![dynamic]), None);
    }
}
