//! `install`, `upgrade` and `uninstall`: the release by the real Helm, then wait for its workloads.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::Value as Json;

use crate::lab::release::merge;
use crate::run::bench::{Bench, seen};
use crate::run::timeline::Timeline;
use crate::run::wait::{self, Act, Wait};
use crate::transient;
use machine::command::Command;
use model::condition;
use model::kinds::Kind;
use model::spec::{Install, Uninstall};

pub(super) async fn install(step: &Install, bench: &mut Bench<'_>) -> Result<Json> {
    let (release, helm) = (&bench.target.release, bench.helm());
    let name = step.release.as_ref().unwrap_or(&release.name);
    let values = bench.values.entry(name.clone()).or_insert_with(|| release.values.clone());
    merge(values, &step.values);
    // A hook that never ends must not outlive the step.
    let command = release.upgrade(helm, &bench.namespace, name, values, step.timeout_s)?;
    let command = command.deadline(Duration::from_secs(step.timeout_s + 5));
    let began = Instant::now();
    let timeline = Arc::clone(&bench.timeline);
    let output = tokio::select! {
        output = bench.run(command.clone()) => output?,
        // Helm waits for a hook to the end of its time, also for one whose image will never be there.
        error = wait::hook_in_vain(&timeline, began) => return Err(error.into()),
    };
    if output.status != 0 {
        return Err(transient::failed(&command, output));
    }
    bench.act = Act { began, ended: Instant::now() };
    bench.settle().await?;
    if step.wait {
        rolled_out(bench, Duration::from_secs(step.timeout_s)).await?;
    }
    Ok(seen(&output))
}

pub(super) async fn uninstall(step: &Uninstall, bench: &mut Bench<'_>) -> Result<Json> {
    let release = step.release.clone().unwrap_or_else(|| bench.target.release.name.clone());
    let command = uninstalling(bench.helm(), &release, step.timeout_s);
    let began = Instant::now();
    let output = bench.run(command.clone()).await?;
    if output.status != 0 {
        return Err(transient::failed(&command, output));
    }
    bench.act = Act { began, ended: Instant::now() };
    bench.values.remove(&release);
    let ours = |bench: &Bench<'_>| -> Vec<String> {
        let pods = bench.timeline.objects(Kind::Pod).into_iter();
        let of_release = |pod: &Json| {
            pod.pointer("/metadata/labels/app.kubernetes.io~1instance").is_some_and(|name| *name == *release)
        };
        pods.filter(|(_, pod)| of_release(pod)).map(|(name, _)| name.clone()).collect()
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
    use serde_json::json;

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
