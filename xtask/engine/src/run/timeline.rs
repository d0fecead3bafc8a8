//! One experiment's timeline: the objects of its namespace as the watches last saw them, and every
//! transition they went through, with a monotonic time.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Instant;

use serde::Deserialize;
use serde_json::Value as Json;
use tokio::sync::watch;

use crate::run::ledger::Ledger;
use machine::identity;
use model::condition::{self, text};
use model::expression::Scope;
use model::kinds::{Change, Kind, NODES, WATCHED};
use model::record::{Transition, millis};

/// The objects of one namespace by kind and name, and their history.
#[derive(Debug)]
pub struct Timeline {
    /// Whose time it was.
    pub ledger: Ledger,
    started: Instant,
    state: Mutex<State>,
    changed: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct State {
    objects: BTreeMap<Kind, BTreeMap<String, Json>>,
    /// When each object was seen last; of an event, when it happened last.
    seen: BTreeMap<Kind, BTreeMap<String, Instant>>,
    /// How far the watch of each kind has come. ResourceVersions of one resource compare as numbers: KEP-5504.
    versions: BTreeMap<Kind, u64>,
    transitions: Vec<Transition>,
    /// When each change was delivered by a watch.
    arrivals: Vec<Instant>,
    /// The kinds whose watch is down, and the error seen last.
    down: BTreeMap<Kind, String>,
}

impl Timeline {
    /// An empty timeline that begins now.
    pub fn begin() -> Self {
        Self {
            ledger: Ledger::default(),
            started: Instant::now(),
            state: Mutex::default(),
            changed: watch::Sender::new(0),
        }
    }

    /// When it began.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Milliseconds since it began.
    pub fn now_ms(&self) -> u64 {
        millis(self.started.elapsed())
    }

    /// Now, but later than everything seen so far: what ended a wait is before the step that follows, also when both
    /// are in one millisecond.
    pub fn moment(&self) -> u64 {
        let last = self.lock().transitions.last().map_or(0, |transition| transition.at_ms + 1);
        self.now_ms().max(last)
    }

    /// Takes an object as a watch delivered it.
    pub fn applied(&self, kind: Kind, object: Json) {
        let name = text(&object, "/metadata/name").to_owned();
        let (at_ms, now) = (self.now_ms(), Instant::now());
        self.update(|state| {
            state.comes_to(kind, version(&object));
            let known = state.objects.entry(kind).or_default();
            let previous = known.get(&name);
            let found = transitions(kind, previous, Some(&object), at_ms);
            // That an event is delivered again does not mean that it happened again.
            if kind != Kind::Event || !found.is_empty() {
                state.seen.entry(kind).or_default().insert(name.clone(), now);
            }
            if kind == Kind::Event {
                // Only what they say is kept: an event is no state.
                known.insert(name, Json::Object(keys_of(&object)));
            } else {
                known.insert(name, object);
            }
            state.transitions.extend(found);
        });
    }

    /// Takes an object that was there before this timeline began.
    pub fn knows(&self, kind: Kind, object: Json) {
        let name = text(&object, "/metadata/name").to_owned();
        self.update(|state| drop(state.objects.entry(kind).or_default().insert(name, object)));
    }

    /// Takes note that an object is gone.
    pub fn deleted(&self, kind: Kind, object: &Json) {
        let (at_ms, name) = (self.now_ms(), text(object, "/metadata/name"));
        self.update(|state| {
            state.comes_to(kind, version(object));
            let previous = state.objects.get_mut(&kind).and_then(|known| known.remove(name));
            state.transitions.extend(transitions(kind, previous.as_ref(), None, at_ms));
        });
    }

    /// Takes note that the watch of a kind broke, or could not be taken up again.
    pub fn watch_dropped(&self, kind: Kind, error: &str) {
        let at_ms = self.now_ms();
        self.update(|state| {
            if state.down.insert(kind, error.to_owned()).is_none() {
                state.transitions.push(of_watch(kind, at_ms, Change::Dropped, error));
            }
        });
    }

    /// Takes note that a watch goes on where it stopped: what happened meanwhile is still to come.
    pub fn watch_resumed(&self, kind: Kind) {
        let at_ms = self.now_ms();
        self.update(|state| {
            if state.down.remove(&kind).is_some() {
                state.transitions.push(of_watch(
                    kind,
                    at_ms,
                    Change::Resumed,
                    "from the place where it stopped",
                ));
            }
        });
    }

    /// The kinds whose watch is down, each with the error seen last.
    pub fn down(&self) -> BTreeMap<Kind, String> {
        self.lock().down.clone()
    }

    /// Takes a whole list, as it was at a resourceVersion, after a watch was dropped: what isn't in it is gone, what
    /// changed meanwhile is noted once, and the break itself is told.
    pub fn relisted(&self, kind: Kind, names: &[String], version: u64) {
        let at_ms = self.now_ms();
        self.update(|state| {
            state.comes_to(kind, version);
            let known = state.objects.entry(kind).or_default();
            let gone: Vec<String> = known.keys().filter(|name| !names.contains(name)).cloned().collect();
            for name in gone {
                let previous = known.remove(&name);
                state.transitions.extend(transitions(kind, previous.as_ref(), None, at_ms));
            }
            state.down.remove(&kind);
            state.transitions.push(of_watch(
                kind,
                at_ms,
                Change::Relisted,
                "what came and went meanwhile was not seen",
            ));
        });
    }

    /// Tells of every change from now on, by how many there were.
    pub fn subscribe(&self) -> watch::Receiver<usize> {
        self.changed.subscribe()
    }

    /// When a watch delivered the change after so many.
    pub fn arrival(&self, after: usize) -> Option<Instant> {
        self.lock().arrivals.get(after).copied()
    }

    /// Those of the variables `pods`, `statefulsets`, …, each a map by name, and `timeline` that are named.
    pub fn variables(&self, names: &[String]) -> Scope {
        let mut scope = Scope::new();
        for watched in WATCHED.iter().chain([&NODES]) {
            if let Some(variable) = names.iter().find(|name| watched.variable == Some(name)) {
                scope.insert(variable.clone(), Json::Object(self.objects(watched.kind)));
            }
        }
        if names.iter().any(|name| name == "timeline") {
            scope.insert("timeline".to_owned(), serde_json::to_value(self.transitions()).unwrap_or_default());
        }
        scope
    }

    /// The objects of a kind by name.
    pub fn objects(&self, kind: Kind) -> Scope {
        self.lock().objects.get(&kind).map(|known| known.clone().into_iter().collect()).unwrap_or_default()
    }

    /// The first thing found among the objects of a kind, without a copy of them: a condition is judged at every
    /// change.
    pub fn find_object<T>(&self, kind: Kind, mut find: impl FnMut(&str, &Json) -> Option<T>) -> Option<T> {
        self.lock().objects.get(&kind)?.iter().find_map(|(name, object)| find(name, object))
    }

    /// The first thing found among those objects of a kind that were seen at some moment or later.
    pub fn find_seen<T>(
        &self,
        kind: Kind,
        since: Instant,
        mut find: impl FnMut(&Json) -> Option<T>,
    ) -> Option<T> {
        let state = self.lock();
        let objects = state.objects.get(&kind)?.iter();
        let mut late = objects.filter(|(name, _)| state.saw(kind, name).is_some_and(|seen| seen >= since));
        late.find_map(|(_, object)| find(object))
    }

    /// The first thing found among the events that happened at some moment or later, each with the object that it is
    /// about, where such are watched. What befell an object that is gone by now, or another one, is not asked about.
    pub fn find_event<T>(
        &self,
        since: Instant,
        mut find: impl FnMut(&Json, Option<&Json>) -> Option<T>,
    ) -> Option<T> {
        let state = self.lock();
        let events = state.objects.get(&Kind::Event)?.iter();
        let mut late = events.filter(|(name, _)| state.saw(Kind::Event, name).is_some_and(|at| at >= since));
        late.find_map(|(_, event)| {
            let Ok(kind) = Kind::deserialize(&event["involvedObject"]["kind"]) else {
                return find(event, None);
            };
            let object = state.objects.get(&kind)?.get(text(event, "/involvedObject/name"))?;
            let same = text(object, "/metadata/uid") == text(event, "/involvedObject/uid");
            same.then(|| find(event, Some(object))).flatten()
        })
    }

    /// Whether the watch of a kind has come as far as an object at a resourceVersion: it has seen it so or later, or
    /// is past that and the object is gone.
    pub fn reached(&self, kind: Kind, name: &str, version: u64) -> bool {
        let state = self.lock();
        let object = state.objects.get(&kind).and_then(|known| known.get(name));
        object.map_or(state.versions.get(&kind).copied().unwrap_or(0), self::version) >= version
    }

    /// The names of a kind's objects.
    pub fn names(&self, kind: Kind) -> Vec<String> {
        self.lock().objects.get(&kind).map(|known| known.keys().cloned().collect()).unwrap_or_default()
    }

    /// Everything that happened so far.
    pub fn transitions(&self) -> Vec<Transition> {
        self.lock().transitions.clone()
    }

    fn update(&self, change: impl FnOnce(&mut State)) {
        let arrived = Instant::now();
        let mut state = self.lock();
        change(&mut state);
        state.arrivals.push(arrived);
        self.changed.send_replace(state.arrivals.len());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl State {
    fn comes_to(&mut self, kind: Kind, version: u64) {
        let known = self.versions.entry(kind).or_default();
        *known = version.max(*known);
    }

    fn saw(&self, kind: Kind, name: &str) -> Option<Instant> {
        self.seen.get(&kind)?.get(name).copied()
    }
}

/// The resourceVersion of an object as a number; 0 where it has none.
fn version(object: &Json) -> u64 {
    text(object, "/metadata/resourceVersion").parse().unwrap_or(0)
}

/// What became of our own watch of a kind. It is no transition of an object of that kind: to claims about those it
/// must not look like one.
fn of_watch(kind: Kind, at_ms: u64, what: Change, detail: &str) -> Transition {
    Transition {
        at_ms,
        kind: Kind::Watch,
        name: kind.to_string(),
        uid: String::new(),
        what,
        resource_version: String::new(),
        revision: None,
        detail: Some(detail.to_owned()),
    }
}

/// What happened between two states of an object.
fn transitions(kind: Kind, previous: Option<&Json>, next: Option<&Json>, at_ms: u64) -> Vec<Transition> {
    let Some(object) = next.or(previous) else {
        return vec![];
    };
    let same = |a: &Json, b: &Json| text(a, "/metadata/uid") == text(b, "/metadata/uid");
    let note = |object: &Json, what: Change, detail: Option<String>| Transition {
        at_ms,
        kind,
        name: text(object, if kind == Kind::Event { "/involvedObject/name" } else { "/metadata/name" })
            .to_owned(),
        uid: text(object, "/metadata/uid").to_owned(),
        what,
        resource_version: text(object, "/metadata/resourceVersion").to_owned(),
        revision: (kind == Kind::Pod)
            .then(|| text(object, "/metadata/labels/controller-revision-hash").to_owned())
            .filter(|r| !r.is_empty()),
        detail,
    };
    match (previous, next) {
        // A watch that was dropped may miss the moment between the old pod and the new one of the same name.
        (Some(old), Some(new)) if !same(old, new) => {
            let mut both = vec![note(old, Change::Deleted, None)];
            both.extend(transitions(kind, None, Some(new), at_ms));
            both
        }
        (_, None) if kind == Kind::Event => vec![],
        (_, None) => vec![note(object, Change::Deleted, None)],
        (old, Some(new)) if kind == Kind::Event => {
            let count = |event: Option<&Json>| event.and_then(|event| event["count"].as_i64()).unwrap_or(0);
            if old.is_some() && count(old) == count(Some(new)) {
                return vec![];
            }
            vec![note(
                new,
                Change::Reason(text(new, "/reason").to_owned()),
                Some(text(new, "/message").to_owned()),
            )]
        }
        (old, Some(new)) => {
            let mut found = Vec::new();
            if old.is_none() {
                found.push(note(new, Change::Created, None));
            }
            for (what, detail) in changes(kind, old.unwrap_or(&Json::Null), new) {
                found.push(note(new, what, detail));
            }
            found
        }
    }
}

fn changes(kind: Kind, old: &Json, new: &Json) -> Vec<(Change, Option<String>)> {
    let mut found = Vec::new();
    let appeared = |pointer: &str| old.pointer(pointer).is_none() && new.pointer(pointer).is_some();
    match kind {
        Kind::Pod => {
            let phase =
                |pod: &Json, name: &str| pod.pointer("/status/phase").is_some_and(|phase| phase == name);
            let (was_ready, is_ready) = (condition_true(old), condition_true(new));
            if appeared("/spec/nodeName") {
                found.push((Change::Scheduled, Some(identity::node(text(new, "/spec/nodeName")).to_owned())));
            }
            for (name, what) in
                [("Running", Change::Running), ("Succeeded", Change::Succeeded), ("Failed", Change::Failed)]
            {
                if phase(new, name) && !phase(old, name) {
                    found.push((what, None));
                }
            }
            if restarts(new) > restarts(old) {
                found.push((Change::Restarted, Some(format!("restart {}", restarts(new)))));
            }
            if is_ready && !was_ready {
                found.push((Change::Ready, None));
            }
            if was_ready && !is_ready {
                found.push((Change::Unready, None));
            }
            if appeared("/metadata/deletionTimestamp") {
                found.push((Change::Terminating, None));
            }
        }
        Kind::PersistentVolumeClaim => {
            let bound = |claim: &Json| claim.pointer("/status/phase").is_some_and(|phase| phase == "Bound");
            if bound(new) && !bound(old) {
                found.push((Change::Bound, Some(text(new, "/spec/volumeName").to_owned())));
            }
            if appeared("/metadata/deletionTimestamp") {
                found.push((Change::Terminating, None));
            }
        }
        Kind::StatefulSet | Kind::Deployment => {
            let (before, after) = (counts(old), counts(new));
            if before != after {
                found.push((Change::Changed, Some(after)));
            }
            if condition::rolled_out(new) && !condition::rolled_out(old) {
                found.push((Change::RolledOut, None));
            }
        }
        Kind::EndpointSlice => {
            let (before, after) = (endpoints(old), endpoints(new));
            if before != after {
                found.push((Change::Changed, Some(after)));
            }
        }
        Kind::Job => {
            let succeeded =
                |job: &Json| job.pointer("/status/succeeded").and_then(Json::as_i64).unwrap_or(0) > 0;
            if succeeded(new) && !succeeded(old) {
                found.push((Change::Succeeded, None));
            }
        }
        Kind::Node => {
            let (was_ready, is_ready) = (condition_true(old), condition_true(new));
            if is_ready && !was_ready {
                found.push((Change::Ready, None));
            }
            if was_ready && !is_ready {
                found.push((Change::Unready, None));
            }
            let (before, after) = (taints(old), taints(new));
            if before != after {
                found.push((Change::Changed, Some(after)));
            }
        }
        Kind::Service | Kind::ControllerRevision | Kind::Event | Kind::Watch => {}
    }
    found
}

/// The taints of a node: what is not ready, unreachable or cordoned off bears one as well.
/// <https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/>
fn taints(node: &Json) -> String {
    let taints = node.pointer("/spec/taints").and_then(Json::as_array).into_iter().flatten();
    let mut told: Vec<String> =
        taints.map(|taint| format!("{}:{}", text(taint, "/key"), text(taint, "/effect"))).collect();
    told.sort();
    told.join(", ")
}

/// The object's own Ready condition, also while it is being deleted: `unready` is told when the kubelet says so.
fn condition_true(pod: &Json) -> bool {
    let conditions = pod.pointer("/status/conditions").and_then(Json::as_array);
    conditions
        .is_some_and(|conditions| conditions.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"))
}

fn restarts(pod: &Json) -> i64 {
    let containers = pod.pointer("/status/containerStatuses").and_then(Json::as_array);
    containers.map_or(0, |containers| containers.iter().filter_map(|c| c["restartCount"].as_i64()).sum())
}

fn counts(workload: &Json) -> String {
    let number = |pointer: &str| workload.pointer(pointer).and_then(Json::as_i64).unwrap_or(0);
    format!(
        "generation {} of {}, replicas {} of {}, ready {}, updated {}",
        number("/status/observedGeneration"),
        number("/metadata/generation"),
        number("/status/replicas"),
        number("/spec/replicas"),
        number("/status/readyReplicas"),
        number("/status/updatedReplicas")
    )
}

fn endpoints(slice: &Json) -> String {
    let list = slice["endpoints"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut names: Vec<String> = list
        .iter()
        .map(|endpoint| {
            let ready = endpoint.pointer("/conditions/ready").and_then(Json::as_bool).unwrap_or(true);
            format!("{}{}", text(endpoint, "/targetRef/name"), if ready { "" } else { " (not ready)" })
        })
        .collect();
    names.sort();
    names.join(", ")
}

fn keys_of(event: &Json) -> Scope {
    let keep = ["metadata", "involvedObject", "reason", "message", "type", "count"];
    let fields = event.as_object().into_iter().flatten();
    fields
        .filter(|(key, _)| keep.contains(&key.as_str()))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(uid: &str, status: Json) -> Json {
        json!({"metadata": {"name": "counter-1", "uid": uid, "resourceVersion": "7",
            "labels": {"controller-revision-hash": "counter-abc"}}, "spec": {}, "status": status})
    }

    fn whats(timeline: &Timeline) -> Vec<String> {
        timeline.transitions().into_iter().map(|t| t.what.to_string()).collect()
    }

    #[test]
    fn what_was_seen_is_before_the_next_step_also_within_a_millisecond() {
        let timeline = Timeline::begin();
        timeline.applied(Kind::Pod, pod("a", json!({"phase": "Pending"})));
        let seen = timeline.transitions().last().unwrap().at_ms;
        assert!(timeline.moment() > seen, "seen at {seen} ms");
    }

    #[test]
    fn a_pod_goes_through_its_life_once() {
        let timeline = Timeline::begin();
        let ready = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]});
        let mut scheduled = pod("a", json!({"phase": "Pending"}));
        scheduled["spec"]["nodeName"] = json!("node");
        let mut running = scheduled.clone();
        running["status"] = ready.clone();
        let mut dying = running.clone();
        dying["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        timeline.applied(Kind::Pod, pod("a", json!({"phase": "Pending"})));
        timeline.applied(Kind::Pod, scheduled);
        timeline.applied(Kind::Pod, running.clone());
        timeline.applied(Kind::Pod, running);
        timeline.applied(Kind::Pod, dying);
        timeline.deleted(Kind::Pod, &pod("a", json!({})));
        assert_eq!(whats(&timeline), ["created", "scheduled", "running", "ready", "terminating", "deleted"]);
        assert_eq!(timeline.transitions()[0].revision.as_deref(), Some("counter-abc"));
    }

    #[test]
    fn a_pod_replaced_behind_our_back_is_a_deletion_and_a_creation() {
        let timeline = Timeline::begin();
        timeline.applied(Kind::Pod, pod("a", json!({})));
        timeline.applied(Kind::Pod, pod("b", json!({})));
        let found: Vec<(String, String)> =
            timeline.transitions().into_iter().map(|t| (t.what.to_string(), t.uid)).collect();
        assert_eq!(
            found,
            [("created".into(), "a".into()), ("deleted".into(), "a".into()), ("created".into(), "b".into())]
        );
    }

    #[test]
    fn a_dropped_watch_loses_and_doubles_nothing() {
        let timeline = Timeline::begin();
        timeline.applied(Kind::Pod, pod("a", json!({})));
        // After the relist the same object comes again, and one that went meanwhile doesn't.
        let mut other = pod("c", json!({}));
        other["metadata"]["name"] = json!("counter-2");
        timeline.applied(Kind::Pod, other);
        timeline.applied(Kind::Pod, pod("a", json!({})));
        timeline.relisted(Kind::Pod, &["counter-1".to_owned()], 8);
        assert_eq!(whats(&timeline), ["created", "created", "deleted", "relisted"]);
    }

    #[test]
    fn a_watch_that_is_down_is_told_once_and_with_its_last_error() {
        let timeline = Timeline::begin();
        timeline.watch_resumed(Kind::Pod);
        timeline.watch_dropped(Kind::Pod, "the connection was closed");
        timeline.watch_dropped(Kind::Pod, "connection refused");
        assert_eq!(timeline.down(), [(Kind::Pod, "connection refused".to_owned())].into());
        timeline.watch_resumed(Kind::Pod);
        assert!(timeline.down().is_empty());
        let told: Vec<_> = timeline.transitions().into_iter().map(|it| (it.kind, it.name, it.what)).collect();
        let of_pods = |what: Change| (Kind::Watch, "Pod".to_owned(), what);
        assert_eq!(told, [of_pods(Change::Dropped), of_pods(Change::Resumed)]);
    }

    #[test]
    fn an_object_that_was_going_when_it_was_listed_is_not_waited_for() {
        let (timeline, kind) = (Timeline::begin(), Kind::StatefulSet);
        let set = |version: &str| json!({"metadata": {"name": "counter", "resourceVersion": version}});
        timeline.applied(kind, set("5"));
        assert!(!timeline.reached(kind, "counter", 7), "the watch is behind");
        timeline.applied(kind, set("7"));
        assert!(timeline.reached(kind, "counter", 7));
        timeline.deleted(kind, &set("9"));
        assert!(timeline.reached(kind, "counter", 8), "it was listed while it was going, and is gone");
        assert!(!timeline.reached(kind, "counter", 12), "a new one under its name has not been seen yet");
        timeline.relisted(kind, &[], 15);
        assert!(timeline.reached(kind, "counter", 12), "and came and went while the watch was down");
    }

    #[test]
    fn an_event_is_told_when_it_happens_again() {
        let timeline = Timeline::begin();
        let event = |count: i64| {
            json!({"metadata": {"name": "e", "uid": "e"}, "involvedObject": {"name": "counter-1"},
            "reason": "Unhealthy", "message": "probe failed", "count": count})
        };
        timeline.applied(Kind::Event, event(1));
        timeline.applied(Kind::Event, event(1));
        timeline.applied(Kind::Event, event(2));
        assert_eq!(whats(&timeline), ["Unhealthy", "Unhealthy"]);
        assert_eq!(timeline.transitions()[0].name, "counter-1");
    }
}
