//! Starts the image in a container engine and types, as `kubectl exec` would, what the lab types into its pods.

use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};

use super::contract::USER;

/// What is typed, and the exit status it ends with. A tool that is missing or may not run ends with 125 or more.
///
/// A program is named, not a line for a shell: busybox's shell would run its own tools, whatever is on `PATH`.
const TYPED: [(&[&str], i32); 10] = [
    (&["cat", "/etc/passwd"], 0),
    (&["touch", "/data/written"], 0),
    (&["touch", "/tmp/unready"], 0),
    // The rights of the files speak here: the root folder is not mounted read-only.
    (&["touch", "/written"], 1),
    (&["touch", "/bin/written"], 1),
    (&["touch", "/etc/written"], 1),
    // The first process is root's business or ours; that it is there can be asked by its user.
    (&["kill", "-0", "1"], 0),
    // Nobody answers without a network: it says so itself.
    (&["nslookup", "localhost", "127.0.0.1"], 1),
    (
        &["sh", "-c", "grep -q '^CapEff:[[:space:]]*0*$' /proc/self/status"],
        0,
    ),
    (&["sh", "-c", "exit 3"], 3),
];

/// Loads the archive, types into a container without network or capabilities, and removes both.
///
/// `engine` gives `docker` or `podman`, each time a new command with the environment it needs.
pub fn check(engine: &dyn Fn() -> Command, archive: &Path) -> Result<()> {
    let loaded = succeed(engine().args(["load", "--input"]).arg(archive))?;
    // `Loaded image: counter:0.1.0`, in podman's older versions with `(s)`.
    let name = loaded
        .lines()
        .rev()
        .find_map(|line| line.strip_prefix("Loaded image")?.split_once(": "));
    let (_, image) = name.with_context(|| format!("the engine does not say what it loaded: {loaded:?}"))?;
    let image = image.trim();
    let started = succeed(
        engine()
            .args([
                "run",
                "--detach",
                "--stop-timeout",
                "0",
                "--network",
                "none",
                "--cap-drop",
                "all",
            ])
            .args([
                "--security-opt",
                "no-new-privileges",
                "--entrypoint",
                "sleep",
                image,
                "300",
            ]),
    );
    let typed = started.context("the image does not start").and_then(|container| {
        let container = container.trim();
        let typed = type_into(engine, container);
        succeed(engine().args(["rm", "--force", container]))?;
        typed
    });
    let removed = succeed(engine().args(["image", "rm", image]));
    typed?;
    removed.map(drop)
}

fn type_into(engine: &dyn Fn() -> Command, container: &str) -> Result<()> {
    let user = succeed(engine().args(["exec", container, "sh", "-c", "echo $(id -u):$(id -g)"]))?;
    ensure!(
        user.trim() == USER,
        "the image runs as {}, expected {USER}",
        user.trim()
    );
    for (words, expected) in TYPED {
        let output = run(engine().args(["exec", container]).args(words))?;
        ensure!(
            output.status.code() == Some(expected),
            "in the image, `{}` ended with {}, expected {expected}: {}",
            words.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}

fn succeed(command: &mut Command) -> Result<String> {
    let output = run(command)?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{command:?} ended with {}: {}",
        output.status,
        said.trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn run(command: &mut Command) -> Result<Output> {
    command
        .output()
        .with_context(|| format!("could not run {command:?}"))
}
