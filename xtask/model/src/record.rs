//! The recorded run: everything that happened, in the order it was declared, as `run.json` keeps it.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::failure::{Failure, TroubleSeen};
use crate::kinds::{Change, Kind, StepKind};

/// Version of the record's format; raised when a reader of the old one would misread the new one.
pub const FORMAT: u32 = 1;

/// The JSON Schema of the record.
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(Record).to_value()
}

/// One run of a lab.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Record {
    /// Format of this record, [`FORMAT`].
    pub format: u32,
    /// Id of the lab.
    pub lab: String,
    /// Title of the lab.
    pub title: String,
    /// When the run began, RFC 3339, UTC.
    pub started_at: String,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// What it ran with: `kubernetes`, `kind`, `helm`, `kubectl`, `chart`, `image`, `node-image`, `revision`.
    pub versions: BTreeMap<String, String>,
    /// The stages of the run and how long each took.
    pub stages: Vec<Stage>,
    /// The engine's share of the experiments' time, from 0 to 1: what it added to all of them, of what all of them
    /// took.
    #[serde(default)]
    pub engine_share: f64,
    /// The rubric of the lab.
    pub rubric: Vec<Criterion>,
    /// The experiments, in the order of the lab file.
    pub experiments: Vec<ExperimentRecord>,
    /// What somebody else's chart does beyond what it is asked, which earns nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<String>,
    /// Why the run ended before its experiments did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broke: Option<Failure>,
}

/// A stage of the run: build, cluster, install, experiments, evidence.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Stage {
    /// Its name.
    pub name: String,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
}

/// A line of the rubric.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Criterion {
    /// Its id.
    pub id: String,
    /// Its title.
    pub title: String,
    /// Points to be earned.
    pub points: f64,
    /// Headings the page must hold for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sections: Vec<String>,
}

/// One experiment as it went.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct ExperimentRecord {
    /// Its id.
    pub id: String,
    /// Its question.
    pub question: String,
    /// SHA-256 of the experiment as the lab file declared it, so that a later change of it shows.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub declared: String,
    /// The namespace it ran in.
    pub namespace: String,
    /// Milliseconds from the start of the run to its own start.
    pub started_ms: u64,
    /// How long it took, in milliseconds. All times below count from `started_ms`.
    pub duration_ms: u64,
    /// How much of that the engine added to what the cluster, the tools and the windows of `hold` took: from the
    /// watch event that made an awaited condition true, or the end of a command, to the start of the next action.
    #[serde(default)]
    pub engine_ms: u64,
    /// What was done.
    pub steps: Vec<StepRecord>,
    /// What happened to its objects.
    pub timeline: Vec<Transition>,
    /// What was judged.
    pub claims: Vec<ClaimRecord>,
    /// Why it was not run: what it needs and this cluster has not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skipped: Option<String>,
    /// Why it ended early: the step that failed, what was awaited, seen last, and the events that explain it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// What was changed of the chart's objects so that this cluster takes them, a sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub adapted: Vec<String>,
    /// What was wrong with its workloads at its end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub troubles: Vec<TroubleSeen>,
    /// Events of the namespace and logs of its pods, kept when a claim does not hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub diagnostics: Vec<CommandRecord>,
}

/// One step as it went.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct StepRecord {
    /// The name given with `as`, else its kind and place: `install-1`.
    pub name: String,
    /// Its kind, as in the lab file: `install`, `run`, `exec`, …
    pub kind: StepKind,
    /// The values it asked the chart for, which its command line hides in a file: `updateStrategy.partition: 1`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
    /// What it wanted of the chart's objects that no step before it wanted, and what brought each about.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub set: Vec<Field>,
    /// When it began, in milliseconds.
    pub started_ms: u64,
    /// When it ended, in milliseconds.
    pub ended_ms: u64,
    /// How much of the time between the engine added, in milliseconds.
    #[serde(default)]
    pub engine_ms: u64,
    /// The commands it ran, in a fixed order: that of the pods and names asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub commands: Vec<CommandRecord>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
}

/// A field that a step wanted of the chart's objects.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Field {
    /// The keys that lead to it: `updateStrategy.type`.
    pub field: String,
    /// What it was to be.
    pub value: serde_json::Value,
    /// What made it so.
    pub from: Origin,
    /// The value of the chart that drives it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// What made a field what it was to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// A value of the chart, which Helm was given.
    Value,
    /// The chart itself, as it is.
    Chart,
    /// The lab, which changed the object on its way into the cluster.
    Lab,
    /// Nothing: no value of the chart brings it about, and the lab can't.
    Nothing,
}

impl std::fmt::Display for Field {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { field, value, from, by } = self;
        match value {
            serde_json::Value::String(text) => write!(f, "{field}: {text}")?,
            other => write!(f, "{field}: {other}")?,
        }
        match (from, by) {
            (Origin::Value, Some(by)) => write!(f, " (value {by})"),
            (Origin::Value | Origin::Chart, _) => write!(f, " (as the chart has it)"),
            (Origin::Lab, _) => write!(f, " (changed on the object)"),
            (Origin::Nothing, _) => write!(f, " (the chart has none)"),
        }
    }
}

/// One command and what it printed.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct CommandRecord {
    /// The command line as one would paste it.
    pub argv: Vec<String>,
    /// Its exit status; -1 when a signal ended it.
    pub status: i32,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// What it printed, untouched.
    pub stdout: String,
    /// What it complained, untouched.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub stderr: String,
    /// What it complained each time before: one that only reads is run again when its connection broke.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub before: Vec<String>,
}

/// One change of one object, seen by a watch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Transition {
    /// Milliseconds since the experiment began, by a monotonic clock, when the watch delivered it.
    pub at_ms: u64,
    /// Kind of the object.
    pub kind: Kind,
    /// Its name; for a watch, the kind that it watches.
    pub name: String,
    /// Its uid: a StatefulSet's pod returns under its old name with a new one.
    pub uid: String,
    /// What happened; of an event its reason.
    pub what: Change,
    /// The resourceVersion that carried it.
    pub resource_version: String,
    /// The revision of a pod (`controller-revision-hash`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// More about it: an event's message, a set's replica counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// One claim and the verdict on it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct ClaimRecord {
    /// Its id.
    pub id: String,
    /// Its sentence.
    pub says: String,
    /// The criterion it counts for.
    pub criterion: String,
    /// Points it is worth.
    pub points: f64,
    /// Page or KEP that makes the promise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The expression that had to be true.
    pub expect: String,
    /// Whether it was.
    pub verdict: Verdict,
    /// The values its parts had, in the order they stand in the expression.
    pub values: Vec<Seen>,
    /// Why it could not be judged, or what was wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Where in the chart to look, when it failed: files with their lines.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub look_at: Vec<String>,
}

/// Part of an expression and the value it had.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Seen {
    /// The part, as it stands in the expression.
    pub part: String,
    /// Its value.
    pub value: serde_json::Value,
}

/// What became of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It holds.
    Holds,
    /// It does not.
    Fails,
    /// Its experiment broke before it could be judged: no points either.
    NotJudged,
    /// It does not apply to this version or cluster; the message says why.
    Skipped,
}

impl Verdict {
    /// Whether it fails the run: what does not hold, and what nobody could judge.
    pub fn is_red(self) -> bool {
        matches!(self, Self::Fails | Self::NotJudged)
    }
}

/// A duration as the record holds it: whole milliseconds.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Points as people write them: `2`, `0.5`, `0.33`.
pub fn written(points: f64) -> String {
    // A sum of nothing is -0, which nobody wants to read.
    let text = format!("{:.2}", points + 0.0);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
