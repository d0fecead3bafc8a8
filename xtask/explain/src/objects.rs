//! The objects that rules look at, and the few questions that all of them ask.

use serde_json::{Map, Value as Json};

/// Where objects come from: a rule may only speak of what that can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A cluster has them: with status, with events.
    Cluster,
    /// A chart renders them: nothing has happened yet.
    Chart,
}

/// Some objects, of one namespace and of what belongs to no namespace.
#[derive(Debug)]
pub struct Objects {
    /// Where they come from.
    pub origin: Origin,
    /// The namespace that commands name; empty for a chart.
    pub namespace: String,
    all: Vec<Json>,
}

impl Objects {
    /// Objects as the API or a chart has them.
    pub fn new(origin: Origin, namespace: &str, all: Vec<Json>) -> Self {
        Self { origin, namespace: namespace.to_owned(), all }
    }

    pub(crate) fn live(&self) -> bool {
        self.origin == Origin::Cluster
    }

    pub(crate) fn of(&self, kind: &str) -> impl Iterator<Item = &Json> {
        self.all.iter().filter(move |object| object["kind"] == kind)
    }

    /// The object of that kind and name.
    pub fn named(&self, kind: &str, name: &str) -> Option<&Json> {
        self.of(kind).find(|object| self::name(object) == name)
    }

    /// Sets that are not on their way out.
    pub(crate) fn sets(&self) -> impl Iterator<Item = &Json> {
        self.of("StatefulSet").filter(|set| !going(set))
    }

    /// The pods of a workload that controls them directly, by ordinal where they have one.
    pub(crate) fn pods_of(&self, owner: &Json) -> Vec<&Json> {
        let uid = text(owner, "/metadata/uid");
        let owned = |pod: &&Json| {
            let owners = pod.pointer("/metadata/ownerReferences").and_then(Json::as_array);
            !uid.is_empty() && owners.into_iter().flatten().any(|owner| text(owner, "/uid") == uid)
        };
        let mut pods: Vec<&Json> = self.of("Pod").filter(owned).collect();
        pods.sort_by_key(|pod| ordinal(name(pod)));
        pods
    }

    /// What events say of an object, newest last: reason and message.
    pub(crate) fn events<'a>(
        &'a self,
        kind: &'a str,
        name: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a str)> {
        let about = move |event: &&Json| {
            let object = event.get("involvedObject").or_else(|| event.get("regarding"));
            object.is_some_and(|object| text(object, "/kind") == kind && text(object, "/name") == name)
        };
        let said = |event: &'a Json| {
            let note = text(event, "/message");
            (text(event, "/reason"), if note.is_empty() { text(event, "/note") } else { note })
        };
        self.of("Event").filter(about).map(said)
    }

    /// `kubectl` in the namespace that was looked at.
    pub(crate) fn kubectl(&self, words: &str) -> String {
        if self.namespace.is_empty() {
            format!("kubectl {words}")
        } else {
            format!("kubectl --namespace {} {words}", self.namespace)
        }
    }
}

pub(crate) fn text<'a>(object: &'a Json, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Json::as_str).unwrap_or_default()
}

pub(crate) fn number(object: &Json, pointer: &str) -> Option<i64> {
    object.pointer(pointer).and_then(Json::as_i64)
}

pub(crate) fn name(object: &Json) -> &str {
    text(object, "/metadata/name")
}

/// `StatefulSet web`, as a sentence names it.
pub(crate) fn called(object: &Json) -> String {
    format!("{} {}", text(object, "/kind"), name(object))
}

pub(crate) fn going(object: &Json) -> bool {
    object.pointer("/metadata/deletionTimestamp").is_some()
}

/// The number at the end of a set's pod's name.
pub(crate) fn ordinal(pod: &str) -> Option<i64> {
    pod.rsplit_once('-')?.1.parse().ok()
}

pub(crate) fn condition<'a>(object: &'a Json, kind: &str) -> Option<&'a Json> {
    let conditions = object.pointer("/status/conditions").and_then(Json::as_array)?;
    conditions.iter().find(|condition| condition["type"] == kind)
}

/// Whether a pod is ready and stays.
pub(crate) fn ready(pod: &Json) -> bool {
    !going(pod) && condition(pod, "Ready").is_some_and(|condition| condition["status"] == "True")
}

/// Why a container of a pod waits: reason, message, image.
pub(crate) fn waiting(pod: &Json) -> Option<(&str, &str, &str)> {
    ["/status/initContainerStatuses", "/status/containerStatuses"].iter().find_map(|statuses| {
        pod.pointer(statuses)?.as_array()?.iter().find_map(|status| {
            let waiting = status.pointer("/state/waiting")?;
            Some((text(waiting, "/reason"), text(waiting, "/message"), text(status, "/image")))
        })
    })
}

/// The labels that a selector asks for; nothing where it asks for none.
pub(crate) fn selector<'a>(object: &'a Json, pointer: &str) -> Option<&'a Map<String, Json>> {
    object.pointer(pointer).and_then(Json::as_object).filter(|selector| !selector.is_empty())
}

/// Whether labels have all that a selector asks for.
pub(crate) fn fits(selector: &Map<String, Json>, labels: &Json) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// The replicas that a workload asks for: one where it says nothing.
pub(crate) fn replicas(workload: &Json) -> i64 {
    number(workload, "/spec/replicas").unwrap_or(1)
}

/// The claim templates of a set.
pub(crate) fn claim_templates(set: &Json) -> impl Iterator<Item = &Json> {
    set.pointer("/spec/volumeClaimTemplates").and_then(Json::as_array).into_iter().flatten()
}

/// The containers of a workload's pods.
pub(crate) fn containers(workload: &Json) -> impl Iterator<Item = &Json> {
    workload.pointer("/spec/template/spec/containers").and_then(Json::as_array).into_iter().flatten()
}
