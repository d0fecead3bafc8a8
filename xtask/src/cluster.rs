//! A kubeconfig that answers: the lab's own kind cluster, or a context of the user's.

pub mod engine;
pub mod node_image;
pub mod kind;
mod context;
mod ready;
mod shell;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

use crate::command::Command;
use crate::progress::Progress;
use crate::setup::Environment;
use crate::workspace::{CLUSTER, Workspace};

use kind::Kind;

pub use context::context;
pub use shell::shell;

/// A cluster that is ready for the lab.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// What it is called: our own cluster's name, or that of the context.
    pub name: String,
    /// The kubeconfig for it alone.
    pub kubeconfig: PathBuf,
    /// Version that the API server tells, like `v1.37.0`.
    pub server_version: String,
    /// kubectl.
    pub kubectl: PathBuf,
    /// helm.
    pub helm: PathBuf,
    /// Helm's own folders.
    helm_home: PathBuf,
    /// What made it; `None` where it is the user's.
    kind: Option<Kind>,
    /// Whether it was there before this run.
    pub reused: bool,
}

/// Brings up the lab's own cluster, or takes the one that is running when it is still what would be made now.
///
/// # Errors
/// kind fails, or the cluster is not ready in time.
pub async fn up(workspace: &Workspace, environment: &Environment, progress: &Progress) -> Result<Cluster> {
    let kind = environment.kind()?.clone();
    kind.engine.prepare()?;
    let task = progress.start("cluster");
    let mut cluster = Cluster::at(workspace, environment, CLUSTER);
    cluster.kind = Some(kind.clone());
    if kind.exists().await? {
        task.note("looks at the one that is there");
        if let Some(version) = still_good(workspace, &kind).await {
            cluster.server_version = version;
            cluster.reused = true;
            task.done(&format!(
                "Kubernetes {}, the one that was running",
                cluster.server_version
            ));
            return Ok(cluster);
        }
        task.note("removes the one that was left");
    }
    kind.delete(workspace).await?;
    kind.create(workspace, |line| {
        let line = line.trim_matches(|c: char| !c.is_alphanumeric());
        if !line.is_empty() {
            task.note(line);
        }
    })
    .await?;
    let api = ready::client(&cluster.kubeconfig).await?;
    cluster.server_version = ready::server_version(&api).await?;
    ready::wait(&api, Duration::from_secs(180), |waiting| task.note(waiting)).await?;
    task.done(&format!(
        "Kubernetes {} by kind in {}",
        cluster.server_version,
        kind.engine.name()
    ));
    Ok(cluster)
}

/// The version of the running cluster, when it is healthy and what would be made now.
async fn still_good(workspace: &Workspace, kind: &Kind) -> Option<String> {
    if !kind.export_kubeconfig(workspace).await {
        return None;
    }
    let look = async {
        let api = ready::client(&workspace.kubeconfig()).await.ok()?;
        let version = ready::server_version(&api).await.ok()?;
        let made_from = ready::node_label(&api, &kind.node(), kind::MADE_FROM).await?;
        if made_from != kind.fingerprint() {
            return None;
        }
        ready::wait(&api, Duration::from_secs(15), |_| ()).await.ok()?;
        Some(version)
    };
    tokio::time::timeout(Duration::from_secs(20), look)
        .await
        .ok()
        .flatten()
}

/// Deletes the lab's own cluster and everything that came with it; nothing to delete is fine.
///
/// # Errors
/// The engine does not let go of something.
pub async fn down(workspace: &Workspace, kind: &Kind, progress: &Progress) -> Result<()> {
    let task = progress.start("remove the cluster");
    kind.engine.prepare()?;
    let there = kind.exists().await?;
    kind.delete(workspace).await?;
    task.done(if there {
        "container, volumes, network and kubeconfig"
    } else {
        "there was none"
    });
    Ok(())
}

/// The running cluster of ours, if it answers. Changes nothing but its kubeconfig.
pub async fn running(workspace: &Workspace, environment: &Environment) -> Option<Cluster> {
    let kind = environment.kind().ok()?.clone();
    kind.engine.prepare().ok()?;
    if !kind.exists().await.ok()? {
        return None;
    }
    let mut cluster = Cluster::at(workspace, environment, CLUSTER);
    cluster.server_version = still_good(workspace, &kind).await?;
    cluster.kind = Some(kind);
    cluster.reused = true;
    Some(cluster)
}

impl Cluster {
    fn at(workspace: &Workspace, environment: &Environment, name: &str) -> Self {
        Self {
            name: name.to_owned(),
            kubeconfig: workspace.kubeconfig(),
            server_version: String::new(),
            kubectl: environment.kubectl.path.clone(),
            helm: environment.helm.path.clone(),
            helm_home: workspace.cache.join("helm"),
            kind: None,
            reused: false,
        }
    }

    /// A kubectl command for this cluster.
    pub fn kubectl(&self) -> Command {
        Command::new(&self.kubectl).env("KUBECONFIG", &self.kubeconfig)
    }

    /// A helm command for this cluster, with helm's folders inside ours.
    pub fn helm(&self) -> Command {
        Command::new(&self.helm)
            .env("KUBECONFIG", &self.kubeconfig)
            .env("HELM_CACHE_HOME", self.helm_home.join("cache"))
            .env("HELM_CONFIG_HOME", self.helm_home.join("config"))
            .env("HELM_DATA_HOME", self.helm_home.join("data"))
    }

    /// A client of its API server.
    ///
    /// # Errors
    /// The kubeconfig can't be used.
    pub async fn client(&self) -> Result<kube::Client> {
        ready::client(&self.kubeconfig).await
    }

    /// Whether the cluster is the lab's own, to be removed after it.
    pub fn is_ours(&self) -> bool {
        self.kind.is_some()
    }

    /// The engine that runs it, where it is ours.
    pub fn engine(&self) -> Option<&engine::Engine> {
        self.kind.as_ref().map(|kind| &kind.engine)
    }

    /// Loads an image archive into the node, unless the node has it: `tag` as in the archive, `id` the digest
    /// of the image's configuration (`sha256:…`). True when it was loaded.
    ///
    /// # Errors
    /// The node does not take it; the cluster is not made by kind here.
    pub async fn load_image(&self, archive: &Path, tag: &str, id: &str) -> Result<bool> {
        let Some(kind) = &self.kind else {
            bail!(
                "the image can't be loaded into the cluster of context {}\n\
                 next: push it to a registry that the cluster reads, and name it in the chart's values",
                self.name
            );
        };
        let node = kind.node();
        let in_node = |args: &[&str]| kind.engine.command().args(["exec", &node]).args(args);
        let known = in_node(&[
            "ctr",
            "--namespace",
            "k8s.io",
            "images",
            "list",
            &format!("name=={tag}"),
        ]);
        if !id.is_empty() && known.read().await.is_ok_and(|list| list.contains(id)) {
            return Ok(false);
        }
        kind.command()
            .args(["load", "image-archive", "--name", CLUSTER])
            .arg(archive)
            .read()
            .await
            .map_err(|error| anyhow!(error).context(format!("the node does not take the image {tag}")))?;
        Ok(true)
    }

    /// Removes the cluster when it is ours; the user's is left as it is.
    ///
    /// # Errors
    /// As [`down`].
    pub async fn down(&self, workspace: &Workspace, progress: &Progress) -> Result<()> {
        match &self.kind {
            Some(kind) => down(workspace, kind, progress).await,
            None => match std::fs::remove_file(&self.kubeconfig) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    Err(error).with_context(|| format!("cannot remove {}", self.kubeconfig.display()))
                }
                _ => Ok(()),
            },
        }
    }
}
