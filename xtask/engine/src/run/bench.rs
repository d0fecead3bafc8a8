//! What a step works with: the cluster, the experiment's namespace and timeline, and what was recorded so far.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use futures::future::try_join_all;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use kube::api::{Api, ListParams};
use serde_json::{Value as Json, json};
use tokio::sync::Semaphore;

use crate::cluster::Nodes;
use crate::lab::post_render::PostRenderer;
use crate::lab::target::Target;
use crate::run::timeline::Timeline;
use crate::run::wait::{Act, Wait};
use crate::transient;
use machine::command::{Command, Output};
use model::condition;
use model::expression::{CommandLine, Compile, Compiled, Expression, Scope, Template};
use model::kinds::{Kind, is_name};
use model::record::{CommandRecord, Field, millis};
use model::settings::Settings;
use model::spec::Values;

/// The way into a cluster: a client for reading, and the tools that a person would type.
pub struct Access {
    /// Client for watches and reads.
    pub client: kube::Client,
    /// `kubectl` with its environment, without arguments.
    pub kubectl: Command,
    /// `helm` with its environment, without arguments.
    pub helm: Command,
    /// What the API server is a version of, as it says.
    pub kubernetes: String,
    /// The nodes, where they are the lab's own and several: steps may break them.
    pub nodes: Option<Nodes>,
    /// The way to have objects changed by Helm.
    pub(crate) post_renderer: PostRenderer,
    /// Tools that run at the same time: each is a process of its own on the machine's few cores.
    pub tools: Arc<Semaphore>,
}

/// The workbench of one experiment.
pub(crate) struct Bench<'a> {
    /// The way into the cluster.
    pub access: &'a Access,
    /// The chart under test and the names of its parts.
    pub target: &'a Target,
    /// The experiment's namespace.
    pub namespace: String,
    /// What happens in it.
    pub timeline: Arc<Timeline>,
    /// What steps recorded, by name.
    pub recorded: Scope,
    /// What was asked of each release last.
    pub asked: BTreeMap<String, (Values, Settings)>,
    /// The fields that the step under way is the first to want of objects, and what brought them about.
    pub set: Vec<Field>,
    /// What was adapted to install the chart, each once.
    pub adapted: Vec<String>,
    /// The commands of the step under way.
    pub commands: Vec<CommandRecord>,
    /// What was done last that may have changed something.
    pub act: Act,
}

impl Bench<'_> {
    /// The variables that an expression reads: of what was recorded, `target`, and the watched objects.
    ///
    /// Only those, for a condition is judged anew at every change.
    pub(crate) fn scope(&self, expression: &Expression) -> Scope {
        let names = expression.variables();
        let mut scope = self.timeline.variables(names);
        scope.extend(self.named(names));
        scope
    }

    /// Whether all that an expression reads was recorded by steps. What is watched goes on changing.
    pub(crate) fn has_recorded(&self, expression: &Expression) -> bool {
        let mut names = expression.variables().iter();
        names.all(|name| name == "target" || self.recorded.contains_key(name))
    }

    /// Those of the steps' records and `target` that are named: an observation is a copy of all objects there were.
    fn named<'a>(&self, names: impl IntoIterator<Item = &'a String>) -> Scope {
        let named = names.into_iter().filter_map(|name| {
            let value = match name.as_str() {
                "target" => Some(self.target.roles.variable(&self.namespace)),
                name => self.recorded.get(name).cloned(),
            };
            Some((name.clone(), value?))
        });
        named.collect()
    }

    /// A text of the lab file with the values in their places.
    ///
    /// # Errors
    /// An expression in it that has no value.
    pub(crate) fn text(&self, text: &Compiled<Template>) -> Result<String> {
        self.filled(text, Template::render)
    }

    /// The words of a command line of the lab file with the values in their places.
    ///
    /// # Errors
    /// An expression in it that has no value, and a value that would be an option.
    pub(crate) fn words(&self, line: &Compiled<CommandLine>) -> Result<Vec<String>> {
        self.filled(line, CommandLine::render)
    }

    fn filled<T: Compile, Filled>(
        &self,
        compiled: &Compiled<T>,
        fill: impl Fn(&T, &Scope) -> Result<Filled, String>,
    ) -> Result<Filled> {
        let made = compiled.get().map_err(|fault| anyhow!("`{}`: {fault}", compiled.text()))?;
        let expressions = made.expressions();
        let names = expressions.iter().flat_map(|(_, expression)| expression.variables());
        fill(made, &self.named(names)).map_err(|error| anyhow!("`{}`: {error}", compiled.text()))
    }

    /// The pods named in a step, or all of the target's workload: of a set by ordinal, of a Deployment those that
    /// are there.
    ///
    /// # Errors
    /// As [`Bench::text`], and a text that came to something that is no name.
    pub(crate) fn pods(&self, named: &[Compiled<Template>]) -> Result<Vec<String>> {
        if !named.is_empty() {
            let pod = |text: &Compiled<Template>| {
                let name = self.text(text)?;
                ensure!(is_name(&name), "`{}` came to {name:?}, which is no name of a pod", text.text());
                Ok(name)
            };
            return named.iter().map(pod).collect();
        }
        Ok(self.target.roles.pods.clone().unwrap_or_else(|| {
            let ours = |pod: &Json| {
                let selected = |selector| condition::fits(selector, &pod["metadata"]["labels"]);
                self.target.selector.as_object().is_none_or(selected) && !condition::going(pod)
            };
            let pods = self.timeline.objects(Kind::Pod).into_iter();
            pods.filter(|(_, pod)| ours(pod)).map(|(name, _)| name).collect()
        }))
    }

    /// Runs a tool, keeps what it printed as evidence, and returns it whatever its status.
    ///
    /// # Errors
    /// When it can't run or does not end in time.
    pub(crate) async fn run(&mut self, command: Command) -> Result<Output> {
        let mut outputs = self.run_all(vec![command]).await?;
        outputs.pop().context("one command has one output")
    }

    /// Runs tools side by side that have to end with a status, and returns what they printed.
    ///
    /// # Errors
    /// As [`Bench::run_all`], and when one ends otherwise.
    pub(crate) async fn run_all_to(&mut self, commands: Vec<Command>, status: i32) -> Result<Vec<Output>> {
        let outputs = self.run_all(commands.clone()).await?;
        transient::ended(&commands, outputs, status)
    }

    /// Runs tools side by side and keeps what they printed in the order given, also when that is cut short.
    ///
    /// # Errors
    /// When one can't run or does not end in time.
    pub(crate) async fn run_all(&mut self, commands: Vec<Command>) -> Result<Vec<Output>> {
        let (tools, ledger) = (&self.access.tools, &self.timeline.ledger);
        let entry = Entry { commands: &commands, into: &mut self.commands, states: Mutex::default() };
        let runs = commands.iter().enumerate().map(|(at, command)| {
            let entry = &entry;
            async move {
                let _turn = tools.acquire().await?;
                let began = Instant::now();
                entry.note(at, State::Begun(began));
                let output = transient::output(command).await;
                ledger.cluster(began, Instant::now());
                let (output, before) = output?;
                entry.note(at, State::Ended(CommandRecord { before, ..record_of(command, &output) }));
                anyhow::Ok(output)
            }
        });
        try_join_all(runs).await
    }

    /// `kubectl` in the experiment's namespace.
    pub(crate) fn kubectl(&self) -> Command {
        self.access.kubectl.clone().args(["--namespace", &self.namespace])
    }

    /// `kubectl exec` in a pod, in the container of the app.
    pub(crate) fn exec(&self, pod: &str) -> Command {
        let container = self.target.container.iter().flat_map(|name| ["--container", name]);
        self.kubectl().args(["exec", pod]).args(container).arg("--")
    }

    /// Keeps in mind what was adapted.
    pub(crate) fn adapted(&mut self, says: impl IntoIterator<Item = String>) {
        for says in says {
            if !self.adapted.contains(&says) {
                self.adapted.push(says);
            }
        }
    }

    /// `helm` in the experiment's namespace, as the release's user.
    pub(crate) fn helm(&self) -> Command {
        self.target.release.helm(&self.access.helm).args(["--namespace", &self.namespace])
    }

    /// Lets the watches catch up with what the last act did to the workloads, so that a condition is not judged on
    /// the state before it.
    ///
    /// # Errors
    /// When the API server does not answer, or the watches do not catch up.
    pub(crate) async fn settle(&self) -> Result<()> {
        let sets: Api<StatefulSet> = Api::namespaced(self.access.client.clone(), &self.namespace);
        let deployments: Api<Deployment> = Api::namespaced(self.access.client.clone(), &self.namespace);
        let all = ListParams::default();
        let what = format!("list the workloads of {}", self.namespace);
        let (sets, deployments) = tokio::try_join!(
            transient::read(&what, || sets.list(&all)),
            transient::read(&what, || deployments.list(&all))
        )?;
        let sets = sets.items.iter().map(|set| (Kind::StatefulSet, &set.metadata));
        let deployments = deployments.items.iter().map(|deployment| (Kind::Deployment, &deployment.metadata));
        let now: Vec<(Kind, String, u64)> = sets
            .chain(deployments)
            .map(|(kind, metadata)| {
                let version = metadata.resource_version.as_deref().and_then(|version| version.parse().ok());
                (kind, metadata.name.clone().unwrap_or_default(), version.unwrap_or(0))
            })
            .collect();
        let timeline = &self.timeline;
        let gone = |kind: Kind| {
            let listed = |name: &String| now.iter().any(|(k, n, _)| *k == kind && n == name);
            timeline.names(kind).iter().all(listed)
        };
        let caught_up = || {
            let current = now.iter().all(|(kind, name, version)| timeline.reached(*kind, name, *version));
            Ok(current && gone(Kind::StatefulSet) && gone(Kind::Deployment))
        };
        let last_seen = || "the watches are behind the API server".to_owned();
        let (since, deadline) = (self.act.ended, Duration::from_secs(15));
        let wait = Wait { timeline, what: "watches to catch up", since, deadline, act: None };
        wait.until(caught_up, last_seen).await
    }
}

/// Enters the commands that run side by side when all have ended, or when they are cut short.
struct Entry<'a> {
    commands: &'a [Command],
    into: &'a mut Vec<CommandRecord>,
    /// By place.
    states: Mutex<BTreeMap<usize, State>>,
}

/// How far a command has come that had its turn.
enum State {
    Begun(Instant),
    Ended(CommandRecord),
}

impl Entry<'_> {
    fn note(&self, at: usize, state: State) {
        self.states.lock().unwrap_or_else(PoisonError::into_inner).insert(at, state);
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        let states = self.states.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.into.extend(std::mem::take(states).into_iter().map(|(at, state)| match state {
            State::Ended(record) => record,
            // It is ended with this, by a signal.
            State::Begun(began) => CommandRecord {
                argv: self.commands[at].argv(),
                status: -1,
                duration_ms: millis(began.elapsed()),
                stdout: String::new(),
                stderr: String::new(),
                before: Vec::new(),
            },
        }));
    }
}

/// What is kept of a command.
pub(crate) fn record_of(command: &Command, output: &Output) -> CommandRecord {
    CommandRecord {
        argv: command.argv(),
        status: output.status,
        duration_ms: millis(output.duration),
        stdout: output.stdout.clone(),
        stderr: output.stderr.clone(),
        before: Vec::new(),
    }
}

/// What expressions see of a command.
pub(crate) fn seen(output: &Output) -> Json {
    json!({"status": output.status, "stdout": output.stdout, "stderr": output.stderr})
}
