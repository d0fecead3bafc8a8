//! The run of one chart: what was seen, and what it leaves behind.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::Result;
use time::format_description::well_known::Rfc3339;

use crate::evidence::grade::Outcome;
use crate::evidence::{self, Keep, Written};
use crate::image::Image;
use crate::lab::target::Target;
use crate::run::bench::Access;
use crate::run::screen;
use crate::run::session::Session;
use crate::run::subject::Subject;
use cli::{ClusterArg, OutputArg};
use machine::exit::Exit;
use machine::progress::Progress;
use machine::progress::paint::Paint;
use model::record::{Criterion, ExperimentRecord, FORMAT, Record, Stage, millis};
use model::spec::Values;

/// The run of a chart under way.
pub struct Journal<'a> {
    /// The chart, and the lab it is put to.
    pub subject: &'a Subject,
    /// The run that it is part of.
    pub session: &'a Session<'a>,
    entries: Mutex<Entries>,
}

#[derive(Default)]
struct Entries {
    chart: Option<String>,
    experiments: Vec<ExperimentRecord>,
}

/// What the run of a chart came to.
pub struct Finding {
    /// The recorded run.
    pub record: Record,
    /// What it left behind.
    pub written: Written,
}

impl<'a> Journal<'a> {
    /// Begins a chart's part of a run.
    pub fn begin(session: &'a Session<'a>, subject: &'a Subject) -> Self {
        Self { subject, session, entries: Mutex::default() }
    }

    /// Finds the roles of the chart's objects.
    ///
    /// # Errors
    /// When it is no chart, does not render, or lacks a role that the lab speaks of.
    pub async fn target(&self, access: &Access, image: Option<&Image>) -> Result<Target> {
        let subject = self.subject;
        let chart = subject.chart()?;
        self.entries().chart = Some(subject.version()?);
        let root = &self.session.workspace.root;
        let chart = chart.strip_prefix(root).map_or(chart.clone(), |inside| {
            // A relative path without a slash could be a chart's name in a repository.
            if inside.components().count() == 1 { PathBuf::from(".").join(inside) } else { inside.to_owned() }
        });
        let values_dir = subject.folder.join("values");
        let shown_dir = values_dir.strip_prefix(root).unwrap_or(&values_dir).to_owned();
        let release = &subject.lab.spec.target.release;
        let values = subject.values_over(&self.image_values(image)?);
        let _turn = access.tools.acquire().await?;
        let target = Target::discover(&access.helm, chart, release, values, values_dir, shown_dir).await?;
        target.plays(&subject.lab.target_fields())?;
        Ok(target)
    }

    /// Whether the namespace of an experiment may go when it has ended: in a cluster that is kept only those are
    /// left that somebody will want to look at, because they failed or were asked for by name. Of several charts
    /// none is: a node bears about a hundred pods.
    pub fn releases(&self, record: &ExperimentRecord) -> bool {
        let holds = record.failure.is_none() && !record.claims.iter().any(|claim| claim.verdict.is_red());
        self.subject.name.is_some() || self.session.args.keep && self.subject.only.is_empty() && holds
    }

    /// Enters an experiment that ended.
    pub fn enter(&self, record: ExperimentRecord) {
        self.entries().experiments.push(record);
    }

    /// Whether somebody will want to know what the node said. Of several charts some are expected to fail.
    pub fn leaves_questions(&self) -> bool {
        self.subject.name.is_none() && !self.all_hold()
    }

    fn all_hold(&self) -> bool {
        let entries = self.entries();
        let mut claims = entries.experiments.iter().flat_map(|experiment| &experiment.claims);
        !claims.any(|claim| claim.verdict.is_red())
    }

    /// Writes what the run leaves behind, also when it broke.
    ///
    /// # Errors
    /// When a file can't be written.
    pub fn write_evidence(&self, broke: Option<&anyhow::Error>) -> Result<Finding> {
        let began = Instant::now();
        let record = self.record(broke.map(|error| format!("{error:#}")), began);
        let written = evidence::write(
            &self.subject.paths(self.session.workspace),
            &self.subject.lab.spec,
            record.clone(),
            Keep::of(&record, self.whole(&record)),
        )?;
        Ok(Finding { record, written })
    }

    /// The last screen, or the record for machines; and how the program ends.
    ///
    /// # Errors
    /// When the comparison with what is committed can't be made.
    pub fn conclude(
        &self,
        Finding { record, written }: &Finding,
        check: bool,
        progress: &Progress,
    ) -> Result<Exit> {
        let places = self.places(record, written);
        if self.session.args.output == OutputArg::Json {
            println!("{}", serde_json::to_string_pretty(record)?);
            for (what, place) in &places {
                progress.say(&format!("{what}: {place}"));
            }
        } else {
            println!("\n{}", screen::text(record, &written.summary, &places, Paint::stdout()).trim_end());
        }
        for fault in &written.faults {
            progress.say(&fault.to_string());
        }
        if written.grade.outcome != Outcome::Holds {
            return Ok(Exit::ClaimFails);
        }
        if check {
            let paths = self.subject.paths(self.session.workspace);
            let mut found = evidence::compare(&paths, record)?;
            found.extend(evidence::check(&paths, &self.subject.lab.spec)?);
            return Ok(evidence::tell(&found));
        }
        Ok(if written.faults.is_empty() { Exit::Holds } else { Exit::OutOfDate })
    }

    /// What the run leaves behind, and where.
    fn places(&self, record: &Record, written: &Written) -> Vec<(&'static str, String)> {
        let mut places = Vec::new();
        let display = |path: &Path| self.session.workspace.display(path).to_string();
        if let Some(page) = &written.page {
            let refreshed = written.files.iter().any(|file| !file.starts_with(&self.subject.folder));
            let stays = match written.kept {
                Keep::Committed if !written.faults.is_empty() => ", not written: see below",
                Keep::Committed if refreshed => ", refreshed: look at it, and commit it with its evidence",
                Keep::Committed => ", which already says so",
                Keep::Target if self.whole(record) => "; the committed one stays, for not every claim holds",
                Keep::Target => "",
            };
            places.push(("page", display(page) + stays));
        }
        let file = |name: &str| display(&self.subject.folder.join(name));
        places.push(("report", file("report.html")));
        places.push(("for machines", format!("{}, {}", file("report.json"), file("junit.xml"))));
        if let Some(kept) = self.session.kept() {
            places.push(("cluster", kept.to_owned()));
            let left = record.experiments.iter().filter(|experiment| !self.releases(experiment));
            let left: Vec<&str> = left.map(|experiment| experiment.namespace.as_str()).collect();
            if !left.is_empty() {
                places.push(("namespaces", left.join(", ")));
            }
        }
        places
    }

    fn record(&self, broke: Option<String>, evidence_began: Instant) -> Record {
        let entries = self.entries();
        let mut stages = self.session.stages();
        stages.push(Stage { name: "evidence".to_owned(), duration_ms: millis(evidence_began.elapsed()) });
        let mut experiments = entries.experiments.clone();
        let place = |record: &ExperimentRecord| {
            self.subject.lab.spec.experiments.iter().position(|e| e.id == record.id)
        };
        experiments.sort_by_key(place);
        let sum = |of: fn(&ExperimentRecord) -> u64| experiments.iter().map(of).sum::<u64>() as f64;
        let (engine_ms, whole_ms) = (sum(|it| it.engine_ms), sum(|it| it.duration_ms));
        let engine_share = if whole_ms > 0.0 { engine_ms / whole_ms } else { 0.0 };
        let started_at = self.session.started_at;
        let mut versions = self.session.versions();
        versions.extend(entries.chart.clone().map(|chart| ("chart".to_owned(), chart)));
        let rubric = self.subject.lab.spec.rubric.iter().map(|criterion| Criterion {
            id: criterion.id.clone(),
            title: criterion.title.clone(),
            points: criterion.points,
            sections: criterion.sections.clone(),
        });
        Record {
            format: FORMAT,
            lab: self.subject.lab.spec.lab.clone(),
            title: self.subject.lab.spec.title.clone(),
            started_at: started_at
                .replace_nanosecond(0)
                .unwrap_or(started_at)
                .format(&Rfc3339)
                .unwrap_or_default(),
            duration_ms: millis(self.session.started.elapsed()),
            versions,
            stages,
            engine_share,
            rubric: rubric.collect(),
            experiments,
            broke,
        }
    }

    /// Whether this was the whole lab as shipped, on the lab's own cluster of the pinned Kubernetes, and its evidence may
    /// take the place of what is committed.
    fn whole(&self, record: &Record) -> bool {
        let (subject, args) = (self.subject, self.session.args);
        let shipped = subject.refreshes && args.values.is_none() && args.image.is_none();
        let own = args.cluster == ClusterArg::Kind && args.node_image.is_none();
        shipped && own && subject.only.is_empty() && record.broke.is_none()
    }

    /// The values that name an image which is not the chart's own.
    fn image_values(&self, image: Option<&Image>) -> Result<Values> {
        let Some(image) = image.filter(|_| self.session.args.image.is_some()) else {
            return Ok(Values::new());
        };
        let (repository, tag) = image.name.rsplit_once(':').unwrap_or((&image.name, ""));
        Ok(serde_json::from_value(serde_json::json!({"image": {"repository": repository, "tag": tag}}))?)
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
