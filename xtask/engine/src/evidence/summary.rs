//! A run in short: what the last screen, `report.json`, the report and the summary of a CI job are made of.

use std::sync::LazyLock;

use regex::Regex;
use serde::Serialize;

use super::block;
use super::grade::{Grade, Outcome, PageSeen};
use model::failure;
use model::kinds::Kind;
use model::record::written;
use model::record::{ClaimRecord, CommandRecord, ExperimentRecord, Record, Seen, Verdict};
use model::spec::LabSpec;
use model::text::{on_one_line, shortened, value};

/// A cause is told in a line of up to this many characters.
const CAUSE_CHARS: usize = 240;

/// A run in short.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// Id of the lab.
    pub lab: String,
    /// Its title.
    pub title: String,
    /// When the run began, RFC 3339, UTC.
    pub started_at: String,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// Why it ended before its experiments did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broke: Option<failure::Failure>,
    /// The points.
    pub grade: Grade,
    /// Whether a page was handed in with the chart, where parts of one are asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page: Option<PageSeen>,
    /// What was changed of the chart's objects so that the cluster takes them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub adapted: Vec<String>,
    /// What the chart does beyond what it is asked, which earns nothing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<String>,
    /// What does not hold, in the order of the lab.
    pub failures: Vec<Failure>,
    /// The same in short: what is behind it, each once.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<Cause>,
    /// Experiments that were not run, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<Skip>,
    /// Claims that hold, and claims judged.
    pub claims_hold: (usize, usize),
    /// The steps that took longest, longest first.
    pub slowest: Vec<SlowStep>,
    /// What the engine added to the time the experiments took.
    pub engine: Engine,
}

/// What the engine added to the time the experiments took, as the record has it.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Engine {
    /// In all experiments, in milliseconds.
    pub added_ms: u64,
    /// What all experiments took, in milliseconds.
    pub of_ms: u64,
    /// The one of the other, from 0 to 1.
    pub share: f64,
}

/// An experiment that broke or a claim that does not hold.
#[derive(Debug, Clone, Serialize)]
pub struct Failure {
    /// Id of the experiment.
    pub experiment: String,
    /// Id of the claim; none when the experiment itself broke.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claim: Option<String>,
    /// The claim's sentence, or what failed.
    pub says: String,
    /// The same as data, when the experiment itself broke.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broke: Option<failure::Failure>,
    /// The expression that had to be true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// The values its parts had.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub seen: Vec<Seen>,
    /// Why, as far as the engine knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Where in the chart to look: files with their lines.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub look_at: Vec<String>,
    /// What the cluster complained about meanwhile, in its words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// What the rules of `explain` said at the end of its experiment.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub troubles: Vec<String>,
}

/// What is behind failures: often one thing breaks many experiments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cause {
    /// What it is, in a line.
    pub what: String,
    /// Ids of the experiments it broke.
    pub experiments: Vec<String>,
}

/// An experiment that was not run.
#[derive(Debug, Clone, Serialize)]
pub struct Skip {
    /// Its id.
    pub experiment: String,
    /// What it needs and the cluster has not.
    pub why: String,
}

/// A step that took long.
#[derive(Debug, Clone, Serialize)]
pub struct SlowStep {
    /// Id of the experiment.
    pub experiment: String,
    /// Name of the step.
    pub step: String,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
}

impl Summary {
    /// The run in short.
    pub fn of(lab: &LabSpec, record: &Record, grade: &Grade) -> Self {
        let claims = || record.experiments.iter().flat_map(|experiment| &experiment.claims);
        let holding = claims().filter(|claim| claim.verdict == Verdict::Holds).count();
        let judged = claims().filter(|claim| claim.verdict != Verdict::Skipped).count();
        let failures: Vec<Failure> = record.experiments.iter().flat_map(failures).collect();
        Self {
            lab: lab.lab.clone(),
            title: record.title.clone(),
            started_at: record.started_at.clone(),
            duration_ms: record.duration_ms,
            broke: record.broke.clone(),
            grade: grade.clone(),
            page: None,
            adapted: adapted(record),
            also: record.also.clone(),
            causes: causes(&failures),
            failures,
            skipped: record.experiments.iter().filter_map(skip).collect(),
            claims_hold: (holding, judged),
            slowest: slowest(record, 5),
            engine: Engine {
                added_ms: record.experiments.iter().map(|experiment| experiment.engine_ms).sum(),
                of_ms: record.experiments.iter().map(|experiment| experiment.duration_ms).sum(),
                share: record.engine_share,
            },
        }
    }

    /// The run as one sentence: `12.5 of 12.5 points: 48 of 48 claims hold`.
    pub fn sentence(&self) -> String {
        let (holding, judged) = self.claims_hold;
        let points = format!("{} of {} points", written(self.grade.points), written(self.grade.of));
        let not_run = match self.grade.not_run {
            0.0 => String::new(),
            points => format!(" ({} not part of this run)", written(points)),
        };
        let claims = format!("{holding} of {judged} claims hold");
        match self.grade.outcome {
            Outcome::Broke if judged == 0 => "the run broke before any claim was judged".to_owned(),
            Outcome::Broke => format!("the run broke: {points}{not_run}, {claims}"),
            Outcome::Holds | Outcome::Fails => format!("{points}{not_run}: {claims}"),
        }
    }

    /// What the engine added, in a line: `0.4 s  added to 300.1 s of experiments, 0.1 %`.
    pub fn engine_sentence(&self) -> String {
        let seconds = |ms: u64| ms as f64 / 1000.0;
        let Engine { added_ms, of_ms, share } = self.engine;
        format!(
            "{:>10}  added to {:.1} s of experiments, {:.1} %",
            format!("{:.1} s", seconds(added_ms)),
            seconds(of_ms),
            100.0 * share
        )
    }

    /// The run for the summary of a CI job, in at most `room` bytes: first what it came to, then what failed, then what
    /// the cluster said. Where not all of that fits, it says that the rest is in `report`.
    pub fn markdown(&self, record: &Record, room: usize, report: &str) -> String {
        let sign = if self.grade.outcome == Outcome::Holds { "✔" } else { "✘" };
        let title = &self.title;
        let rest = format!("\n**Not all of it fits here; the rest is in `{report}`.**\n");
        // Another step's words fill the file: one more would lose them all.
        let Some(left) = room.checked_sub(rest.len() + 1) else { return String::new() };
        let mut parts = Parts { left, ..Parts::default() };
        let head = format!("## {sign} {title}\n\n{}.\n\n{}\n", self.sentence(), block::rubric(&self.grade));
        parts.put(&[0], head);
        if let Some(broke) = &self.broke {
            parts.put(&[1], format!("\n{}\n", block::fenced("text", &broke.to_string())));
        }
        for skip in &self.skipped {
            parts.put(&[2], format!("\n- {} was skipped: {}\n", skip.experiment, block::text(&skip.why)));
        }
        let failed = record.experiments.iter().enumerate().filter_map(|(at, experiment)| {
            let failures: Vec<_> = self.failures.iter().filter(|it| it.experiment == experiment.id).collect();
            (!failures.is_empty()).then_some((at, experiment, failures))
        });
        let failed: Vec<_> = failed.collect();
        for (at, experiment, failures) in &failed {
            let question = block::text(&experiment.question);
            parts.put(&[3, *at, 0], format!("\n### {}: {question}\n", experiment.id));
            for failure in failures {
                let text = failure.text();
                let whole = format!("\n{}\n", block::fenced("text", &text));
                if !parts.put(&[3, *at, 1], whole) {
                    let short = shortened(text.lines().next().unwrap_or_default(), CAUSE_CHARS);
                    parts.put(&[3, *at, 1], format!("\n{}\n", block::fenced("text", &short)));
                }
            }
        }
        for (at, experiment, _) in failed.iter().filter(|(_, it, _)| !it.diagnostics.is_empty()) {
            let diagnostics: Vec<&CommandRecord> = experiment.diagnostics.iter().collect();
            let console = block::console(&diagnostics);
            let details =
                format!("\n<details>\n<summary>Events and logs</summary>\n\n{console}\n\n</details>\n");
            parts.put(&[3, *at, 2], details);
        }
        parts.text(&rest)
    }
}

/// Parts of a text: those that matter most are put first, and each stands at its place in the end.
#[derive(Default)]
struct Parts {
    /// Bytes that are left.
    left: usize,
    parts: Vec<(Vec<usize>, String)>,
    cut: bool,
}

impl Parts {
    /// Puts a part at its place, if it fits.
    fn put(&mut self, place: &[usize], text: String) -> bool {
        let fits = text.len() <= self.left;
        if fits {
            self.left -= text.len();
            self.parts.push((place.to_vec(), text));
        }
        self.cut |= !fits;
        fits
    }

    fn text(mut self, rest: &str) -> String {
        self.parts.sort_by(|(one, _), (other, _)| one.cmp(other));
        let parts = self.parts.into_iter().map(|(_, text)| text);
        let rest = if self.cut { rest } else { "" };
        parts.collect::<String>() + rest + "\n"
    }
}

impl Failure {
    /// What is behind it in a line, without the names of the pod and the namespace that showed it.
    pub fn cause(&self) -> String {
        match &self.broke {
            Some(failure) => shortened(&on_one_line(&failure.cause()), CAUSE_CHARS),
            None => self.says.clone(),
        }
    }

    /// The failure as lines: what, expected, seen, why.
    pub fn text(&self) -> String {
        let mut out = match &self.claim {
            Some(claim) => format!("{claim}: {}", self.says),
            None => self.says.clone(),
        };
        if let Some(expected) = &self.expected {
            out += &format!("\n  expected: {expected}");
        }
        for seen in &self.seen {
            out += &format!("\n  seen:     {} = {}", seen.part, value(&seen.value));
        }
        if let Some(message) = &self.message {
            out += &format!("\n  why:      {message}");
        }
        for trouble in &self.troubles {
            out += &format!("\n  explain:  {trouble}");
        }
        for warning in &self.warnings {
            out += &format!("\n  event:    {warning}");
        }
        out
    }
}

fn failures(experiment: &ExperimentRecord) -> Vec<Failure> {
    let broke = experiment.failure.iter().map(|failure| Failure {
        experiment: experiment.id.clone(),
        claim: None,
        says: failure.to_string(),
        broke: Some(failure.clone()),
        expected: None,
        seen: Vec::new(),
        message: None,
        look_at: Vec::new(),
        // What waited in vain brings its events along.
        warnings: if failure.events().is_empty() { warnings(experiment) } else { Vec::new() },
        // And what the rules say of it.
        troubles: if failure.events().is_empty() { troubles(experiment) } else { Vec::new() },
    });
    let failed = experiment.claims.iter().filter(|claim| claim.verdict == Verdict::Fails);
    broke.chain(failed.map(|claim| failure(experiment, claim))).collect()
}

/// What any experiment adapted, each once.
fn adapted(record: &Record) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for says in record.experiments.iter().flat_map(|experiment| &experiment.adapted) {
        if !all.contains(says) {
            all.push(says.clone());
        }
    }
    all
}

fn skip(experiment: &ExperimentRecord) -> Option<Skip> {
    Some(Skip { experiment: experiment.id.clone(), why: experiment.skipped.clone()? })
}

fn failure(experiment: &ExperimentRecord, claim: &ClaimRecord) -> Failure {
    Failure {
        experiment: experiment.id.clone(),
        claim: Some(claim.id.clone()),
        says: claim.says.clone(),
        broke: None,
        expected: Some(claim.expect.clone()),
        seen: claim.values.clone(),
        message: claim.message.clone(),
        look_at: claim.look_at.clone(),
        warnings: warnings(experiment),
        troubles: troubles(experiment),
    }
}

/// What the rules of `explain` found, each in its sentence.
fn troubles(experiment: &ExperimentRecord) -> Vec<String> {
    experiment.troubles.iter().map(|trouble| trouble.says.clone()).collect()
}

fn causes(failures: &[Failure]) -> Vec<Cause> {
    let mut causes: Vec<Cause> = Vec::new();
    for failure in failures {
        let (what, id) = (failure.cause(), failure.experiment.clone());
        match causes.iter_mut().find(|cause| cause.what == what) {
            Some(cause) => cause.experiments.push(id),
            None => causes.push(Cause { what, experiments: vec![id] }),
        }
    }
    causes
}

/// Events that tell of trouble, each once with the objects it is told of, as the watch saw them, or else as they were
/// asked for afterwards; the last few.
fn warnings(experiment: &ExperimentRecord) -> Vec<String> {
    /// Pods have addresses of their own: with these, what befell all of them would be told of each.
    static ADDRESS: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"\b\d+\.\d+\.\d+\.\d+\b").expect("the pattern is one"));
    const MOST: usize = 6;
    const TROUBLE: [&str; 9] = [
        "Fail",
        "BackOff",
        "Unhealthy",
        "Err",
        "Evict",
        "Exceeded",
        "Forbidden",
        "Invalid",
        "NotTriggerScaleUp",
    ];
    let watched = experiment.timeline.iter().filter(|it| it.kind == Kind::Event);
    let watched = watched.filter(|it| TROUBLE.iter().any(|word| it.what.to_string().contains(word)));
    let mut found: Vec<(String, Vec<&str>)> = Vec::new();
    for event in watched {
        let detail = ADDRESS.replace_all(event.detail.as_deref().unwrap_or_default(), "<ip>");
        let what = format!("{}: {detail}", event.what);
        let known = found.iter().position(|(known, _)| *known == what);
        let (_, mut objects) = known.map(|at| found.remove(at)).unwrap_or_default();
        if !objects.contains(&event.name.as_str()) {
            objects.push(&event.name);
        }
        found.push((what, objects));
    }
    let mut found: Vec<String> = found
        .into_iter()
        .map(|(what, mut objects)| {
            objects.sort_unstable();
            format!("{}: {what}", objects.join(", "))
        })
        .collect();
    if found.is_empty() {
        let events =
            experiment.diagnostics.iter().filter(|command| command.argv.iter().any(|word| word == "events"));
        let kept = events.flat_map(|command| command.stdout.lines()).filter_map(|line| {
            let (_, warning) = line.split_once(" Warning ")?;
            Some(on_one_line(warning))
        });
        for warning in kept {
            found.retain(|known| *known != warning);
            found.push(warning);
        }
    }
    found.split_off(found.len().saturating_sub(MOST))
}

fn slowest(record: &Record, most: usize) -> Vec<SlowStep> {
    let steps = record.experiments.iter().flat_map(|experiment| {
        experiment.steps.iter().map(|step| SlowStep {
            experiment: experiment.id.clone(),
            step: step.name.clone(),
            duration_ms: step.ended_ms.saturating_sub(step.started_ms),
        })
    });
    let mut steps: Vec<_> = steps.collect();
    steps.sort_by_key(|step| std::cmp::Reverse(step.duration_ms));
    steps.truncate(most);
    steps
}

#[cfg(test)]
mod tests {
    use super::super::{fixture, grade};
    use super::*;
    use model::failure::{LastSeen, Stuck, Why};
    use model::kinds::Change;

    fn summary((lab, record): (LabSpec, Record)) -> (Summary, Record) {
        let grade = grade::grade(&lab, &record, &grade::Headings::new());
        (Summary::of(&lab, &record, &grade), record)
    }

    #[test]
    fn the_sentence_says_points_and_claims() {
        assert_eq!(summary(fixture::passing()).0.sentence(), "5 of 6.5 points: 4 of 4 claims hold");
        assert_eq!(summary(fixture::failing()).0.sentence(), "1 of 5.5 points: 1 of 3 claims hold");
        let (lab, mut record) = fixture::passing();
        record.experiments.clear();
        record.broke = Some(failure::Failure::other("no cluster"));
        assert_eq!(summary((lab, record)).0.sentence(), "the run broke before any claim was judged");
    }

    #[test]
    fn what_broke_many_experiments_is_told_once() {
        let (lab, mut record) = fixture::passing();
        for (at, experiment) in record.experiments.iter_mut().enumerate() {
            let stuck = Stuck {
                kind: "Pod".to_owned(),
                name: format!("counter-{at}"),
                reason: "ErrImagePull".to_owned(),
                message: "nope".to_owned(),
            };
            let (awaited, seen) = (format!("x-{at} to be ready"), LastSeen::default());
            experiment.failure = Some(Why::Hopeless { awaited, stuck, seen }.into());
        }
        let step = Some("lookups".to_owned());
        record.experiments[2].failure =
            Some(failure::Failure { step, ..failure::Failure::other("no answer\nnothing") });
        let (summary, _) = summary((lab, record));
        let told: Vec<_> =
            summary.causes.iter().map(|cause| (&*cause.what, cause.experiments.len())).collect();
        assert_eq!(told, [("ErrImagePull: nope", 2), ("step `lookups`: no answer", 1)]);
    }

    #[test]
    fn an_event_is_told_once_with_everything_it_befell() {
        let (_, mut record) = fixture::passing();
        let experiment = &mut record.experiments[0];
        let event = |name: &str, what: &str| model::record::Transition {
            kind: Kind::Event,
            name: name.to_owned(),
            what: Change::Reason(what.to_owned()),
            detail: Some("image \"x\"".to_owned()),
            ..experiment.timeline[0].clone()
        };
        let events = ["a-0 Failed", "a-0 BackOff", "a-1 Failed", "a-0 Failed", "a-0 Pulled"].map(|told| {
            let (name, what) = told.split_once(' ').unwrap();
            event(name, what)
        });
        experiment.timeline.extend(events);
        assert_eq!(warnings(experiment), ["a-0: BackOff: image \"x\"", "a-0, a-1: Failed: image \"x\""]);
    }

    #[test]
    fn the_summary_of_a_ci_job_shows_what_failed_and_why() {
        let (summary, record) = summary(fixture::failing());
        insta::assert_snapshot!(summary.markdown(&record, 1 << 20, "target/lab/report.html"));
    }

    #[test]
    fn a_summary_that_is_too_long_keeps_what_failed_and_says_where_the_rest_is() {
        let (lab, mut record) = fixture::failing();
        for experiment in &mut record.experiments {
            for diagnostic in &mut experiment.diagnostics {
                diagnostic.stdout = "a line of a log\n".repeat(100_000);
            }
        }
        let (summary, record) = summary((lab, record));
        let whole = summary.markdown(&record, usize::MAX, "target/lab/report.html");
        let text = summary.markdown(&record, 1 << 20, "target/lab/report.html");
        assert!(whole.len() > 1 << 20 && text.len() <= 1 << 20, "{} of {}", text.len(), whole.len());
        for failure in &summary.failures {
            assert!(text.contains(&failure.text()), "{}", failure.says);
        }
        assert!(text.trim_end().ends_with("the rest is in `target/lab/report.html`.**"), "{text:.200}");
        let small = summary.markdown(&record, 1000, "report.html");
        assert!(small.len() <= 1000 && small.contains("rest is in"), "{small}");
    }
}
