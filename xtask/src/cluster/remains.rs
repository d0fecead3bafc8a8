//! What a cluster of ours is to the engine: containers, volumes, a network. Found and removed by the names
//! and labels kind gives them, so that a run that was killed anywhere leaves nothing the next can't remove.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::cluster::engine::{Engine, EngineKind};
use crate::workspace::CLUSTER;

/// The label that kind gives the containers of a cluster.
const CLUSTER_LABEL: &str = "io.x-k8s.kind.cluster";

/// The name of the node, which is also that of its container and the label of its volume.
pub fn node() -> String {
    format!("{CLUSTER}-control-plane")
}

/// The containers of our cluster, running or not.
///
/// # Errors
/// The engine does not answer.
pub async fn containers(engine: &Engine) -> Result<Vec<String>> {
    list(
        engine,
        &["ps", "--all", "--format", "{{.Names}}"],
        &format!("{CLUSTER_LABEL}={CLUSTER}"),
    )
    .await
}

/// Removes it all, and the kubeconfig. True when there was something.
///
/// # Errors
/// The engine does not let go of something; the error shows the command.
pub async fn remove(engine: &Engine, kubeconfig: &Path) -> Result<bool> {
    let containers = containers(engine).await?;
    if !containers.is_empty() {
        let mut rm = engine.command().args(["rm", "--force", "--volumes"]);
        if engine.kind == EngineKind::Podman {
            // Nothing in the node is worth the ten seconds it is given to end; docker gives it none.
            rm = rm.args(["--time", "0"]);
        }
        rm.args(&containers).read().await?;
    }
    // With podman, kind makes the node's volume itself before the container.
    let volumes = list(engine, &["volume", "ls", "--format", "{{.Name}}"], &node()).await?;
    if !volumes.is_empty() {
        engine
            .command()
            .args(["volume", "rm", "--force"])
            .args(&volumes)
            .read()
            .await?;
    }
    let network = engine
        .command()
        .args(["network", "inspect", CLUSTER])
        .output()
        .await?
        .status
        == 0;
    if network {
        engine.command().args(["network", "rm", CLUSTER]).read().await?;
    }
    match std::fs::remove_file(kubeconfig) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot remove {}", kubeconfig.display()));
        }
        _ => {}
    }
    Ok(network || !containers.is_empty() || !volumes.is_empty())
}

/// Names of the engine's objects that have a label.
async fn list(engine: &Engine, args: &[&str], label: &str) -> Result<Vec<String>> {
    let listed = engine
        .command()
        .args(args)
        .arg(format!("--filter=label={label}"))
        .deadline(Duration::from_secs(30))
        .read()
        .await?;
    Ok(listed.split_whitespace().map(str::to_owned).collect())
}
