//! What a run leaves behind of one chart: its record, its evidence, the last screen.

use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use time::format_description::well_known::Rfc3339;

use crate::evidence::grade::Outcome;
use crate::evidence::{self, Keep, Written};
use crate::failed;
use crate::lab::beyond::beyond;
use crate::lab::target::Target;
use crate::run::course::Course;
use crate::run::screen;
use crate::run::session::Session;
use crate::run::subject::Subject;
use cli::{ClusterArg, OutputArg};
use machine::exit::Exit;
use machine::paint::Paint;
use machine::print;
use machine::progress::Progress;
use model::failure::Failure;
use model::record::{Criterion, ExperimentRecord, FORMAT, Record, Stage, millis};

/// What a run came to for one chart.
pub struct Journal<'a> {
    /// The chart, and the lab it is put to.
    pub subject: &'a Subject,
    /// The run that it is part of.
    pub session: &'a Session<'a>,
    /// How far that came.
    pub course: &'a Course,
    /// What is known of the chart, as far as it could be looked at.
    pub target: Option<&'a Target>,
    /// The chart's experiments that ended, as they ended.
    pub ended: &'a [ExperimentRecord],
}

/// What the run of a chart came to.
pub struct Finding {
    /// The recorded run.
    pub record: Record,
    /// What it left behind.
    pub written: Written,
}

impl Journal<'_> {
    /// Whether somebody will want to know what the node said. Of several charts some are expected to fail.
    pub fn leaves_questions(&self) -> bool {
        self.subject.name.is_none() && !self.all_hold()
    }

    fn all_hold(&self) -> bool {
        let mut claims = self.ended.iter().flat_map(|experiment| &experiment.claims);
        !claims.any(|claim| claim.verdict.is_red())
    }

    /// Writes what the run leaves behind, also when it broke.
    ///
    /// # Errors
    /// When a file can't be written.
    pub fn write_evidence(&self, broke: Option<&anyhow::Error>) -> Result<Finding> {
        let began = Instant::now();
        let record = self.record(broke.map(failed::failure), began);
        let written = evidence::write(
            &self.subject.paths(self.session.workspace),
            &self.subject.lab.spec,
            record.clone(),
            Keep::of(&record, self.whole(&record)),
            self.subject.page.as_ref(),
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
            print::result(serde_json::to_string_pretty(record)?);
            for (what, place) in &places {
                progress.say(&format!("{what}: {place}"));
            }
        } else {
            print::result(format!(
                "\n{}",
                screen::text(record, &written.summary, &places, Paint::stdout()).trim_end()
            ));
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
        if let Some(kept) = self.session.kept(self.course) {
            places.push(("cluster", kept));
            let left = record.experiments.iter().filter(|experiment| !self.subject.may_go(experiment));
            let left: Vec<&str> = left.map(|experiment| experiment.namespace.as_str()).collect();
            if !left.is_empty() {
                places.push(("namespaces", left.join(", ")));
            }
        }
        places
    }

    fn record(&self, broke: Option<Failure>, evidence_began: Instant) -> Record {
        let mut stages = self.course.stages();
        stages.push(Stage { name: "evidence".to_owned(), duration_ms: millis(evidence_began.elapsed()) });
        let mut experiments = self.ended.to_vec();
        let place = |record: &ExperimentRecord| {
            self.subject.lab.spec.experiments.iter().position(|e| e.id == record.id)
        };
        experiments.sort_by_key(place);
        let sum = |of: fn(&ExperimentRecord) -> u64| experiments.iter().map(of).sum::<u64>() as f64;
        let (engine_ms, whole_ms) = (sum(|it| it.engine_ms), sum(|it| it.duration_ms));
        let engine_share = if whole_ms > 0.0 { engine_ms / whole_ms } else { 0.0 };
        let started_at = self.session.started_at;
        let mut versions = self.session.versions(self.course);
        versions.extend(self.subject.version().ok().map(|chart| ("chart".to_owned(), chart)));
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
            also: self.also(),
            broke,
        }
    }

    /// What somebody else's chart does beyond what it is asked.
    fn also(&self) -> Vec<String> {
        let target = self.target.filter(|_| self.subject.adapts.is_some());
        target.map(|target| beyond(&target.rendered)).unwrap_or_default()
    }

    /// Whether this was the whole lab as shipped, on the lab's own cluster of the pinned Kubernetes, and its evidence may
    /// take the place of what is committed.
    fn whole(&self, record: &Record) -> bool {
        let (subject, args) = (self.subject, self.session.args);
        let ours = subject.refreshes && args.values.is_none() && args.image.is_none();
        let own = args.cluster == ClusterArg::Kind && args.node_image.is_none();
        ours && own && subject.only.is_empty() && record.broke.is_none()
    }
}
