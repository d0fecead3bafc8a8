//! What all charts of a run share: how it was asked for, its stages, and what is undone in the end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use futures::future::try_join_all;
use time::OffsetDateTime;
use tokio::sync::Semaphore;

use crate::cluster::{self, Cluster, full_name};
use crate::image::{self, Image};
use crate::lab::post_render::PostRenderer;
use crate::run::bench::Access;
use crate::run::course::{Course, Installed};
use crate::run::namespaces::{self, Namespaces};
use crate::run::node::Node;
use crate::run::subject::{Around, Subject};
use cli::{ClusterArg, RunArgs};
use machine::advice::{self, advised};
use machine::command::Command;
use machine::identity::Identity;
use machine::progress::Progress;
use machine::workspace::Workspace;
use setup::Environment;

/// Tools that a core bears at the same time: each is a Go process of a tenth of a second.
const TOOLS_PER_CORE: usize = 4;

/// What is known of a run from its start. What its stages came to is in [`Course`].
pub struct Session<'a> {
    /// Where it runs.
    pub workspace: &'a Workspace,
    /// How it was asked for.
    pub args: &'a RunArgs,
    /// Images that charts name and that were given in archives.
    given: &'a [Image],
    /// When it began.
    pub started: Instant,
    /// The same moment by the calendar.
    pub started_at: OffsetDateTime,
    environment: &'a Environment,
    /// The commit that is checked out.
    revision: String,
}

impl<'a> Session<'a> {
    /// Begins a run.
    pub async fn begin(
        workspace: &'a Workspace,
        environment: &'a Environment,
        args: &'a RunArgs,
        given: &'a [Image],
    ) -> Self {
        let revision = revision(workspace).await;
        let (started, started_at) = (Instant::now(), OffsetDateTime::now_utc());
        Self { workspace, args, given, started, started_at, environment, revision }
    }

    /// Builds the image, or takes the one that was given. `None` for a cluster of the user's: no image can be loaded
    /// into it, and the chart's values name one that it can pull.
    ///
    /// # Errors
    /// When it can't be built or read.
    pub async fn image(&self, progress: &Progress) -> Result<Option<Image>> {
        if self.args.cluster != ClusterArg::Kind {
            return Ok(None);
        }
        let image = match &self.args.image {
            Some(archive) => image::open(archive)?,
            None => image::build(self.workspace, progress, self.args.builder).await?,
        };
        Ok(Some(image))
    }

    /// Starts the lab's cluster, of so many nodes, or reaches the one that was named.
    ///
    /// # Errors
    /// When it does not come up or does not answer.
    pub async fn cluster(&self, nodes: usize, progress: &Progress) -> Result<Cluster> {
        match &self.args.cluster {
            ClusterArg::Kind => cluster::up(self.workspace, self.environment, Some(nodes), progress).await,
            ClusterArg::Context(name) => {
                cluster::context(self.workspace, self.environment, name, progress).await
            }
        }
    }

    /// Makes the cluster ready for the experiments: the image in the node, nothing of an earlier run in the way,
    /// and the roles of each chart's objects known, or why they are not.
    ///
    /// # Errors
    /// When the node does not take the image, a leftover does not go, or the only chart can't be looked at.
    pub async fn install(
        &self,
        cluster: &Cluster,
        image: Option<&Image>,
        subjects: &[Subject],
        progress: &Progress,
    ) -> Result<Installed> {
        let task = progress.start("install");
        let client = cluster.client().await?;
        let identity = self.workspace.identity();
        let namespaces = Namespaces::of(client.clone(), identity.clone());
        let owner = (self.args.cluster != ClusterArg::Kind).then_some(identity);
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let access = Access {
            client,
            // Paths of chart and values are told, and so run, from the root of the checkout.
            kubectl: cluster.kubectl().dir(&self.workspace.root),
            helm: cluster.helm().dir(&self.workspace.root),
            kubernetes: cluster.server_version.clone(),
            nodes: cluster.nodes(),
            post_renderer: PostRenderer::install(&self.workspace.lab.join("helm"), &cluster.helm.version)?,
            tools: Arc::new(Semaphore::new(cores * TOOLS_PER_CORE)),
        };
        let load = async |image: &Image| {
            cluster.load_image(&image.archive, &full_name(&image.name), &image.digest).await
        };
        let loading = async {
            let Some(image) = image else { return Ok("the image is what the values name") };
            Ok(if load(image).await? { "image loaded" } else { "image is there" })
        };
        let given = image.filter(|_| self.args.image.is_some());
        let flags = cluster.helm_upgrade_flags();
        let around = Around { root: &self.workspace.root, access: &access, flags, owner: owner.as_ref() };
        let targets = async {
            // Before the node is asked what it has.
            for image in self.given {
                load(image).await?;
            }
            let node = match subjects.iter().any(|subject| subject.adapts.is_some()) {
                true => Some(Node::of(cluster, &access.client, image, self.given).await?),
                false => None,
            };
            let (node, around) = (&node, &around);
            let targets = subjects.iter().map(|subject| async move {
                let target = subject.target(around, given, node.as_ref()).await;
                // One of many that can't be looked at stops no other.
                if subject.name.is_some() { Ok(target) } else { target.map(Ok) }
            });
            try_join_all(targets).await
        };
        let (loaded, cleared, targets) = tokio::try_join!(loading, namespaces.clear(), targets)?;
        let cleared = if cleared.is_empty() {
            String::new()
        } else {
            format!(", {} old namespaces removed", cleared.len())
        };
        task.done(&format!("{loaded}{cleared}"));
        Ok(Installed { access, targets, namespaces, owner })
    }

    /// Takes down what this run set up, unless it is to be kept; where it left questions, what the node said stays.
    /// Returns what did not go, and why: what was found out stands in any case.
    pub async fn undo(&self, course: &Course, questions: bool, progress: &Progress) -> Vec<String> {
        let mut left = course.experiments.value.clone().unwrap_or_default();
        let own = self.args.cluster == ClusterArg::Kind;
        if own && !self.args.keep {
            if questions && let Ok(kind) = self.environment.kind() {
                let logs = cluster::kind::export_logs(kind, self.workspace).await;
                progress.say(&format!("what the node said is in {}", self.workspace.display(&logs)));
            }
            // Also when the run broke while it was being made.
            let down = cluster::down(self.workspace, progress).await;
            left.extend(down.err().map(|error| {
                advice::in_words(
                    &error.context(advised("the cluster is still there", "cargo xtask cluster down")),
                )
            }));
        }
        if own
            && self.args.keep
            && let Some(Installed { access: Access { client, nodes: Some(nodes), .. }, .. }) =
                &course.install.value
        {
            // An experiment that was interrupted has not mended what it broke.
            left.extend(nodes.mend(client).await.err().map(|error| format!("{error:#}")));
        }
        if !own
            && !self.args.keep
            && let Some(installed) = &course.install.value
        {
            left.extend(installed.namespaces.clear().await.err().map(|error| format!("{error:#}")));
        }
        if !own && let Some(cluster) = &course.cluster.value {
            // Of no use to somebody who has the context.
            left.extend(cluster.forget().err().map(|error| format!("{error:#}")));
        }
        left
    }

    /// What to do with a cluster, or with what lies in it, that stays.
    pub fn kept(&self, course: &Course) -> Option<String> {
        course.cluster.value.as_ref().filter(|_| self.args.keep)?;
        Some(kept(&self.args.cluster, &self.workspace.identity()))
    }

    /// What it ran with, as far as it came.
    pub fn versions(&self, course: &Course) -> BTreeMap<String, String> {
        let mut versions = self.environment.versions();
        let mut version = |of: &str, version: String| drop(versions.insert(of.to_owned(), version));
        version("revision", self.revision.clone());
        if let Some(Some(image)) = &course.build.value {
            version("image", format!("{} {}", image.name, image.digest));
        }
        if let Some(cluster) = &course.cluster.value {
            version("kubernetes", cluster.server_version.clone());
            version("kubectl", cluster.kubectl.version.to_string());
        }
        versions
    }
}

fn kept(cluster: &ClusterArg, identity: &Identity) -> String {
    match cluster {
        ClusterArg::Kind => {
            "kept: cargo xtask shell looks around, cargo xtask cluster down removes it".to_owned()
        }
        ClusterArg::Context(name) => {
            let label = namespaces::selector(identity);
            format!(
                "context {name}, as it is: kubectl delete namespace --selector {label} clears it, or the next run"
            )
        }
    }
}

/// The commit that is checked out, and whether the tree has changes; the evidence itself does not count as one.
async fn revision(workspace: &Workspace) -> String {
    let git = |args: &[&str]| Command::new("git").args(args).dir(&workspace.root);
    let revision =
        git(&["rev-parse", "HEAD"]).read().await.map_or("unknown".to_owned(), |text| text.trim().to_owned());
    let changes =
        git(&["status", "--porcelain", "--", ".", ":!docs/evidence", ":!docs/STATEFULSET.md"]).read().await;
    let dirty = changes.is_ok_and(|changes| !changes.trim().is_empty());
    format!("{revision}{}", if dirty { ", with changes" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn what_is_kept_on_a_cluster_of_the_users_is_not_said_to_go_with_ours() {
        let identity = Identity::here(Path::new("/cache"));
        let ours = kept(&ClusterArg::Kind, &identity);
        assert!(ours.contains("cargo xtask cluster down removes it"), "{ours}");
        let theirs = kept(&ClusterArg::Context("minikube".to_owned()), &identity);
        assert!(theirs.starts_with("context minikube") && theirs.contains(identity.key()), "{theirs}");
        assert!(!theirs.contains("cluster down") && !theirs.contains("shell"), "{theirs}");
    }
}
