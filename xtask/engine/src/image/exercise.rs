//! Starts the image in a container engine and types, as `kubectl exec` would, what the lab types into its pods.

use anyhow::{Context, Result, ensure};

use super::contract::USER;
use super::{Image, NAME};
use machine::container::Engine;

/// What is typed, and the exit status it ends with. A tool that is missing or may not run ends with 125 or more.
///
/// A program is named, not a line for a shell: busybox's shell would run its own tools, whatever is on `PATH`.
const TYPED: [(&[&str], i32); 11] = [
    (&["cat", "/etc/passwd"], 0),
    (&["touch", "/data/written"], 0),
    (&["touch", "/tmp/unready"], 0),
    // The rights of the files speak here: the root folder is not mounted read-only.
    (&["touch", "/written"], 1),
    (&["touch", "/bin/written"], 1),
    (&["touch", "/etc/written"], 1),
    // The first process is the user's own.
    (&["kill", "-0", "1"], 0),
    // Nobody answers without a network: it says so itself.
    (&["nslookup", "localhost", "127.0.0.1"], 1),
    (&["sh", "-c", "grep -q '^CapEff:[[:space:]]*0*$' /proc/self/status"], 0),
    (&["sh", "-c", "exit 3"], 3),
    // The counter is there and runs: it refuses what it is told to listen on.
    (&["env", "LISTEN=nowhere", "/bin/counter"], 2),
];

/// Loads the archive, types into a container without network or capabilities, and removes both. An image that the
/// engine had under this name before has it again after.
///
/// # Errors
/// The image does not start, or something that was typed ends otherwise than it should.
pub async fn exercise(engine: &Engine, image: &Image) -> Result<usize> {
    let before = engine.image_id(NAME).await;
    engine.command().args(["load", "--quiet", "--input"]).arg(&image.archive).read().await?;
    let loaded = engine.image_id(NAME).await.with_context(|| format!("the engine does not know {NAME}"))?;
    let typed = in_container(engine, &loaded).await;
    let back = match before {
        Some(before) if before == loaded => Ok(String::new()),
        Some(before) => {
            engine.command().args(["tag", &before, NAME]).read().await?;
            engine.command().args(["image", "rm", &loaded]).read().await
        }
        None => engine.command().args(["image", "rm", NAME]).read().await,
    };
    typed?;
    back?;
    Ok(TYPED.len())
}

async fn in_container(engine: &Engine, image: &str) -> Result<()> {
    let started = engine
        .command()
        // It goes with its volume, also when nobody is left to remove it.
        .args(["run", "--rm", "--detach", "--stop-timeout", "0", "--network", "none", "--cap-drop", "all"])
        .args(["--security-opt", "no-new-privileges", "--entrypoint", "sleep", image, "300"]);
    let container = started.read().await.context("the image does not start")?;
    let container = container.trim();
    let typed = type_into(engine, container).await;
    engine.command().args(["rm", "--force", "--volumes", container]).read().await?;
    typed
}

async fn type_into(engine: &Engine, container: &str) -> Result<()> {
    let typed = |words: &[&str]| engine.command().args(["exec", container]).args(words);
    let user = typed(&["sh", "-c", "echo $(id -u):$(id -g)"]).read().await?;
    ensure!(user.trim() == USER, "the image runs as {}, expected {USER}", user.trim());
    for (words, expected) in TYPED {
        let output = typed(words).output().await?;
        ensure!(
            output.status == expected,
            "in the image, `{}` ended with {}, expected {expected}: {}",
            words.join(" "),
            output.status,
            output.stderr.trim()
        );
    }
    Ok(())
}
