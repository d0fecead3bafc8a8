//! After the lab nothing of it is left on the machine.

use anyhow::{Result, ensure};

use crate::checks::Outcome;
use crate::cluster;
use crate::progress::Progress;
use crate::setup::Environment;
use crate::workspace::{CLUSTER, Workspace};

/// Removes the cluster that the tests kept, and looks for what should have gone with it: containers, volumes,
/// the network, mounts, processes, the kubeconfig.
pub(super) async fn check(
    workspace: &Workspace,
    environment: &Environment,
    progress: &Progress,
) -> Result<Outcome> {
    let kind = environment.kind()?;
    cluster::down(workspace, progress).await?;
    let engine = |args: &[&str]| kind.engine.command().args(args);
    let ours = format!("label=io.x-k8s.kind.cluster={CLUSTER}");
    let containers = engine(&["ps", "--all", "--quiet", "--filter", &ours])
        .read()
        .await?;
    ensure!(containers.trim().is_empty(), "containers are left: {containers}");
    let volumes = engine(&["volume", "ls", "--quiet", "--filter", "dangling=true"])
        .read()
        .await?;
    ensure!(volumes.trim().is_empty(), "volumes are left: {volumes}");
    let networks = engine(&["network", "ls", "--format", "{{.Name}}"]).read().await?;
    ensure!(
        !networks.lines().any(|name| name == "kind"),
        "the network `kind` is left"
    );
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    ensure!(!mounts.contains(CLUSTER), "mounts are left:\n{mounts}");
    ensure!(
        !workspace.kubeconfig().exists(),
        "{} is left",
        workspace.kubeconfig().display()
    );
    Ok(Outcome::Passed(
        "no container, volume, network, mount or kubeconfig".to_owned(),
    ))
}
