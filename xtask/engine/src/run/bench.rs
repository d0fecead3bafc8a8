//! What a step works with: the cluster, the experiment's namespace and timeline, and what was recorded so far.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use futures::future::try_join_all;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use kube::api::{Api, ListParams};
use serde_json::{Value as Json, json};
use tokio::sync::Semaphore;

use crate::lab::target::Target;
use crate::run::timeline::Timeline;
use crate::run::wait;
use crate::transient;
use machine::command::{Command, Output};
use model::expression::{CommandLine, Compile, Compiled, Expression, Scope, Template};
use model::kinds::{Kind, is_name};
use model::record::{CommandRecord, millis};
use model::spec::Values;

/// The way into a cluster: a client for reading, and the tools that a person would type.
pub struct Access {
    /// Client for watches and reads.
    pub client: kube::Client,
    /// `kubectl` with its environment, without arguments.
    pub kubectl: Command,
    /// `helm` with its environment, without arguments.
    pub helm: Command,
    /// Tools that run at the same time: each is a process of its own on the machine's few cores.
    pub tools: Arc<Semaphore>,
}

/// The workbench of one experiment.
pub struct Bench<'a> {
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
    /// The values each release was given last.
    pub values: BTreeMap<String, Values>,
    /// The commands of the step under way.
    pub commands: Vec<CommandRecord>,
}

impl Bench<'_> {
    /// The variables that an expression reads: of what was recorded, `target`, and the watched objects.
    ///
    /// Only those, for a condition is judged anew at every change.
    pub fn scope(&self, expression: &Expression) -> Scope {
        let names = expression.variables();
        let mut scope = self.timeline.variables(names);
        scope.extend(self.named(names));
        scope
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
    pub fn text(&self, text: &Compiled<Template>) -> Result<String> {
        self.filled(text, Template::render)
    }

    /// The words of a command line of the lab file with the values in their places.
    ///
    /// # Errors
    /// An expression in it that has no value, and a value that would be an option.
    pub fn words(&self, line: &Compiled<CommandLine>) -> Result<Vec<String>> {
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
    pub fn pods(&self, named: &[Compiled<Template>]) -> Result<Vec<String>> {
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
                let labels = &pod["metadata"]["labels"];
                let selector = self.target.selector.as_object().into_iter().flatten();
                selector.into_iter().all(|(label, value)| labels[label] == *value)
                    && pod["metadata"].get("deletionTimestamp").is_none()
            };
            let pods = self.timeline.objects(Kind::Pod).into_iter();
            pods.filter(|(_, pod)| ours(pod)).map(|(name, _)| name).collect()
        }))
    }

    /// Runs a tool, keeps what it printed as evidence, and returns it whatever its status.
    ///
    /// # Errors
    /// When it can't run or does not end in time.
    pub async fn run(&mut self, command: Command) -> Result<Output> {
        let mut outputs = self.run_all(vec![command]).await?;
        outputs.pop().context("one command has one output")
    }

    /// Runs tools side by side and keeps what they printed in the order given.
    ///
    /// # Errors
    /// When one can't run or does not end in time.
    pub async fn run_all(&mut self, commands: Vec<Command>) -> Result<Vec<Output>> {
        let (tools, ledger) = (&self.access.tools, &self.timeline.ledger);
        let runs = commands.iter().map(|command| async move {
            let _turn = tools.acquire().await?;
            let began = Instant::now();
            let output = transient::output(command).await;
            ledger.cluster(began, Instant::now());
            output
        });
        let outputs = try_join_all(runs).await?;
        for (command, (output, before)) in commands.iter().zip(&outputs) {
            self.commands.push(CommandRecord { before: before.clone(), ..record_of(command, output) });
        }
        Ok(outputs.into_iter().map(|(output, _)| output).collect())
    }

    /// `kubectl` in the experiment's namespace.
    pub fn kubectl(&self) -> Command {
        self.access.kubectl.clone().args(["--namespace", &self.namespace])
    }

    /// `helm` in the experiment's namespace, as the release's user.
    pub fn helm(&self) -> Command {
        self.target.release.helm(&self.access.helm).args(["--namespace", &self.namespace])
    }

    /// Lets the watches catch up with what a mutation just did to the workloads, so that a condition is not
    /// judged on the state before it. `acted` is when that ended.
    ///
    /// # Errors
    /// When the API server does not answer, or the watches do not catch up.
    pub async fn settle(&self, acted: Instant) -> Result<()> {
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
        // Resource versions of one resource can be compared as numbers: KEP-5504.
        let caught_up = || {
            let current = |(kind, name, version): &(Kind, String, u64)| {
                self.timeline.resource_version(*kind, name).is_some_and(|seen| seen >= *version)
            };
            let gone = |kind: Kind| {
                self.timeline
                    .names(kind)
                    .iter()
                    .all(|name| now.iter().any(|(k, n, _)| *k == kind && n == name))
            };
            Ok(now.iter().all(current) && gone(Kind::StatefulSet) && gone(Kind::Deployment))
        };
        let last_seen = || "the watches are behind the API server".to_owned();
        let (what, deadline) = ("watches to catch up", Duration::from_secs(15));
        wait::until(&self.timeline, what, acted, deadline, caught_up, last_seen).await
    }
}

/// What is kept of a command.
pub fn record_of(command: &Command, output: &Output) -> CommandRecord {
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
pub fn seen(output: &Output) -> Json {
    json!({"status": output.status, "stdout": output.stdout, "stderr": output.stderr})
}
