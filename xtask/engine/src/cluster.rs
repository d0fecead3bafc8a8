//! A kubeconfig that answers: the lab's own kind cluster, or a context of the user's.

pub(crate) mod kind;
mod context;
mod kubectl;
mod ready;
mod nodes;
mod remains;
mod shell;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures::future::join_all;

use machine::advice::advised;
use machine::command::Command;
use machine::progress::Progress;
use machine::tools::Tool;
use machine::workspace::Workspace;
use setup::Environment;

use machine::container::Engine;
use setup::Kind;

pub(crate) use context::context;
pub(crate) use nodes::Nodes;
pub use ready::client;
pub(crate) use shell::shell;

/// How the names of the variables begin that kubectl and Helm read settings from: `KUBECONFIG`, `KUBECTL_…`,
/// `KUBE_FEATURE_…`; `HELM_NAMESPACE`, `HELM_DRIVER`, `HELM_KUBEASUSER` and all the others of `helm env`.
const SETTINGS: [&str; 2] = ["KUBE", "HELM_"];
/// Where kubectl's default flags are, or `off`: <https://kubernetes.io/docs/reference/kubectl/kuberc/>
const KUBERC: &str = "KUBERC";

/// A cluster that is ready for the lab.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// What it is called: our own cluster's name, or that of the context.
    pub name: String,
    /// The kubeconfig for it alone.
    pub kubeconfig: PathBuf,
    /// Version that the API server tells, like `v1.37.0`.
    pub server_version: String,
    /// A kubectl that fits it.
    pub kubectl: Tool,
    /// helm.
    pub helm: Tool,
    /// Helm's own folders.
    helm_home: PathBuf,
    /// What kubectl and helm remember of API servers.
    kube_cache: PathBuf,
    /// What made it; `None` where it is the user's.
    kind: Option<Kind>,
    /// Its nodes, which are containers of the same names; empty where it is the user's.
    pub nodes: Vec<String>,
    /// Whether it was there before this run.
    pub reused: bool,
}

/// Brings up the lab's own cluster, or takes the one that is running when it is still what would be made now: of so many
/// nodes, or of as many as it happens to have.
///
/// # Errors
/// kind fails, or the cluster is not ready in time.
pub(crate) async fn up(
    workspace: &Workspace,
    environment: &Environment,
    nodes: Option<usize>,
    progress: &Progress,
) -> Result<Cluster> {
    let kind = environment.kind()?.clone();
    kind.engine.prepare()?;
    let task = progress.start("cluster");
    let mut cluster = Cluster::at(workspace, environment, &kind.engine.cluster, workspace.kubeconfig());
    cluster.kind = Some(kind.clone());
    cluster.nodes = remains::containers(&kind.engine).await?;
    if !cluster.nodes.is_empty() {
        task.note("looks at the one that is there");
        if let Some(found) = answers(workspace, &kind).await
            && found.made_from == kind::fingerprint(&kind, nodes.unwrap_or(cluster.nodes.len()))
        {
            cluster.server_version = found.version;
            cluster.kubectl = kubectl::fitting(workspace, environment, &cluster.server_version).await?;
            cluster.reused = true;
            task.done(&format!("{}, the one that was running", cluster.told()));
            return Ok(cluster);
        }
        task.note("removes the one that was left");
    }
    remains::remove(&kind.engine, &workspace.kubeconfig()).await?;
    kind.node_image.fetch(&kind.engine, &task).await?;
    let nodes = nodes.unwrap_or(1);
    kind::create(&kind, nodes, workspace, |line| {
        let line = line.trim_matches(|c: char| !c.is_alphanumeric());
        if !line.is_empty() {
            task.note(line);
        }
    })
    .await?;
    cluster.nodes = remains::containers(&kind.engine).await?;
    let api = ready::client(&cluster.kubeconfig).await?;
    cluster.server_version = ready::server_version(&api).await?;
    ready::wait(&api, nodes, Duration::from_secs(180), |waiting| task.note(waiting)).await?;
    cluster.kubectl = kubectl::fitting(workspace, environment, &cluster.server_version).await?;
    task.done(&format!("{} by kind in {}", cluster.told(), kind.engine.name()));
    Ok(cluster)
}

/// A running cluster of ours that is healthy.
struct Found {
    version: String,
    made_from: String,
}

async fn answers(workspace: &Workspace, kind: &Kind) -> Option<Found> {
    if !kind::export_kubeconfig(kind, workspace).await {
        return None;
    }
    let names = remains::containers(&kind.engine).await.ok()?;
    let nodes = names.len();
    let api = ready::client(&workspace.kubeconfig()).await.ok()?;
    if nodes > 1 {
        // A run that was killed may have left some of them broken.
        Nodes::of(kind.engine.clone(), names).mend(&api).await.ok()?;
    }
    let look = async {
        let version = ready::server_version(&api).await.ok()?;
        let made_from = ready::node_label(&api, &remains::first_node(&kind.engine), kind::MADE_FROM).await?;
        ready::wait(&api, nodes, Duration::from_secs(15), |_| ()).await.ok()?;
        Some(Found { version, made_from })
    };
    tokio::time::timeout(Duration::from_secs(20), look).await.ok().flatten()
}

/// Removes the lab's own cluster and everything that came with it, whatever state it is in. Needs no more
/// than the engine; nothing to remove is fine.
///
/// # Errors
/// The engine does not let go of something.
pub async fn down(workspace: &Workspace, progress: &Progress) -> Result<()> {
    let Some(engine) = Engine::find(workspace).await? else {
        progress.say("  there is no container engine, and so no cluster of ours");
        return Ok(());
    };
    engine.prepare()?;
    let task = progress.start("remove the cluster");
    let removed = remains::remove(&engine, &workspace.kubeconfig()).await?;
    task.done(if removed { "container, volumes, network, kubeconfig" } else { "there was none" });
    Ok(())
}

/// The running cluster of ours, if it answers: also one of another node image, which a run had asked for.
///
/// # Errors
/// The engine does not answer.
pub(crate) async fn running(workspace: &Workspace, environment: &Environment) -> Result<Option<Cluster>> {
    let kind = environment.kind()?.clone();
    kind.engine.prepare()?;
    let nodes = remains::containers(&kind.engine).await?;
    if nodes.is_empty() {
        return Ok(None);
    }
    let mut cluster = Cluster::at(workspace, environment, &kind.engine.cluster, workspace.kubeconfig());
    cluster.nodes = nodes;
    let Some(found) = answers(workspace, &kind).await else {
        return Ok(None);
    };
    cluster.server_version = found.version;
    cluster.kubectl = kubectl::fitting(workspace, environment, &cluster.server_version).await?;
    cluster.kind = Some(kind);
    cluster.reused = true;
    Ok(Some(cluster))
}

/// Whether the lab's cluster is up, and what there is to say about it.
///
/// # Errors
/// The engine does not answer.
pub(crate) async fn status(workspace: &Workspace, environment: &Environment) -> Result<(bool, String)> {
    let kind = environment.kind()?;
    if let Some(cluster) = running(workspace, environment).await? {
        let text = format!(
            "{} is up, by kind {} in {} {}: {}, of {}\n\
             next: cargo xtask shell, or export KUBECONFIG={}; cargo xtask cluster down removes it\n",
            cluster.told(),
            kind.tool.version,
            kind.engine.name(),
            kind.engine.version,
            cluster.name,
            workspace.identity(),
            workspace.display(&cluster.kubeconfig),
        );
        return Ok((true, text));
    }
    let text = match remains::containers(&kind.engine).await?.as_slice() {
        [] => "no cluster of the lab is up\nnext: cargo xtask cluster up\n".to_owned(),
        left => format!(
            "{} is left over and can't be used as it is\n\
             next: cargo xtask cluster up makes it anew, cargo xtask cluster down removes it\n",
            left.join(", ")
        ),
    };
    Ok((false, text))
}

impl Cluster {
    fn at(workspace: &Workspace, environment: &Environment, name: &str, kubeconfig: PathBuf) -> Self {
        Self {
            name: name.to_owned(),
            kubeconfig,
            server_version: String::new(),
            kubectl: environment.kubectl.clone(),
            helm: environment.helm.clone(),
            helm_home: workspace.cache.join("helm"),
            kube_cache: workspace.cache.join("kube"),
            kind: None,
            nodes: Vec::new(),
            reused: false,
        }
    }

    /// What it is, in a few words.
    fn told(&self) -> String {
        let nodes = self.nodes.len();
        let several = if nodes > 1 { format!(" on {nodes} nodes") } else { String::new() };
        format!("Kubernetes {}{several}", self.server_version)
    }

    /// A kubectl command for this cluster.
    pub fn kubectl(&self) -> Command {
        self.for_us_alone(&self.kubectl)
    }

    /// A helm command for this cluster, with helm's folders inside ours.
    pub fn helm(&self) -> Command {
        self.for_us_alone(&self.helm)
            .env("HELM_CACHE_HOME", self.helm_home.join("cache"))
            .env("HELM_CONFIG_HOME", self.helm_home.join("config"))
            .env("HELM_DATA_HOME", self.helm_home.join("data"))
    }

    /// A tool that hears of this cluster and of nothing that its user has settled for other work: a namespace, a
    /// driver, an impersonated user, default flags.
    fn for_us_alone(&self, tool: &Tool) -> Command {
        let theirs = std::env::vars_os().map(|(name, _)| name).filter(|name| {
            let name = name.to_string_lossy();
            SETTINGS.iter().any(|prefix| name.starts_with(prefix))
        });
        theirs
            .fold(Command::new(&tool.path), Command::env_remove)
            .env("KUBECONFIG", &self.kubeconfig)
            // Its cache of what the API server offers would else lie in the user's home.
            .env("KUBECACHEDIR", &self.kube_cache)
            // The file with default flags is read without any variable.
            .env(KUBERC, "off")
    }

    /// What `helm upgrade` is told besides. From 4 on Helm applies on the server, which refuses what it does not know:
    /// fetching the description of the whole API, to look for the same beforehand, takes as long as all the rest.
    /// <https://kubernetes.io/docs/reference/using-api/server-side-apply/>
    pub fn helm_upgrade_flags(&self) -> &'static [&'static str] {
        if self.helm.version.major < 4 { &[] } else { &["--disable-openapi-validation"] }
    }

    /// A client of its API server.
    ///
    /// # Errors
    /// The kubeconfig can't be used.
    pub async fn client(&self) -> Result<kube::Client> {
        ready::client(&self.kubeconfig).await
    }

    /// Loads an image archive into the nodes, unless all have it: `tag` in full, as containerd keeps it
    /// (`localhost/counter:dev`, `docker.io/library/counter:dev`), `id` the digest of the image's configuration
    /// (`sha256:…`). True when it was loaded.
    ///
    /// # Errors
    /// A node does not take it; the cluster is not made by kind here.
    pub async fn load_image(&self, archive: &Path, tag: &str, id: &str) -> Result<bool> {
        let Some(kind) = &self.kind else {
            bail!(advised(
                format!("the image can't be loaded into the cluster of context {}", self.name),
                "push it to a registry that the cluster reads, and name it in the chart's values"
            ));
        };
        let known = join_all(self.nodes.iter().map(|node| image_id(kind, node, tag))).await;
        if known.iter().all(|known| known.as_deref() == Some(id)) {
            return Ok(false);
        }
        kind.command()
            .args(["load", "image-archive", "--name", &kind.engine.cluster])
            .arg(archive)
            .read()
            .await
            .with_context(|| format!("the nodes do not take the image {tag}"))?;
        Ok(true)
    }

    /// Whether the node has an image, or gets it when it is asked to. On a cluster that isn't ours nobody can be asked.
    pub(crate) async fn can_have(&self, image: &str) -> bool {
        let Some(kind) = &self.kind else { return true };
        let full = full_name(image);
        let node = &remains::first_node(&kind.engine);
        let listed = ctr(kind, node, &["images", "list", "--quiet", &format!("name=={full}")]).read().await;
        let pull = ctr(kind, node, &["images", "pull", &full]).deadline(Duration::from_secs(120));
        listed.is_ok_and(|listed| !listed.trim().is_empty()) || pull.read().await.is_ok()
    }

    /// Its nodes as what can break: several, and the lab's own.
    pub(crate) fn nodes(&self) -> Option<Nodes> {
        let kind = self.kind.as_ref().filter(|_| self.nodes.len() > 1)?;
        Some(Nodes::of(kind.engine.clone(), self.nodes.clone()))
    }

    /// Removes the copy of a context of the user's.
    ///
    /// # Errors
    /// It does not go.
    pub fn forget(&self) -> Result<()> {
        match std::fs::remove_file(&self.kubeconfig) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", self.kubeconfig.display()))
            }
            _ => Ok(()),
        }
    }
}

/// The digest of the configuration of an image in a node: containerd tells that of its manifest only.
async fn image_id(kind: &Kind, node: &str, tag: &str) -> Option<String> {
    let listed = ctr(kind, node, &["images", "list", &format!("name=={tag}")]).read().await.ok()?;
    let manifest = listed.split_whitespace().find(|word| word.starts_with("sha256:"))?;
    let manifest = ctr(kind, node, &["content", "get", manifest]).read().await.ok()?;
    let manifest: serde_json::Value = serde_json::from_str(&manifest).ok()?;
    manifest["config"]["digest"].as_str().map(str::to_owned)
}

/// containerd's own tool in a node, about the images that the kubelet sees.
fn ctr(kind: &Kind, node: &str, args: &[&str]) -> Command {
    let ctr = kind.engine.command().args(["exec", node, "ctr", "--namespace", "k8s.io"]);
    ctr.args(args).deadline(Duration::from_secs(20))
}

/// An image's name as containerd keeps it: <https://github.com/distribution/reference>.
pub(crate) fn full_name(image: &str) -> String {
    let (first, rest) = image.split_once('/').unwrap_or(("", image));
    let is_registry = first == "localhost" || first.contains(['.', ':']);
    let path = match first {
        "" => format!("docker.io/library/{rest}"),
        _ if is_registry => image.to_owned(),
        _ => format!("docker.io/{image}"),
    };
    let tagged = path.rsplit('/').next().is_some_and(|last| last.contains([':', '@']));
    if tagged { path } else { format!("{path}:latest") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_called_as_containerd_keeps_it() {
        for (image, full) in [
            ("busybox", "docker.io/library/busybox:latest"),
            ("busybox:1.36", "docker.io/library/busybox:1.36"),
            ("someone/app:v1", "docker.io/someone/app:v1"),
            ("ghcr.io/a/b", "ghcr.io/a/b:latest"),
            ("localhost:5000/a", "localhost:5000/a:latest"),
            ("a@sha256:00", "docker.io/library/a@sha256:00"),
        ] {
            assert_eq!(full_name(image), full);
        }
    }

    /// Variables are set for a process where it is started: the test starts itself.
    #[tokio::test]
    async fn what_the_user_has_settled_for_kubectl_and_helm_reaches_neither() {
        const INSIDE: &str = "INSIDE_OF_THE_TEST";
        if std::env::var_os(INSIDE).is_none() {
            let name = std::thread::current().name().unwrap_or_default().to_owned();
            let inside =
                Command::new(std::env::current_exe().unwrap()).args(["--exact", &name]).env(INSIDE, "1");
            let settled = ["HELM_NAMESPACE", "HELM_DRIVER", "KUBECTL_EXTERNAL_DIFF", KUBERC, "KUBECONFIG"];
            settled.iter().fold(inside, |inside, name| inside.env(name, "theirs")).read().await.unwrap();
            return;
        }
        // A tool that tells what reached it.
        let env = Tool { path: "env".into(), version: semver::Version::new(4, 3, 1) };
        let cluster = Cluster {
            name: "test".to_owned(),
            kubeconfig: "/ours/kubeconfig".into(),
            server_version: String::new(),
            kubectl: env.clone(),
            helm: env,
            helm_home: "/ours/helm".into(),
            kube_cache: "/ours/kube".into(),
            kind: None,
            nodes: Vec::new(),
            reused: false,
        };
        for command in [cluster.kubectl(), cluster.helm()] {
            let reached = command.read().await.unwrap();
            assert!(!reached.contains("=theirs"), "{reached}");
            assert!(
                reached.contains("KUBERC=off\n") && reached.contains("KUBECONFIG=/ours/kubeconfig\n"),
                "{reached}"
            );
        }
    }
}
