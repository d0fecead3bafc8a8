//! The objects that rules look at, and the few questions that all of them ask.

use serde_json::{Map, Value as Json};

pub(crate) use model::condition::{condition, crashing, fits, going, hook, ready, text, waiting};

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
    /// The context that commands name, where it is not the current one.
    pub context: Option<String>,
    all: Vec<Json>,
}

/// An upgrade that Helm began and that failed: what the release was to be. No kind of Kubernetes'; whoever looks makes
/// it of what Helm keeps.
pub const FAILED_RELEASE: &str = "FailedRelease";

impl Objects {
    /// Objects as the API or a chart has them.
    pub fn new(origin: Origin, namespace: &str, all: Vec<Json>) -> Self {
        Self { origin, namespace: namespace.to_owned(), context: None, all }
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
        let mut pods: Vec<&Json> =
            self.of("Pod").filter(|pod| !uid.is_empty() && owners(pod).any(|owner| owner == uid)).collect();
        pods.sort_by_key(|pod| ordinal(name(pod)));
        pods
    }

    /// Each set with each of its pods.
    pub(crate) fn pods_of_sets(&self) -> impl Iterator<Item = (&Json, &Json)> {
        self.sets().flat_map(|set| self.pods_of(set).into_iter().map(move |pod| (set, pod)))
    }

    /// The workload that a person would change: a pod's set or Deployment, itself where it has no owner that is known.
    pub(crate) fn workload_of<'a>(&'a self, object: &'a Json) -> &'a Json {
        let known = ["StatefulSet", "Deployment", "ReplicaSet", "Job"];
        let owner = known.iter().flat_map(|kind| self.of(kind)).find(|owner| {
            let uid = text(owner, "/metadata/uid");
            !uid.is_empty() && owners(object).any(|owner| owner == uid)
        });
        owner.map_or(object, |owner| self.workload_of(owner))
    }

    /// The claim that a pod mounts, of one of its set's templates.
    pub(crate) fn claims_of(&self, pod: &Json) -> impl Iterator<Item = &Json> {
        let names: Vec<&str> = claim_names(pod).collect();
        let claims: Vec<&Json> =
            self.of("PersistentVolumeClaim").filter(|claim| names.contains(&name(claim))).collect();
        claims.into_iter()
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

    /// What the kubelet last said of a readiness probe that failed.
    pub(crate) fn unready_because<'a>(&'a self, pod: &'a Json) -> Option<&'a str> {
        let said = self.events("Pod", name(pod));
        said.filter(|(reason, said)| *reason == "Unhealthy" && said.starts_with("Readiness"))
            .last()
            .map(|it| it.1)
    }
}

fn owners(object: &Json) -> impl Iterator<Item = &str> {
    let owners = object.pointer("/metadata/ownerReferences").and_then(Json::as_array);
    owners.into_iter().flatten().map(|owner| text(owner, "/uid"))
}

/// The names of the claims that a pod, or a template of one, mounts by name.
pub(crate) fn claim_names(pod: &Json) -> impl Iterator<Item = &str> {
    let volumes = pod.pointer("/spec/volumes").and_then(Json::as_array).into_iter().flatten();
    volumes.map(|volume| text(volume, "/persistentVolumeClaim/claimName")).filter(|name| !name.is_empty())
}

pub(crate) fn number(object: &Json, pointer: &str) -> Option<i64> {
    object.pointer(pointer).and_then(Json::as_i64)
}

pub(crate) fn name(object: &Json) -> &str {
    text(object, "/metadata/name")
}

/// When it was made, by the API server's clock: such texts compare as the times do.
pub(crate) fn made_at(object: &Json) -> &str {
    text(object, "/metadata/creationTimestamp")
}

/// `StatefulSet web`, as a sentence names it.
pub(crate) fn called(object: &Json) -> String {
    format!("{} {}", text(object, "/kind"), name(object))
}

/// The number at the end of a set's pod's name.
pub(crate) fn ordinal(pod: &str) -> Option<i64> {
    pod.rsplit_once('-')?.1.parse().ok()
}

/// The labels that a selector asks for; nothing where it asks for none.
pub(crate) fn selector<'a>(object: &'a Json, pointer: &str) -> Option<&'a Map<String, Json>> {
    object.pointer(pointer).and_then(Json::as_object).filter(|selector| !selector.is_empty())
}

/// The ordinal of a set's first pod.
pub(crate) fn first_ordinal(set: &Json) -> i64 {
    number(set, "/spec/ordinals/start").unwrap_or(0)
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

/// The revision that a set's pod is of.
pub(crate) fn revision(pod: &Json) -> &str {
    text(pod, "/metadata/labels/controller-revision-hash")
}

/// Whether a set makes and replaces one pod after the other.
pub(crate) fn ordered(set: &Json) -> bool {
    text(set, "/spec/podManagementPolicy") != "Parallel"
}

pub(crate) fn on_delete(set: &Json) -> bool {
    text(set, "/spec/updateStrategy/type") == "OnDelete"
}

/// The lowest pod that isn't ready, among those that are there.
pub(crate) fn lowest_unready<'a>(pods: &[&'a Json]) -> Option<&'a Json> {
    pods.iter().find(|pod| !going(pod) && !ready(pod)).copied()
}

/// Who manages fields of an object: each entry with the way to what it owns.
pub(crate) fn managers(object: &Json) -> impl Iterator<Item = &Json> {
    object.pointer("/metadata/managedFields").and_then(Json::as_array).into_iter().flatten()
}
