//! The closed sets that a run is told in: the kinds of objects it watches, what becomes of these, and the limits of
//! their names. Each is one list.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a transition is of. Kubernetes' own names, as they stand in the record and in expressions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Kind {
    /// A pod.
    Pod,
    /// A set of pods with names and volumes of their own.
    StatefulSet,
    /// A set of pods that are all alike.
    Deployment,
    /// A name and an address for pods.
    Service,
    /// What a pod asks of storage.
    PersistentVolumeClaim,
    /// The addresses behind a service.
    EndpointSlice,
    /// A revision of a set's template.
    ControllerRevision,
    /// Work that comes to an end.
    Job,
    /// What a controller or the kubelet has to say.
    Event,
    /// A machine that runs pods.
    Node,
    /// No kind of Kubernetes': what became of our own watch of a kind.
    Watch,
}

/// A kind that is watched.
#[derive(Debug, Clone, Copy)]
pub struct Watched {
    /// The kind.
    pub kind: Kind,
    /// Its API group; the core group has no name.
    pub group: &'static str,
    /// The version of that group.
    pub version: &'static str,
    /// What the API server calls many of them.
    pub plural: &'static str,
    /// The variable that holds its objects by name; events explain and are not judged.
    pub variable: Option<&'static str>,
}

/// The kinds that are watched.
pub const WATCHED: [Watched; 9] = [
    watched(Kind::Pod, "", "pods", Some("pods")),
    watched(Kind::StatefulSet, "apps", "statefulsets", Some("statefulsets")),
    watched(Kind::Deployment, "apps", "deployments", Some("deployments")),
    watched(Kind::Service, "", "services", Some("services")),
    watched(Kind::PersistentVolumeClaim, "", "persistentvolumeclaims", Some("volume_claims")),
    watched(Kind::EndpointSlice, "discovery.k8s.io", "endpointslices", Some("endpoints")),
    watched(Kind::ControllerRevision, "apps", "controllerrevisions", Some("revisions")),
    watched(Kind::Job, "batch", "jobs", Some("jobs")),
    watched(Kind::Event, "", "events", None),
];

/// Nodes: they belong to no namespace, and are watched only where a lab asks for several.
pub const NODES: Watched = watched(Kind::Node, "", "nodes", Some("nodes"));

const fn watched(
    kind: Kind,
    group: &'static str,
    plural: &'static str,
    variable: Option<&'static str>,
) -> Watched {
    Watched { kind, group, version: "v1", plural, variable }
}

/// The variables that hold watched objects by name.
pub fn variables() -> impl Iterator<Item = &'static str> {
    WATCHED.iter().filter_map(|watched| watched.variable)
}

/// What happened to an object, or to our watch of a kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// It is there.
    Created,
    /// A pod has a node.
    Scheduled,
    /// A pod's containers run.
    Running,
    /// A pod is ready.
    Ready,
    /// A pod is ready no longer.
    Unready,
    /// A container of a pod was started again.
    Restarted,
    /// A pod or a job has done its work.
    Succeeded,
    /// A pod ended with an error.
    Failed,
    /// It was asked to go.
    Terminating,
    /// It is gone.
    Deleted,
    /// What it counts or lists is another.
    Changed,
    /// A volume claim has its volume.
    Bound,
    /// A workload has done all that its spec asks for.
    RolledOut,
    /// Our watch broke.
    Dropped,
    /// Our watch goes on where it had stopped.
    Resumed,
    /// Our watch began anew: the API server no longer knew where it had stopped.
    Relisted,
    /// An event's reason. Whoever writes an event chooses it, so this set is open.
    #[serde(untagged)]
    Reason(String),
}

/// What can be done to a node, as the lab file writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeAct {
    /// Its processes stand still.
    Pause,
    /// They go on.
    Resume,
    /// It loses its power.
    Stop,
    /// It gets it back.
    Start,
    /// Nothing comes to it or leaves it by the network.
    Cut,
    /// Everything does again.
    Join,
}

/// The kinds of steps, as the lab file writes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StepKind {
    /// `install`.
    Install,
    /// `upgrade`.
    Upgrade,
    /// `uninstall`.
    Uninstall,
    /// `run`.
    Run,
    /// `exec`.
    Exec,
    /// `resolve`.
    Resolve,
    /// `visit`.
    Visit,
    /// `observe`.
    Observe,
    /// `explain`.
    Explain,
    /// `mend`.
    Mend,
    /// `await`.
    Await,
    /// `hold`.
    Hold,
    /// `node`.
    Node,
}

impl StepKind {
    /// Whether a step of this kind may change what the timeline shows; `None` where its command decides.
    pub fn acts(self) -> Option<bool> {
        match self {
            Self::Install | Self::Upgrade | Self::Uninstall | Self::Mend | Self::Hold | Self::Node => {
                Some(true)
            }
            Self::Run | Self::Exec => None,
            Self::Resolve | Self::Visit | Self::Observe | Self::Explain | Self::Await => Some(false),
        }
    }
}

impl fmt::Display for StepKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// A namespace's name is a DNS label: <https://www.rfc-editor.org/rfc/rfc1123>.
pub const NAMESPACE_CHARS: usize = 63;

/// Whether Kubernetes takes it for the name of an object: <https://www.rfc-editor.org/rfc/rfc1123>, with dots.
pub fn is_name(name: &str) -> bool {
    let label = |label: &str| {
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        !label.is_empty() && label.chars().all(inner) && !label.starts_with('-') && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_str, to_string};

    #[test]
    fn a_kind_and_a_change_are_told_by_the_word_the_record_has_for_them() {
        assert_eq!(to_string(&Kind::StatefulSet).unwrap(), "\"StatefulSet\"");
        assert_eq!(Kind::EndpointSlice.to_string(), "EndpointSlice");
        assert_eq!(to_string(&Change::RolledOut).unwrap(), "\"rolled-out\"");
        assert_eq!(Change::RolledOut.to_string(), "rolled-out");
        assert_eq!(from_str::<Change>("\"unready\"").unwrap(), Change::Unready);
        let reason = Change::Reason("BackOff".to_owned());
        assert_eq!(
            (from_str::<Change>("\"BackOff\"").unwrap(), reason.to_string()),
            (reason, "BackOff".to_owned())
        );
    }
}
