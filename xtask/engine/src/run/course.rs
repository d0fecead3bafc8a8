//! How far a run came: what each of its stages returned, so that one that breaks still tells what it saw.

use std::future::Future;
use std::time::Instant;

use anyhow::Result;

use crate::cluster::Cluster;
use crate::image::Image;
use crate::lab::target::Target;
use crate::run;
use crate::run::bench::Access;
use crate::run::namespaces::Namespaces;
use crate::run::session::Session;
use crate::run::subject::Subject;
use machine::identity::Identity;
use machine::progress::Progress;
use model::record::{ExperimentRecord, Stage, millis};

/// The stages of a run and what they came to. Every stage is written by the one place that runs it.
#[derive(Default)]
pub struct Course {
    /// The image, where one is built or given.
    pub build: Staged<Option<Image>>,
    /// The cluster.
    pub cluster: Staged<Cluster>,
    /// The way into the cluster, and the charts.
    pub install: Staged<Installed>,
    /// What the experiments left in the cluster against our will.
    pub experiments: Staged<Vec<String>>,
    /// The experiments that ended, of each chart, as they ended.
    pub ended: Vec<Vec<ExperimentRecord>>,
}

/// What experiments need: a cluster that holds the image and nothing else of ours, and the charts.
pub struct Installed {
    /// The way into the cluster.
    pub access: Access,
    /// The roles of each chart's objects, or why they are not known.
    pub targets: Vec<Result<Target>>,
    /// The namespaces of the experiments.
    pub namespaces: Namespaces,
    /// Who we are, on a cluster that others use as well.
    pub owner: Option<Identity>,
}

/// A stage: what it returned, and how long it took, also when it failed.
pub struct Staged<T> {
    /// What it returned.
    pub value: Option<T>,
    duration_ms: Option<u64>,
}

impl<T> Default for Staged<T> {
    fn default() -> Self {
        Self { value: None, duration_ms: None }
    }
}

impl<T> Staged<T> {
    async fn run(&mut self, work: impl Future<Output = Result<T>>) -> Result<&T> {
        let began = Instant::now();
        let result = work.await;
        self.duration_ms = Some(millis(began.elapsed()));
        Ok(self.value.insert(result?))
    }

    fn stage(&self, name: &str) -> Option<Stage> {
        Some(Stage { name: name.to_owned(), duration_ms: self.duration_ms? })
    }
}

impl Course {
    /// build → cluster → install → experiments: each takes what those before it returned. Build and cluster need
    /// nothing of each other and run side by side.
    ///
    /// # Errors
    /// Those of the first stage that fails; what the others returned is kept.
    pub async fn run(
        &mut self,
        session: &Session<'_>,
        subjects: &[Subject],
        progress: &Progress,
    ) -> Result<()> {
        let Self { build, cluster, install, experiments, ended } = self;
        let build = build.run(session.image(progress));
        let nodes = subjects.iter().map(|subject| subject.lab.spec.needs.nodes).max().unwrap_or(1);
        let (image, cluster) = tokio::try_join!(build, cluster.run(session.cluster(nodes, progress)))?;
        let installed = install.run(session.install(cluster, image.as_ref(), subjects, progress)).await?;
        ended.resize_with(subjects.len(), Vec::new);
        let ran = run::experiments(subjects, installed, session.args, ended, progress);
        experiments.run(ran).await.map(drop)
    }

    /// The stages that ended, in their order.
    pub fn stages(&self) -> Vec<Stage> {
        let stages = [
            self.build.stage("build"),
            self.cluster.stage("cluster"),
            self.install.stage("install"),
            self.experiments.stage("experiments"),
        ];
        stages.into_iter().flatten().collect()
    }

    /// What is known of a chart, as far as it could be looked at.
    pub fn target(&self, at: usize) -> Option<&Target> {
        self.install.value.as_ref()?.targets.get(at)?.as_ref().ok()
    }

    /// The experiments of a chart that ended.
    pub fn ended(&self, subject: usize) -> &[ExperimentRecord] {
        self.ended.get(subject).map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::bail;

    #[tokio::test]
    async fn a_run_that_breaks_keeps_what_its_finished_stages_returned() {
        let mut course = Course::default();
        let Course { build, cluster, .. } = &mut course;
        build.run(async { Ok(None) }).await.unwrap();
        assert!(cluster.run(async { bail!("no engine") }).await.is_err());
        let names: Vec<String> = course.stages().into_iter().map(|stage| stage.name).collect();
        assert_eq!(names, ["build", "cluster"], "the one that broke is told with the time it took");
        assert!(course.build.value.is_some() && course.cluster.value.is_none());
        assert!(course.ended(0).is_empty());
    }
}
