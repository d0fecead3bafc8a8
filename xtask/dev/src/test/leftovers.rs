//! After the lab nothing of it is left on the machine.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};

use crate::checks::Outcome;
use machine::container::Engine;
use machine::progress::Progress;
use machine::workspace::Workspace;
use setup::Environment;

/// What may not have grown when the lab is gone: everybody's volumes and networks, told apart by name.
#[derive(Debug)]
pub(super) struct Before {
    volumes: BTreeSet<String>,
    networks: BTreeSet<String>,
}

/// Looks at what is there before the lab runs.
pub(super) async fn before(environment: &Environment) -> Result<Before> {
    let engine = &environment.kind()?.engine;
    engine.prepare()?;
    Ok(Before { volumes: names(engine, "volume").await?, networks: names(engine, "network").await? })
}

/// Removes the cluster that the tests kept, and looks for what should have gone with it: containers, volumes,
/// networks, mounts, the kubeconfig.
pub(super) async fn check(
    workspace: &Workspace,
    environment: &Environment,
    before: &Before,
    progress: &Progress,
) -> Result<Outcome> {
    engine::down(workspace, progress).await?;
    let engine = &environment.kind()?.engine;
    let cluster = &engine.cluster;
    let ours = format!("label=io.x-k8s.kind.cluster={cluster}");
    let containers = engine.command().args(["ps", "--all", "--quiet", "--filter", &ours]).read().await?;
    ensure!(containers.trim().is_empty(), "containers are left: {containers}");
    let after = Before { volumes: names(engine, "volume").await?, networks: names(engine, "network").await? };
    let grown = |before: &BTreeSet<String>, after: &BTreeSet<String>| {
        after.difference(before).cloned().collect::<Vec<_>>().join(", ")
    };
    let volumes = grown(&before.volumes, &after.volumes);
    ensure!(volumes.is_empty(), "volumes are left: {volumes}");
    let networks = grown(&before.networks, &after.networks);
    ensure!(
        networks.is_empty() && !after.networks.contains(cluster),
        "networks are left: {networks} or {cluster}"
    );
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    ensure!(!mounts.contains(cluster.as_str()), "mounts are left:\n{mounts}");
    ensure!(!workspace.kubeconfig().exists(), "{} is left", workspace.kubeconfig().display());
    Ok(Outcome::Passed("no container, volume, network, mount or kubeconfig".to_owned()))
}

async fn names(engine: &Engine, of: &str) -> Result<BTreeSet<String>> {
    let list = engine.command().args([of, "ls", "--format", "{{.Name}}"]).read().await?;
    Ok(list.lines().map(str::to_owned).collect())
}
