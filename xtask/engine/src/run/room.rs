//! What the nodes can still hold: experiments begin side by side only as far as their pods fit.

use std::collections::BTreeMap;
use std::ops::{AddAssign, SubAssign};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Result, bail};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, ListParams};
use serde_json::Value as Json;
use tokio::sync::Notify;

use crate::run::namespaces::Namespaces;
use crate::transient;
use machine::advice::advised;
use model::condition;
use model::spec::{Experiment, Step};

/// What pods ask a node for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Ask {
    pods: i64,
    /// Thousandths of a core.
    cpu_m: i64,
    memory_bytes: i64,
}

impl Ask {
    /// What an experiment asks for: all that its chart renders, once for each release that it installs, with the most
    /// pods that any of its steps wants.
    pub(super) fn of(objects: &[Json], experiment: &Experiment) -> Self {
        let mut releases: BTreeMap<Option<&str>, i64> = BTreeMap::new();
        for step in &experiment.steps {
            if let Step::Install(step) | Step::Upgrade(step) = step {
                let most = releases.entry(step.release.as_deref()).or_default();
                *most = step.set.replicas.map_or(*most, |replicas| i64::from(replicas).max(*most));
            }
        }
        let mut all = Self::default();
        for most in releases.into_values() {
            objects.iter().for_each(|object| all += Self::of_object(object, most));
        }
        all
    }

    fn of_object(object: &Json, most: i64) -> Self {
        // `helm test` alone makes these.
        if condition::hook(object).is_some_and(|hook| hook.starts_with("test")) {
            return Self::default();
        }
        let count = |pointer| object.pointer(pointer).and_then(Json::as_i64).unwrap_or(1);
        let (times, spec) = match object["kind"].as_str() {
            Some("StatefulSet" | "Deployment") => {
                (count("/spec/replicas").max(most), &object["spec"]["template"]["spec"])
            }
            Some("ReplicaSet") => (count("/spec/replicas"), &object["spec"]["template"]["spec"]),
            Some("Job") => (count("/spec/parallelism"), &object["spec"]["template"]["spec"]),
            Some("Pod") => (1, &object["spec"]),
            _ => return Self::default(),
        };
        let Self { pods, cpu_m, memory_bytes } = Self::of_pod(spec);
        Self { pods: pods * times, cpu_m: cpu_m * times, memory_bytes: memory_bytes * times }
    }

    /// As the scheduler counts: what runs together is added up, what comes before alone counts where it is more.
    /// <https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/#resource-sharing-within-containers>
    fn of_pod(spec: &Json) -> Self {
        let containers = |of: &str| spec[of].as_array().cloned().unwrap_or_default();
        let (sidecars, first): (Vec<Json>, Vec<Json>) =
            containers("initContainers").into_iter().partition(|it| it["restartPolicy"] == "Always");
        let together: Vec<Json> = containers("containers").into_iter().chain(sidecars).collect();
        let asks = |of: &str| {
            let one = |container: &Json| {
                let resources = &container["resources"];
                let named = resources["requests"].get(of).or_else(|| resources["limits"].get(of));
                named.map_or(0, |named| quantity(named, if of == "cpu" { 1000.0 } else { 1.0 }))
            };
            let most = first.iter().map(one).max().unwrap_or(0);
            together.iter().map(one).sum::<i64>().max(most)
        };
        Self { pods: 1, cpu_m: asks("cpu"), memory_bytes: asks("memory") }
    }

    fn holds(self, other: Self) -> bool {
        // A node that is full of what nobody asks for more of is not full.
        let fits = |free: i64, asked: i64| asked == 0 || free >= asked;
        fits(self.pods, other.pods)
            && fits(self.cpu_m, other.cpu_m)
            && fits(self.memory_bytes, other.memory_bytes)
    }
}

impl AddAssign for Ask {
    fn add_assign(&mut self, other: Self) {
        self.pods += other.pods;
        self.cpu_m += other.cpu_m;
        self.memory_bytes += other.memory_bytes;
    }
}

impl SubAssign for Ask {
    fn sub_assign(&mut self, other: Self) {
        *self += Self { pods: -other.pods, cpu_m: -other.cpu_m, memory_bytes: -other.memory_bytes };
    }
}

/// A quantity as Kubernetes writes it, in `1/scale` of its unit; what can't be read is nothing.
/// <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/>
fn quantity(written: &Json, scale: f64) -> i64 {
    let text = written.as_str().map_or_else(|| written.to_string(), str::to_owned);
    let end = text.find(|c: char| c.is_ascii_alphabetic() && !matches!(c, 'e' | 'E')).unwrap_or(text.len());
    // `E` alone is exa, and `1E3` a thousand.
    let end = if text.ends_with('E') { text.len() - 1 } else { text[..end].trim_end_matches('E').len() };
    let (number, suffix) = text.split_at(end);
    let power = |base: f64, letters: &str| {
        letters.find(suffix.trim_end_matches('i')).map(|at| base.powi(i32::try_from(at).unwrap_or(0) + 1))
    };
    let unit = match suffix {
        "" => Some(1.0),
        "n" => Some(1e-9),
        "u" => Some(1e-6),
        "m" => Some(1e-3),
        "k" => Some(1e3),
        _ if suffix.ends_with('i') => power(1024.0, "KMGTPE"),
        _ => power(1000.0, "kMGTPE"),
    };
    let value = number.parse::<f64>().ok().zip(unit).map_or(0.0, |(number, unit)| number * unit * scale);
    value.ceil() as i64
}

/// What an experiment that wants to begin does next.
enum Turn {
    Begins,
    Waits,
    /// The namespace of one that ended goes, and with it what that asked for.
    MakesWay(String, Ask),
    /// What is kept to be looked at takes the room.
    Full,
}

/// The room of a cluster's nodes, and who has it.
pub(super) struct Room {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    /// None: nobody says, and there is no bound.
    free: Option<Ask>,
    /// Experiments that have a place, and namespaces on their way out.
    busy: usize,
    /// Namespaces of experiments that ended, which may go when there is no other room.
    ended: Vec<(String, Ask)>,
    /// What those ask for that stay to be looked at.
    kept: Ask,
    /// Namespaces that did not go, and why.
    left: Vec<String>,
}

impl Room {
    /// What the nodes that take pods have, less what runs on them already.
    ///
    /// # Errors
    /// The API server does not tell: on a cluster of somebody else's nodes may be nobody's business.
    pub(super) async fn of(client: &kube::Client) -> Result<Self> {
        let (nodes, pods) = (Api::<Node>::all(client.clone()), Api::<Pod>::all(client.clone()));
        let all = ListParams::default();
        let (nodes, pods) = tokio::try_join!(
            transient::read("list the nodes", || nodes.list(&all)),
            transient::read("list the pods", || pods.list(&all))
        )?;
        let mut free = Ask::default();
        for node in nodes {
            let node = serde_json::to_value(node)?;
            let has = &node["status"]["allocatable"];
            let mut taints = node["spec"]["taints"].as_array().into_iter().flatten();
            // What is cordoned off or not ready bears a taint as well.
            if !taints.any(|taint| taint["effect"] == "NoSchedule" || taint["effect"] == "NoExecute") {
                free += Ask {
                    pods: quantity(&has["pods"], 1.0),
                    cpu_m: quantity(&has["cpu"], 1000.0),
                    memory_bytes: quantity(&has["memory"], 1.0),
                };
            }
        }
        for pod in pods {
            let pod = serde_json::to_value(pod)?;
            let ended = ["Succeeded", "Failed"].iter().any(|phase| pod["status"]["phase"] == **phase);
            if !ended && pod["spec"]["nodeName"].is_string() {
                free -= Ask::of_pod(&pod["spec"]);
            }
        }
        Ok(Self::holding(free))
    }

    /// Room for this much.
    fn holding(free: Ask) -> Self {
        Self { state: Mutex::new(State { free: Some(free), ..State::default() }), changed: Notify::new() }
    }

    /// Room without a bound.
    pub(super) fn unbounded() -> Self {
        Self { state: Mutex::default(), changed: Notify::new() }
    }

    /// Waits for room. What ended experiments left makes way; what fits on no node begins in any case when there is
    /// nothing more to wait for, and the cluster says what it thinks of it.
    ///
    /// # Errors
    /// The room is taken by what stays.
    pub(super) async fn take(&self, ask: Ask, namespaces: &Namespaces) -> Result<()> {
        loop {
            let changed = self.changed.notified();
            match self.turn(ask) {
                Turn::Begins => return Ok(()),
                Turn::Full => bail!(advised(
                    "the namespaces that were kept take all the room there is",
                    "name fewer charts or experiments, or leave --keep out"
                )),
                Turn::Waits => changed.await,
                Turn::MakesWay(namespace, asked) => {
                    let removed = namespaces.remove(&namespace).await;
                    let mut state = self.state();
                    state.busy -= 1;
                    match removed {
                        Ok(()) => state.free.iter_mut().for_each(|free| *free += asked),
                        Err(error) => state.left.push(format!("{error:#}")),
                    }
                    drop(state);
                    self.changed.notify_waiters();
                }
            }
        }
    }

    fn turn(&self, ask: Ask) -> Turn {
        let mut state = self.state();
        let fits = state.free.is_none_or(|free| free.holds(ask));
        if !fits {
            if let Some((namespace, asked)) = state.ended.pop() {
                state.busy += 1;
                return Turn::MakesWay(namespace, asked);
            }
            if state.busy > 0 {
                return Turn::Waits;
            }
            let mut with_kept = state.free.unwrap_or_default();
            with_kept += state.kept;
            if with_kept.holds(ask) {
                return Turn::Full;
            }
        }
        state.busy += 1;
        state.free.iter_mut().for_each(|free| *free -= ask);
        Turn::Begins
    }

    /// An experiment ended: what it asked for is free as soon as its namespace is gone, where that may go.
    pub(super) fn ended(&self, ask: Ask, may_go: Option<&str>) {
        let mut state = self.state();
        state.busy -= 1;
        match may_go {
            Some(namespace) => state.ended.push((namespace.to_owned(), ask)),
            None => state.kept += ask,
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// The namespaces that did not go when they were asked to, and why.
    pub(super) fn left(self) -> Vec<String> {
        self.state.into_inner().unwrap_or_else(PoisonError::into_inner).left
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::Fake;
    use futures::future::join_all;
    use machine::identity::Identity;
    use serde_json::json;
    use std::path::Path;
    use std::sync::atomic::{AtomicI64, Ordering};

    fn pods(pods: i64) -> Ask {
        Ask { pods, ..Ask::default() }
    }

    fn namespaces(fake: &Fake) -> Namespaces {
        Namespaces::of(fake.client(), Identity::here(Path::new("/cache")))
    }

    #[test]
    fn quantities_are_read_as_kubernetes_writes_them() {
        let cases = [
            (json!("100m"), 1000.0, 100),
            (json!("2"), 1000.0, 2000),
            (json!(0.5), 1000.0, 500),
            (json!("16Mi"), 1.0, 16 << 20),
            (json!("1k"), 1.0, 1000),
            (json!("1G"), 1.0, 1_000_000_000),
            (json!("2Ki"), 1.0, 2048),
            (json!("1e3"), 1.0, 1000),
            (json!("1E3"), 1.0, 1000),
            (json!("1E"), 1.0, 1_000_000_000_000_000_000),
            (json!("much"), 1.0, 0),
            (json!(null), 1.0, 0),
        ];
        for (written, scale, read) in cases {
            assert_eq!(quantity(&written, scale), read, "{written}");
        }
    }

    #[test]
    fn an_experiment_asks_for_all_that_its_chart_renders_once_for_each_release_and_at_its_largest() {
        let container = |cpu: &str| json!({"resources": {"requests": {"cpu": cpu, "memory": "16Mi"}}});
        let template =
            json!({"spec": {"initContainers": [container("50m")], "containers": [container("10m")]}});
        let test = json!({"kind": "Pod", "metadata": {"annotations": {"helm.sh/hook": "test"}}, "spec": {}});
        let set = json!({"kind": "StatefulSet", "spec": {"replicas": 3, "template": template}});
        let service = json!({"kind": "Service"});
        let experiment: Experiment = serde_json::from_value(json!({
            "id": "two", "question": "?", "claims": [],
            "steps": [{"install": {"set": {"replicas": 1}}}, {"install": {"release": "second"}},
                {"upgrade": {"set": {"replicas": 5}}}, {"upgrade": {"set": {"replicas": 2}}}]
        }))
        .unwrap();
        let ask = Ask::of(&[set, service, test], &experiment);
        assert_eq!(ask, Ask { pods: 8, cpu_m: 400, memory_bytes: 8 * (16 << 20) });
    }

    #[tokio::test]
    async fn room_is_what_the_nodes_that_take_pods_have_less_what_runs_on_them() {
        let node = |taints: Json| {
            json!({"spec": {"taints": taints},
                "status": {"allocatable": {"pods": "110", "cpu": "2", "memory": "4Gi"}}})
        };
        let pod = |phase: &str| {
            json!({"spec": {"nodeName": "n", "containers": [{"resources": {"limits": {"cpu": "500m"}}}]},
                "status": {"phase": phase}})
        };
        let nodes = [node(json!([])), node(json!([{"key": "k", "effect": "NoSchedule"}]))];
        let lists = [
            ("/api/v1/nodes", json!({"metadata": {}, "items": nodes})),
            ("/api/v1/pods", json!({"metadata": {}, "items": [pod("Running"), pod("Succeeded")]})),
        ];
        let fake = Fake::serving(move |_, asked| {
            lists.iter().find(|(path, _)| *path == asked).map(|(_, list)| (200, list.clone()))
        });
        let free = Room::of(&fake.client()).await.unwrap().state().free.unwrap();
        assert_eq!(free, Ask { pods: 109, cpu_m: 1500, memory_bytes: 4 << 30 });
    }

    #[tokio::test]
    async fn experiments_side_by_side_never_ask_for_more_than_the_nodes_hold() {
        let (room, fake) = (Room::holding(pods(5)), Fake::serving(|_, _| None));
        let (namespaces, now, most) = (namespaces(&fake), AtomicI64::new(0), AtomicI64::new(0));
        let (room, namespaces, now, most) = (&room, &namespaces, &now, &most);
        join_all((0..6).map(|_| async move {
            room.take(pods(2), namespaces).await.unwrap();
            most.fetch_max(now.fetch_add(2, Ordering::SeqCst) + 2, Ordering::SeqCst);
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            now.fetch_sub(2, Ordering::SeqCst);
            room.ended(pods(2), Some("ended"));
        }))
        .await;
        assert_eq!(most.load(Ordering::SeqCst), 4);
    }

    #[tokio::test]
    async fn what_fits_on_no_node_begins_when_nothing_else_is_under_way() {
        let (room, fake) = (Room::holding(pods(5)), Fake::serving(|_, _| None));
        let namespaces = namespaces(&fake);
        room.take(pods(3), &namespaces).await.unwrap();
        let large = room.take(pods(9), &namespaces);
        let small = async {
            tokio::task::yield_now().await;
            room.ended(pods(3), None);
        };
        tokio::join!(large, small).0.unwrap();
        assert!(fake.asked("DELETE").is_empty(), "what is kept to be looked at stays");
    }

    #[tokio::test]
    async fn the_namespace_of_an_ended_experiment_makes_way_only_when_it_must() {
        let (room, fake) = (Room::holding(pods(4)), Fake::serving(|_, _| None));
        let namespaces = namespaces(&fake);
        room.take(pods(2), &namespaces).await.unwrap();
        room.ended(pods(2), Some("lab-first"));
        room.take(pods(2), &namespaces).await.unwrap();
        assert!(fake.asked("DELETE").is_empty());
        room.take(pods(2), &namespaces).await.unwrap();
        assert_eq!(fake.asked("DELETE")[0], "DELETE /api/v1/namespaces/lab-first");
    }
    #[tokio::test]
    async fn room_that_is_taken_by_what_is_kept_is_told_at_once() {
        let (room, fake) = (Room::holding(pods(4)), Fake::serving(|_, _| None));
        let namespaces = namespaces(&fake);
        room.take(pods(3), &namespaces).await.unwrap();
        room.ended(pods(3), None);
        let full = room.take(pods(2), &namespaces).await.unwrap_err();
        assert!(format!("{full:#}").contains("kept"), "{full:#}");
        room.take(pods(1), &namespaces).await.unwrap();
    }
}
