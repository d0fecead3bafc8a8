//! One run of a lab: its stages and what each took, what was seen, and what is left to undo.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::Semaphore;

use crate::cli::{ClusterArg, LabArgs, OutputArg};
use crate::cluster::{self, Cluster};
use crate::command::Command;
use crate::evidence::record::{Criterion, ExperimentRecord, FORMAT, Record, Stage, Verdict};
use crate::evidence::{self, Keep, Written};
use crate::exit::Exit;
use crate::image::{self, Image};
use crate::lab::Lab;
use crate::lab::spec::Values;
use crate::lab::target::{Target, merge};
use crate::progress::Progress;
use crate::run::bench::Access;
use crate::run::{namespaces, screen};
use crate::setup::Environment;
use crate::workspace::Workspace;

/// Experiments that a core bears at the same time: they mostly wait, for pods to start and to stop.
const JOBS_PER_CORE: usize = 4;
/// Tools that a core bears at the same time: each is a Go process of a tenth of a second.
const TOOLS_PER_CORE: usize = 2;

/// A run under way.
pub struct Journal<'a> {
    /// The lab that is run.
    pub lab: &'a Lab,
    workspace: &'a Workspace,
    environment: &'a Environment,
    args: &'a LabArgs,
    started: Instant,
    started_at: OffsetDateTime,
    entries: Mutex<Entries>,
}

#[derive(Default)]
struct Entries {
    stages: Vec<Stage>,
    versions: BTreeMap<String, String>,
    experiments: Vec<ExperimentRecord>,
    cluster: Option<Cluster>,
    client: Option<kube::Client>,
}

impl<'a> Journal<'a> {
    /// Begins a run.
    pub fn begin(
        workspace: &'a Workspace,
        lab: &'a Lab,
        environment: &'a Environment,
        args: &'a LabArgs,
    ) -> Self {
        let (started, started_at) = (Instant::now(), OffsetDateTime::now_utc());
        Self { lab, workspace, environment, args, started, started_at, entries: Mutex::default() }
    }

    /// Does a stage and notes how long it took.
    ///
    /// # Errors
    /// Those of the stage.
    pub async fn stage<T>(&self, name: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
        let began = Instant::now();
        let result = work.await;
        self.entries().stages.push(Stage { name: name.to_owned(), duration_ms: millis(began.elapsed()) });
        result
    }

    /// Builds the image, or takes the one that was given.
    ///
    /// # Errors
    /// When it can't be built or read.
    pub async fn image(&self, progress: &Progress) -> Result<Image> {
        let image = match &self.args.image {
            Some(archive) => image::open(archive)?,
            None => image::build(self.workspace, progress, self.args.builder).await?,
        };
        self.version("image", &format!("{} {}", image.name, image.digest));
        Ok(image)
    }

    /// Starts the lab's cluster, or reaches the one that was named.
    ///
    /// # Errors
    /// When it does not come up or does not answer.
    pub async fn cluster(&self, progress: &Progress) -> Result<Cluster> {
        let cluster = match &self.args.cluster {
            ClusterArg::Kind => cluster::up(self.workspace, self.environment, progress).await?,
            ClusterArg::Context(name) => {
                cluster::context(self.workspace, self.environment, name, progress).await?
            }
        };
        self.version("kubernetes", &cluster.server_version);
        self.entries().cluster = Some(cluster.clone());
        Ok(cluster)
    }

    /// Makes the cluster ready for the experiments: the image in the node, nothing of an earlier run in the way,
    /// and the roles of the chart's objects known.
    ///
    /// # Errors
    /// When the node does not take the image, a leftover does not go, or the chart does not render.
    pub async fn install(
        &self,
        cluster: &Cluster,
        image: &Image,
        progress: &Progress,
    ) -> Result<(Access, Target)> {
        let task = progress.start("install");
        let client = cluster.client().await?;
        self.entries().client = Some(client.clone());
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let access = Access {
            client: client.clone(),
            // Paths of chart and values are told, and so run, from the root of the checkout.
            kubectl: cluster.kubectl().dir(&self.workspace.root),
            helm: cluster.helm().dir(&self.workspace.root),
            tools: Arc::new(Semaphore::new(cores * TOOLS_PER_CORE)),
        };
        let values = self.values(image)?;
        let loading = async {
            match cluster.is_ours() {
                true => {
                    cluster
                        .load_image(
                            &image.archive,
                            &format!("docker.io/library/{}", image.name),
                            &image.digest,
                        )
                        .await
                }
                false => Ok(false),
            }
        };
        let chart = self.lab.chart();
        let chart = chart.strip_prefix(&self.workspace.root).map_or(chart.clone(), |inside| {
            // A relative path without a slash could be a chart's name in a repository.
            if inside.components().count() == 1 { PathBuf::from(".").join(inside) } else { inside.to_owned() }
        });
        let values_dir = self.workspace.lab.join("values");
        let shown_dir = values_dir.strip_prefix(&self.workspace.root).unwrap_or(&values_dir).to_owned();
        let release = &self.lab.spec.target.release;
        let target = Target::discover(&access.helm, chart, release, values, values_dir, shown_dir);
        let (loaded, cleared, target, versions) =
            tokio::try_join!(loading, namespaces::clear(&client), target, self.tool_versions())?;
        self.entries().versions.extend(versions);
        let loaded = if loaded { "image loaded" } else { "image is there" };
        let cleared = if cleared.is_empty() {
            String::new()
        } else {
            format!(", {} old namespaces removed", cleared.len())
        };
        task.done(&format!("{loaded}{cleared}"));
        Ok((access, target))
    }

    /// Experiments at the same time.
    pub fn jobs(&self) -> usize {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        self.args.jobs.map_or(cores * JOBS_PER_CORE, usize::from)
    }

    /// Whether the namespace of an experiment may go when it has ended: in a cluster that is kept only those are
    /// left that somebody will want to look at, because they failed or were asked for by name.
    pub fn releases(&self, record: &ExperimentRecord) -> bool {
        let holds =
            record.failure.is_none() && record.claims.iter().all(|claim| claim.verdict == Verdict::Holds);
        self.args.keep && self.args.only.is_empty() && holds
    }

    /// Enters an experiment that ended.
    pub fn enter(&self, record: ExperimentRecord) {
        self.entries().experiments.push(record);
    }

    /// Writes what the run leaves behind, also when it broke.
    ///
    /// # Errors
    /// When a file can't be written.
    pub async fn write_evidence(&self, broke: Option<&anyhow::Error>) -> Result<(Record, Written)> {
        let began = Instant::now();
        let (revision, dirty) = revision(self.workspace).await;
        self.version("revision", &format!("{revision}{}", if dirty { ", with changes" } else { "" }));
        let record = self.record(broke.map(|error| format!("{error:#}")), began);
        let written = evidence::write(
            &self.lab.paths(self.workspace),
            &self.lab.spec,
            record.clone(),
            self.keep(&record),
        )?;
        Ok((record, written))
    }

    /// Takes down what this run set up, unless it is to be kept.
    ///
    /// # Errors
    /// When something does not go; the message says what.
    pub async fn undo(&self, progress: &Progress) -> Result<()> {
        let (cluster, client) = {
            let entries = self.entries();
            (entries.cluster.clone(), entries.client.clone())
        };
        if self.args.keep {
            if cluster.is_some() {
                progress.say("\nthe cluster is kept: cargo xtask shell looks around in it, cargo xtask cluster down removes it");
            }
            return Ok(());
        }
        if self.args.cluster == ClusterArg::Kind {
            // Also when the run broke while it was being made.
            return cluster::down(self.workspace, progress).await;
        }
        if let Some(client) = client {
            namespaces::clear(&client).await?;
        }
        match cluster {
            Some(cluster) => cluster.down(self.workspace, progress).await,
            None => Ok(()),
        }
    }

    /// The last screen: verdict, points, where things lie, and how long each stage took.
    ///
    /// # Errors
    /// When stdout can't be written or the comparison can't be made.
    pub fn conclude(&self, (record, written): &(Record, Written), progress: &Progress) -> Result<Exit> {
        if self.args.output == OutputArg::Json {
            println!("{}", serde_json::to_string_pretty(record)?);
        } else {
            println!("\n{}", screen::text(record, written, progress).trim_end());
        }
        for fault in &written.faults {
            progress.say(&format!("{fault}"));
        }
        for file in &written.files {
            progress.say(&format!("wrote {}", self.workspace.display(file)));
        }
        if written.unchanged {
            progress.say("the committed evidence is that of this run: nothing to change in docs");
        }
        let holds = |claim: &crate::evidence::record::ClaimRecord| {
            matches!(claim.verdict, Verdict::Holds | Verdict::Skipped)
        };
        let all_hold = record.experiments.iter().all(|experiment| experiment.claims.iter().all(holds));
        if !all_hold {
            return Ok(Exit::ClaimFails);
        }
        if self.args.check {
            let paths = self.lab.paths(self.workspace);
            let mut found = evidence::compare(&paths, &self.lab.spec, record.clone())?;
            found.extend(evidence::check(&paths, &self.lab.spec)?);
            return Ok(evidence::tell(&found));
        }
        Ok(if written.faults.is_empty() { Exit::Holds } else { Exit::OutOfDate })
    }

    fn record(&self, broke: Option<String>, evidence_began: Instant) -> Record {
        let entries = self.entries();
        let mut stages = entries.stages.clone();
        stages.push(Stage { name: "evidence".to_owned(), duration_ms: millis(evidence_began.elapsed()) });
        let mut experiments = entries.experiments.clone();
        let place =
            |record: &ExperimentRecord| self.lab.spec.experiments.iter().position(|e| e.id == record.id);
        experiments.sort_by_key(place);
        let rubric = self.lab.spec.rubric.iter().map(|criterion| Criterion {
            id: criterion.id.clone(),
            title: criterion.title.clone(),
            points: criterion.points,
            sections: criterion.sections.clone(),
        });
        Record {
            format: FORMAT,
            lab: self.lab.spec.lab.clone(),
            title: self.lab.spec.title.clone(),
            started_at: self
                .started_at
                .replace_nanosecond(0)
                .unwrap_or(self.started_at)
                .format(&Rfc3339)
                .unwrap_or_default(),
            duration_ms: millis(self.started.elapsed()),
            versions: entries.versions.clone(),
            stages,
            rubric: rubric.collect(),
            experiments,
            broke,
        }
    }

    /// Only a whole run of the shipped lab, on the lab's own cluster of the pinned Kubernetes, may refresh what is committed.
    fn keep(&self, record: &Record) -> Keep {
        let args = self.args;
        let shipped =
            self.lab.shipped && args.chart.is_none() && args.values.is_none() && args.image.is_none();
        let own = args.cluster == ClusterArg::Kind && args.node_image.is_none();
        let whole = args.only.is_empty() && record.broke.is_none() && own;
        let unbroken = record.experiments.iter().all(|experiment| experiment.failure.is_none());
        if shipped && whole && unbroken && !args.check { Keep::Committed } else { Keep::Target }
    }

    /// The lab's values, those of the image when it isn't the chart's own, and the user's over them.
    fn values(&self, image: &Image) -> Result<Values> {
        let mut values = self.lab.spec.target.values.clone();
        if self.args.image.is_some() {
            let (repository, tag) = image.name.rsplit_once(':').unwrap_or((&image.name, ""));
            let given = serde_json::json!({"image": {"repository": repository, "tag": tag}});
            merge(&mut values, &serde_json::from_value(given)?);
        }
        if let Some(file) = &self.args.values {
            let shown = file.display();
            let text =
                std::fs::read_to_string(file).with_context(|| format!("cannot read values file {shown}"))?;
            let given: Values =
                serde_saphyr::from_str(&text).map_err(|error| anyhow!("values file {shown}: {error}"))?;
            merge(&mut values, &given);
        }
        Ok(values)
    }

    async fn tool_versions(&self) -> Result<BTreeMap<String, String>> {
        let mut versions = self.environment.versions();
        let manifest = self.lab.chart().join("Chart.yaml");
        let text = std::fs::read_to_string(&manifest)
            .with_context(|| format!("cannot read {}", manifest.display()))?;
        let chart: serde_json::Value =
            serde_saphyr::from_str(&text).map_err(|e| anyhow!("{}: {e}", manifest.display()))?;
        let field = |name: &str| chart[name].as_str().unwrap_or("unknown").to_owned();
        versions.insert("chart".to_owned(), format!("{} {}", field("name"), field("version")));
        Ok(versions)
    }

    fn version(&self, of: &str, version: &str) {
        self.entries().versions.insert(of.to_owned(), version.to_owned());
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The commit that is checked out, and whether the tree has changes; the evidence itself does not count as one.
async fn revision(workspace: &Workspace) -> (String, bool) {
    let git = |args: &[&str]| Command::new("git").args(args).dir(&workspace.root);
    let revision =
        git(&["rev-parse", "HEAD"]).read().await.map_or("unknown".to_owned(), |text| text.trim().to_owned());
    let changes =
        git(&["status", "--porcelain", "--", ".", ":!docs/evidence", ":!docs/STATEFULSET.md"]).read().await;
    (revision, changes.is_ok_and(|changes| !changes.trim().is_empty()))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
