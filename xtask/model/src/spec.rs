//! The lab file as types: what may stand in it, and what each word means.
//!
//! The JSON Schema is generated from these types, so a doc comment here is the help an editor shows. It also tells of
//! unknown keys, all of them; serde would stop at the first, and so passes over them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::expression::{CommandLine, Compiled, Expression, Template};
use crate::kinds::{NodeAct, StepKind};
use crate::settings::Settings;
use crate::verbs;

/// A lab: what to install, what to do to it, and what must then be true.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct LabSpec {
    /// Short name, used for file names and namespaces: lower-case letters, digits and dashes.
    pub lab: String,
    /// The heading of reports.
    pub title: String,
    /// What the cluster must be for all of its experiments.
    #[serde(default, skip_serializing_if = "is_default")]
    pub needs: ClusterNeeds,
    /// What is graded, and how many points each criterion is worth.
    pub rubric: Vec<Criterion>,
    /// What is installed for every experiment.
    pub target: TargetSpec,
    /// The experiments, in the order the page tells them. Each has a namespace of its own.
    pub experiments: Vec<Experiment>,
}

/// What a cluster must be. The lab's own is made so; on another one experiments are skipped and say what is missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ClusterNeeds {
    /// How many nodes it has, that of the control plane counted. Of several, pods run on all but that one.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 9))]
    pub nodes: usize,
}

impl Default for ClusterNeeds {
    fn default() -> Self {
        Self { nodes: one() }
    }
}

fn one() -> usize {
    1
}

/// One line of the rubric. The points of its claims and of the page sections it asks for add up to its own.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Criterion {
    /// Name that claims refer to.
    pub id: String,
    /// What the rubric table shows.
    pub title: String,
    /// Points to be earned, in whole hundredths.
    #[schemars(range(min = 0.01, max = 1000.0))]
    pub points: f64,
    /// Headings that the page must hold, each worth the same share of what the claims leave over.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sections: Vec<String>,
}

/// The chart under test.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct TargetSpec {
    /// Folder of the chart, relative to the lab file.
    pub chart: String,
    /// Name of the Helm release.
    pub release: String,
    /// Values for every install, over the chart's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub values: Values,
    /// What every install wants of the chart's objects, whatever its values are called.
    #[serde(default, skip_serializing_if = "is_default")]
    pub set: Settings,
}

/// Helm values.
pub type Values = BTreeMap<String, serde_json::Value>;

/// A question, what is done to answer it, and what must then be true.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Experiment {
    /// Name on the command line, in file names and of the namespace: lower-case letters, digits and dashes.
    pub id: String,
    /// The question it answers: its heading on the page.
    pub question: String,
    /// What the cluster must know for the question to mean anything. It is tried out on the cluster, not read off a
    /// version; where something is missing, the experiment is skipped and says why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<Need>,
    /// What its namespace lets pods be.
    #[serde(default, skip_serializing_if = "is_default")]
    pub pod_security: PodSecurity,
    /// Deadline of the whole experiment in seconds.
    #[serde(default = "default_experiment_timeout_s")]
    #[schemars(range(min = 1, max = 86_400))]
    pub timeout_s: u64,
    /// Done in this order. The namespace is empty at first; what is watched is watched before the first step.
    pub steps: Vec<Step>,
    /// Judged after the last step.
    pub claims: Vec<Claim>,
}

/// A level of the Pod Security standards: <https://kubernetes.io/docs/concepts/security/pod-security-standards/>.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PodSecurity {
    // Nothing of the node's, no privileges. An image that wants to be root is let in. (With doc comments the schema would
    // take the levels for kinds.)
    #[default]
    Baseline,
    // Nor that.
    Restricted,
}

impl PodSecurity {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::Restricted => "restricted",
        }
    }
}

fn default_experiment_timeout_s() -> u64 {
    420
}

/// A field that the API server must keep. One that it does not know, or has switched off, it drops without a word.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Need {
    /// Kind of one of the chart's objects.
    pub kind: String,
    /// The way to the field: `spec.ordinals.start`.
    pub field: String,
    /// A value for it, other than its default.
    pub value: serde_json::Value,
}

/// A sentence that must be true.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Claim {
    /// Name, unique in the lab.
    pub id: String,
    /// What Kubernetes, the chart or the app promises, in one sentence.
    pub says: String,
    /// The criterion it counts for.
    pub criterion: String,
    /// Points it earns, in whole hundredths; none are too few, for a claim that earns nothing asks for nothing.
    #[schemars(range(min = 0.01, max = 1000.0))]
    pub points: f64,
    /// Page or KEP that makes the promise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Where in a chart to look when it fails: kinds with a key of each, `StatefulSet.serviceName`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub look_at: Vec<String>,
    /// CEL expression over what the steps recorded and over `timeline`; must be true.
    pub expect: Compiled<Expression>,
}

/// One thing done. What it records is found in expressions under the name given with `as`.
///
/// Every recorded value holds `started_ms` and `ended_ms`, so it also marks a point in the timeline.
/// Strings hold `${expression}`, a CEL expression whose value is put in its place.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// `helm upgrade --install` of the target, then wait until its workloads are rolled out.
    Install(Install),
    /// The same release again with values over those it has.
    Upgrade(Install),
    /// `helm uninstall`, then wait until its pods are gone.
    Uninstall(Uninstall),
    /// Run `kubectl` or `helm` and keep what it prints.
    Run(Run),
    /// Run a command inside pods with `kubectl exec`; recorded by pod name.
    Exec(Exec),
    /// Resolve names from inside pods with `nslookup`; recorded by pod name, then by name.
    Resolve(Resolve),
    /// Visit pods through `kubectl port-forward`; recorded by pod name.
    Visit(Visit),
    /// Keep the objects of the namespace as they are now.
    Observe(Observe),
    /// Ask what is wrong in the namespace, as `cargo xtask explain` does.
    Explain(Explain),
    /// Run the commands that an `explain` printed, as it printed them.
    Mend(Mend),
    /// Wait until an expression over the watched objects is true.
    Await(Await),
    /// Watch for a while, and keep what happened meanwhile.
    Hold(Hold),
    /// Break a node of the lab's own cluster, or mend it. What is still broken when the experiment ends is mended then.
    Node(NodeStep),
}

impl Step {
    /// Its kind.
    pub fn kind(&self) -> StepKind {
        match self {
            Self::Install(_) => StepKind::Install,
            Self::Upgrade(_) => StepKind::Upgrade,
            Self::Uninstall(_) => StepKind::Uninstall,
            Self::Run(_) => StepKind::Run,
            Self::Exec(_) => StepKind::Exec,
            Self::Resolve(_) => StepKind::Resolve,
            Self::Visit(_) => StepKind::Visit,
            Self::Observe(_) => StepKind::Observe,
            Self::Explain(_) => StepKind::Explain,
            Self::Mend(_) => StepKind::Mend,
            Self::Await(_) => StepKind::Await,
            Self::Hold(_) => StepKind::Hold,
            Self::Node(_) => StepKind::Node,
        }
    }

    /// The name it records under, where it was given one.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Install(step) | Self::Upgrade(step) => step.name.as_deref(),
            Self::Uninstall(step) => step.name.as_deref(),
            Self::Run(step) => step.name.as_deref(),
            Self::Exec(step) => step.name.as_deref(),
            Self::Resolve(step) => step.name.as_deref(),
            Self::Visit(step) => step.name.as_deref(),
            Self::Observe(step) => Some(&step.name),
            Self::Explain(step) => Some(&step.name),
            Self::Mend(step) => step.name.as_deref(),
            Self::Await(step) => step.name.as_deref(),
            Self::Hold(step) => Some(&step.name),
            Self::Node(step) => step.name.as_deref(),
        }
    }

    /// What reports call it: its name, or its kind and its place counted from one.
    pub fn label(&self, position: usize) -> String {
        self.name().map_or_else(|| format!("{}-{}", self.kind(), position + 1), str::to_owned)
    }
}

/// Install or upgrade the target.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Install {
    /// Name for expressions.
    #[serde(rename = "as", default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Values for this step, over those of the target and of the steps before.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub values: Values,
    /// What this step wants of the chart's objects, over what the target and the steps before want.
    #[serde(default, skip_serializing_if = "is_default")]
    pub set: Settings,
    /// Another release of the same chart beside the target's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
    /// The chart as its next version would be: nothing differs but the version.
    #[serde(default, skip_serializing_if = "is_default")]
    pub next_version: bool,
    /// Go on also when Helm fails: `status` tells, and nothing is waited for.
    #[serde(default, skip_serializing_if = "is_default")]
    pub may_fail: bool,
    /// Go on only when every StatefulSet and Deployment of the namespace is rolled out.
    #[serde(default = "yes")]
    pub wait: bool,
    /// Deadline in seconds.
    #[serde(default = "default_rollout_timeout_s")]
    #[schemars(range(min = 1, max = 86_400))]
    pub timeout_s: u64,
}

/// Uninstall the release.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Uninstall {
    /// Name for expressions.
    #[serde(rename = "as", default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Another release than the target's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
    /// Deadline in seconds for the pods to be gone.
    #[serde(default = "default_rollout_timeout_s")]
    #[schemars(range(min = 1, max = 86_400))]
    pub timeout_s: u64,
}

/// A `kubectl` or `helm` command line.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Run {
    /// Name for expressions: `stdout`, `stderr`, `status`.
    #[serde(rename = "as", default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The command line, split like a shell splits it, run without a shell. The namespace is added.
    pub command: Compiled<CommandLine>,
    /// Exit status that is no failure of the step.
    #[serde(default)]
    pub status: i32,
    /// Go on whatever the exit status: `status` tells.
    #[serde(default, skip_serializing_if = "is_default")]
    pub may_fail: bool,
    /// Deadline in seconds.
    #[serde(default = "default_command_timeout_s")]
    #[schemars(range(min = 1, max = 86_400))]
    pub timeout_s: u64,
}

/// A command inside pods.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Exec {
    /// Name for expressions: a map by pod name to `stdout`, `stderr`, `status`.
    #[serde(rename = "as", default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Names of pods; all of the target's workload when left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pods: Vec<Compiled<Template>>,
    /// The command line, split like a shell splits it.
    pub command: Compiled<CommandLine>,
    /// Exit status that is no failure of the step.
    #[serde(default)]
    pub status: i32,
}

/// DNS questions from inside pods.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Resolve {
    /// Name for expressions: a map by pod name, then by the name asked, to `addresses`, `stdout`, `status`.
    #[serde(rename = "as", default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Names of the pods that ask; all of the target's workload when left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pods: Vec<Compiled<Template>>,
    /// Names to resolve. A name that does not resolve is recorded, it does not fail the step.
    pub names: Vec<Compiled<Template>>,
    /// Record type asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<String>,
}

/// HTTP requests that count.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Visit {
    /// Name for expressions: a map by pod name to `answers` and to the `last` count: of the last answer the whole, when
    /// that is a number, or its `visits`, when it is a JSON object.
    #[serde(rename = "as", default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Names of pods, visited side by side; all of the target's workload when left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pods: Vec<Compiled<Template>>,
    /// Path asked for: `/` counts, `/visits` reads.
    #[serde(default = "default_path")]
    pub path: Compiled<Template>,
    /// Whether a request changes something, so that it is never sent again when its connection broke. Left out, every
    /// path but `/visits` does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counts: Option<bool>,
    /// Requests to each pod, by position: `[3, 1, 2]`; the last number holds for those after it.
    #[serde(default = "once")]
    pub times: Vec<u32>,
    /// The name of an `observe`: visit the pods where they were then, from inside their nodes, whatever has become of the
    /// pods' objects and of the network between nodes. On the lab's own nodes alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inside: Option<String>,
}

impl Visit {
    /// Requests to the pod at a position.
    pub fn times_of(&self, position: usize) -> u32 {
        self.times.get(position).or(self.times.last()).copied().unwrap_or(1)
    }
}

/// The objects of the namespace at one moment.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Observe {
    /// Name for expressions: `pods`, `statefulsets`, `deployments`, `services`, `volume_claims`, `endpoints`,
    /// `revisions`, `jobs`, each a map by name to the object as the API has it.
    #[serde(rename = "as")]
    pub name: String,
}

/// What the rules of `cargo xtask explain` say of the namespace.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Explain {
    /// Name for expressions: `troubles`, the names of the rules that found something; `says`, a sentence for each;
    /// `mend`, the commands; `stdout`, `status`.
    #[serde(rename = "as")]
    pub name: String,
    /// The rules that are expected to find something, and no others: asked again until it is so, for it takes time until
    /// a state is reached and events tell of it. What was said last is kept either way.
    #[serde(default)]
    pub names: Vec<String>,
    /// How long to ask again, in seconds.
    #[serde(default = "default_explain_timeout_s")]
    #[schemars(range(min = 1, max = 86_400))]
    pub timeout_s: u64,
}

/// The commands that an `explain` printed, one after the other.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Mend {
    /// Name for expressions: `stdout`, `stderr`, `status`, of all of them together.
    #[serde(rename = "as", default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The step that printed them. As everywhere, what leads out of the namespace is refused.
    pub from: String,
    /// Deadline of each in seconds.
    #[serde(default = "default_command_timeout_s")]
    #[schemars(range(min = 1, max = 86_400))]
    pub timeout_s: u64,
}

/// A wait with a deadline.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Await {
    /// Name for expressions.
    #[serde(rename = "as", default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// CEL expression over the watched objects (`pods`, `statefulsets`, …), what was recorded, and `timeline`.
    pub until: Compiled<Expression>,
    /// Deadline in seconds.
    #[serde(default = "default_rollout_timeout_s")]
    #[schemars(range(min = 1, max = 86_400))]
    pub timeout_s: u64,
}

/// A window of time in which something is expected not to happen.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Hold {
    /// Name for expressions: `events`, the transitions of the window.
    #[serde(rename = "as")]
    pub name: String,
    /// Length of the window in seconds.
    #[schemars(range(min = 1, max = 3600))]
    pub seconds: u64,
}

/// One thing done to a node: exactly one of its keys says what, and to which.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct NodeStep {
    /// Name for expressions: `stdout`, `stderr`, `status`.
    #[serde(rename = "as", default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Have its processes stand still.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<Compiled<Template>>,
    /// Have them go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume: Option<Compiled<Template>>,
    /// Take its power away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<Compiled<Template>>,
    /// Give it power again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<Compiled<Template>>,
    /// Let nothing come to it or leave it by the network. What runs in it goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut: Option<Compiled<Template>>,
    /// Connect it again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub join: Option<Compiled<Template>>,
}

impl NodeStep {
    /// What is to be done, each with the node that it is done to. A sound step has one.
    pub fn acts(&self) -> impl Iterator<Item = (NodeAct, &'static str, &Compiled<Template>)> {
        let acts = [
            (NodeAct::Pause, "pause", &self.pause),
            (NodeAct::Resume, "resume", &self.resume),
            (NodeAct::Stop, "stop", &self.stop),
            (NodeAct::Start, "start", &self.start),
            (NodeAct::Cut, "cut", &self.cut),
            (NodeAct::Join, "join", &self.join),
        ];
        acts.into_iter().filter_map(|(act, key, node)| Some((act, key, node.as_ref()?)))
    }
}

impl Experiment {
    /// Whether it does something to nodes: what else is on them then would suffer as well.
    pub fn breaks_nodes(&self) -> bool {
        self.steps.iter().any(|step| match step {
            Step::Node(_) => true,
            Step::Run(step) => step.command.get().is_ok_and(|line| verbs::about_nodes(line.words())),
            _ => false,
        })
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn yes() -> bool {
    true
}

fn once() -> Vec<u32> {
    vec![1]
}

fn default_path() -> Compiled<Template> {
    "/".into()
}

fn default_rollout_timeout_s() -> u64 {
    180
}

fn default_explain_timeout_s() -> u64 {
    60
}

fn default_command_timeout_s() -> u64 {
    30
}
