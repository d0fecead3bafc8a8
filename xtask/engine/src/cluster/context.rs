//! A context of the user's kubeconfig: used as it is, never changed, never deleted.

use anyhow::{Context, Result};

use crate::cluster::kubectl::is_near;
use crate::cluster::{Cluster, KUBERC, ready};
use machine::advice::advised;
use machine::command::Command;
use machine::exit::BadInput;
use machine::files;
use machine::progress::Progress;
use machine::workspace::Workspace;
use setup::Environment;

/// Copies the context alone into a kubeconfig of ours, and sees that its cluster answers.
///
/// # Errors
/// There is no such context, or its cluster does not answer or has no default StorageClass.
pub(crate) async fn context(
    workspace: &Workspace,
    environment: &Environment,
    name: &str,
    progress: &Progress,
) -> Result<Cluster> {
    let task = progress.start("cluster");
    let output = Command::new(&environment.kubectl.path)
        .env(KUBERC, "off")
        .args(["config", "view", "--minify", "--flatten", "--raw", "--context", name])
        .output()
        .await?;
    if output.status != 0 {
        let known = contexts(environment).await;
        return Err(BadInput(format!("these are the contexts there:\n{}", known.unwrap_or_default())))
            .context(advised(
                format!("there is no context `{name}` in the kubeconfig"),
                "kubectl config get-contexts",
            ));
    }
    let mut cluster = Cluster::at(workspace, environment, name, workspace.kubeconfig_of(name));
    files::replace_private(&cluster.kubeconfig, &output.stdout)
        .with_context(|| format!("cannot write {}", cluster.kubeconfig.display()))?;
    let api = ready::client(&cluster.kubeconfig).await?;
    cluster.server_version = ready::server_version(&api)
        .await
        .with_context(|| format!("the cluster of context {name} can't be used"))?;
    ready::check(&api).await?;
    if !is_near(&cluster.kubectl, &cluster.server_version) {
        let (kubectl, server) = (&cluster.kubectl.version, &cluster.server_version);
        progress.say(&format!("  kubectl {kubectl} is more than one minor version from Kubernetes {server}"));
    }
    cluster.reused = true;
    task.done(&format!("Kubernetes {}, context {name}", cluster.server_version));
    Ok(cluster)
}

async fn contexts(environment: &Environment) -> Option<String> {
    let list = Command::new(&environment.kubectl.path)
        .env(KUBERC, "off")
        .args(["config", "get-contexts", "--output", "name"])
        .read()
        .await
        .ok()?;
    let names: Vec<&str> = list.lines().collect();
    (!names.is_empty()).then(|| format!("  known: {}", names.join(", ")))
}
