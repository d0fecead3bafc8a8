//! `install`, `upgrade` and `uninstall`: the release by the real Helm, then wait for its workloads.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::{Value as Json, json};

use crate::lab::changes::nested;
use crate::lab::post_render;
use crate::lab::release::{merge, merge_value};
use crate::run::bench::{Bench, seen};
use crate::run::timeline::Timeline;
use crate::run::wait::{self, Act, Wait};
use crate::transient;
use machine::command::{Command, Output};
use model::condition;
use model::kinds::Kind;
use model::record::Field;
use model::spec::{Install, Uninstall};
use model::text::last_line;

pub(super) async fn install(step: &Install, bench: &mut Bench<'_>) -> Result<Json> {
    let (mut release, helm) = (bench.target.release.clone(), bench.helm());
    if step.next_version {
        let (pack, archive) = release.next_version(helm.clone(), &bench.namespace)?;
        let output = bench.run(pack.clone()).await?;
        if output.status != 0 {
            return Err(transient::failed(&pack, output));
        }
        release.chart = archive;
    }
    let name = step.release.as_ref().unwrap_or(&release.name);
    let before = bench.asked.get(name).map(|(_, set)| release.wanted(set)).unwrap_or_default();
    let asked = bench.asked.entry(name.clone());
    let (values, set) = asked.or_insert_with(|| (release.values.clone(), release.set.clone()));
    merge(values, &step.values);
    set.lay(&step.set);
    let wanted = release.wanted(set);
    let values = release.values_for(values, &wanted);
    // A hook that never ends must not outlive the step.
    let mut command = release.upgrade(helm, &bench.namespace, name, &values, step.timeout_s)?;
    let file = release.changes_file(&bench.namespace, name);
    let mut changes = release.needed_changes(&wanted, &bench.target.rendered);
    if let Some(adapt) = changes.as_mut().and_then(|changes| changes.adapt.as_mut()) {
        adapt.namespace.clone_from(&bench.namespace);
    }
    if let Some(changes) = &changes {
        post_render::ask(&release.root.join(&file), changes)?;
        command = bench.access.post_renderer.with(command, &file);
    }
    command = command.deadline(Duration::from_secs(step.timeout_s + 5));
    let began = Instant::now();
    let mut output = helm_in_time(&command, bench, began).await?;
    if release.adapt.is_some() && output.status != 0 && only_on_the_server(&output.stderr) {
        bench.adapted([format!("installed with --server-side=false, for {}", last_line(&output.stderr))]);
        command = command.arg("--server-side=false");
        output = helm_in_time(&command, bench, began).await?;
    }
    let changed = changes.and_then(|_| post_render::answered(&release.root.join(&file))).unwrap_or_default();
    let fields = release.origins(&wanted, &changed, &bench.target.rendered);
    let is_new =
        |field: &&Field| before.iter().all(|old| old.field != field.field || old.value != field.value);
    // Of another release the same would be told again, with other names.
    if *name == release.name {
        bench.adapted(changed.adapted);
    }
    bench.set = fields.iter().filter(is_new).cloned().collect();
    let failed = output.status != 0;
    if failed && !step.may_fail {
        return Err(transient::failed(&command, output));
    }
    bench.act = Act { began, ended: Instant::now() };
    bench.settle().await?;
    if step.wait && !failed {
        rolled_out(bench, Duration::from_secs(step.timeout_s)).await?;
    }
    let mut recorded = seen(&output);
    recorded["set"] = seen_of(&fields);
    Ok(recorded)
}

/// Runs Helm, which waits for a hook to the end of its time, also for one whose image will never be there.
async fn helm_in_time(command: &Command, bench: &mut Bench<'_>, began: Instant) -> Result<Output> {
    let timeline = Arc::clone(&bench.timeline);
    tokio::select! {
        output = bench.run(command.clone()) => output,
        error = wait::hook_in_vain(&timeline, began) => Err(error.into()),
    }
}

/// Whether it is applying on the server that refuses an object: what the API server would drop without a word.
/// <https://kubernetes.io/docs/reference/using-api/server-side-apply/>
fn only_on_the_server(says: &str) -> bool {
    ["field not declared in schema", "duplicate entries for key", "failed to create typed patch object"]
        .iter()
        .any(|words| says.contains(words))
}

/// What expressions see of the fields: `set.replicas.from`.
fn seen_of(fields: &[Field]) -> Json {
    let mut all = json!({});
    for Field { field, value, from, by } in fields {
        let way: Vec<String> = field.split('.').map(str::to_owned).collect();
        merge_value(&mut all, &nested(&way, json!({"value": value, "from": from, "by": by})));
    }
    all
}

pub(super) async fn uninstall(step: &Uninstall, bench: &mut Bench<'_>) -> Result<Json> {
    let release = step.release.clone().unwrap_or_else(|| bench.target.release.name.clone());
    let theirs = pods_of(&release, &bench.timeline);
    let command = uninstalling(bench.helm(), &release, step.timeout_s);
    let began = Instant::now();
    let output = bench.run(command.clone()).await?;
    if output.status != 0 {
        return Err(transient::failed(&command, output));
    }
    bench.act = Act { began, ended: Instant::now() };
    bench.asked.remove(&release);
    let ours = |bench: &Bench<'_>| -> Vec<String> {
        let pods = bench.timeline.objects(Kind::Pod).into_iter();
        pods.filter(|(name, _)| theirs.contains(name)).map(|(name, _)| name).collect()
    };
    let timeline = std::sync::Arc::clone(&bench.timeline);
    let what = format!("pods of release {release} to be gone");
    let (since, deadline) = (bench.act.ended, Duration::from_secs(step.timeout_s));
    let last_seen = || format!("still there: {}", ours(bench).join(", "));
    // A pod that can't run goes like any other.
    let wait = Wait { timeline: &timeline, what: &what, since, deadline, act: None };
    wait.until(|| Ok(ours(bench).is_empty()), last_seen).await?;
    Ok(seen(&output))
}

/// The pods of the workloads that Helm says are a release's, whatever their labels.
fn pods_of(release: &str, timeline: &Timeline) -> BTreeSet<String> {
    let pods = timeline.objects(Kind::Pod);
    let mut found = BTreeSet::new();
    for kind in [Kind::StatefulSet, Kind::Deployment] {
        let ours = timeline.objects(kind).into_iter().map(|(_, workload)| workload).filter(|workload| {
            workload
                .pointer("/metadata/annotations/meta.helm.sh~1release-name")
                .is_some_and(|name| name == release)
        });
        for workload in ours {
            let labels = workload.pointer("/spec/selector/matchLabels").and_then(Json::as_object);
            let selects =
                |pod: &Json| labels.is_some_and(|labels| condition::fits(labels, &pod["metadata"]["labels"]));
            found.extend(pods.iter().filter(|(_, pod)| selects(pod)).map(|(name, _)| name.clone()));
        }
    }
    found
}

/// `helm uninstall`, which takes as long as the hooks of the chart do.
fn uninstalling(helm: Command, release: &str, timeout_s: u64) -> Command {
    /// How long Helm waits for a hook unless it is told otherwise.
    const HELM_S: u64 = 300;
    let command = helm.args(["uninstall", release]).deadline(Duration::from_secs(timeout_s + 5));
    if timeout_s > HELM_S { command.arg(format!("--timeout={timeout_s}s")) } else { command }
}

/// Waits until every StatefulSet and Deployment of the namespace is rolled out.
async fn rolled_out(bench: &Bench<'_>, deadline: Duration) -> Result<()> {
    let workloads = || {
        let of = |kind| bench.timeline.objects(kind).into_iter();
        of(Kind::StatefulSet).chain(of(Kind::Deployment))
    };
    let condition = || Ok(all_rolled_out(&bench.timeline));
    let last_seen = || {
        let ready = |workload: &Json, pointer| workload.pointer(pointer).and_then(Json::as_i64).unwrap_or(0);
        let lines = workloads().map(|(name, workload)| {
            let (ready, all) =
                (ready(&workload, "/status/readyReplicas"), ready(&workload, "/spec/replicas"));
            let updated = workload.pointer("/status/updatedReplicas").and_then(Json::as_i64).unwrap_or(0);
            format!("{name}: {ready} of {all} ready, {updated} updated")
        });
        lines.collect::<Vec<_>>().join("; ")
    };
    let what = format!("workloads of {} to be rolled out", bench.namespace);
    let (timeline, since) = (&bench.timeline, bench.act.ended);
    let wait = Wait { timeline, what: &what, since, deadline, act: Some(bench.act) };
    wait.until(condition, last_seen).await
}

/// Whether every workload has all it asks for, and the watch of the pods has seen so too: a set may tell of its last
/// ready pod before the pod itself does, and the next step would begin before that.
fn all_rolled_out(timeline: &Timeline) -> bool {
    let mut ready: BTreeMap<String, i64> = BTreeMap::new();
    timeline.find_object(Kind::Pod, |_, pod| -> Option<()> {
        let owner =
            pod.pointer("/metadata/ownerReferences/0").filter(|owner| owner["kind"] == "StatefulSet")?;
        if condition::ready(pod) {
            *ready.entry(owner["name"].as_str()?.to_owned()).or_default() += 1;
        }
        None
    });
    let unfinished = |_: &str, workload: &Json| (!condition::rolled_out(workload)).then_some(());
    let unseen = |name: &str, set: &Json| {
        let asked = set.pointer("/spec/replicas").and_then(Json::as_i64).unwrap_or(1);
        (ready.get(name).copied().unwrap_or(0) < asked).then_some(())
    };
    timeline.find_object(Kind::StatefulSet, unfinished).is_none()
        && timeline.find_object(Kind::Deployment, unfinished).is_none()
        && timeline.find_object(Kind::StatefulSet, unseen).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_uninstall_has_the_time_that_its_step_gives_it() {
        let command = |timeout_s| uninstalling(Command::new("helm"), "counter", timeout_s);
        let (short, long) = (format!("{:?}", command(30)), format!("{:?}", command(600)));
        assert!(short.contains("deadline: 35s") && !short.contains("--timeout"), "{short}");
        assert!(long.contains("deadline: 605s") && long.contains("--timeout=600s"), "{long}");
    }

    #[test]
    fn a_set_that_is_ahead_of_its_pods_is_waited_for() {
        let timeline = Timeline::begin();
        let status = json!({"observedGeneration": 1, "replicas": 1, "readyReplicas": 1, "availableReplicas": 1,
            "updatedReplicas": 1});
        timeline.applied(
            Kind::StatefulSet,
            json!({"metadata": {"name": "counter", "uid": "s", "generation": 1}, "spec": {"replicas": 1}, "status": status}),
        );
        let pod = |ready: &str| {
            json!({"metadata": {"name": "counter-0", "uid": "p",
                "ownerReferences": [{"kind": "StatefulSet", "name": "counter"}]},
                "status": {"conditions": [{"type": "Ready", "status": ready}]}})
        };
        timeline.applied(Kind::Pod, pod("False"));
        assert!(!all_rolled_out(&timeline));
        timeline.applied(Kind::Pod, pod("True"));
        assert!(all_rolled_out(&timeline));
    }
}
