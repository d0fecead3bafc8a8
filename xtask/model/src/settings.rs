//! What a step wants of the target's objects, in Kubernetes' own words: no value of a chart is named.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use crate::field;

/// Where a chart has a value that drives the field, Helm is given that value; otherwise the object is changed on its way
/// into the cluster. What a step says is laid over what the steps before it said.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
pub struct Settings {
    /// How many pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u32>,
    /// Whether pods of a set wait for each other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_management_policy: Option<PodManagementPolicy>,
    /// How a set replaces its pods.
    #[serde(default, skip_serializing_if = "UpdateStrategy::is_empty")]
    pub update_strategy: UpdateStrategy,
    /// The numbers of a set's pods.
    #[serde(default, skip_serializing_if = "Ordinals::is_empty")]
    pub ordinals: Ordinals,
    /// Seconds a pod must stay ready before it counts as available.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_ready_seconds: Option<u32>,
    /// What becomes of the claims.
    #[serde(default, skip_serializing_if = "RetentionPolicy::is_empty")]
    pub persistent_volume_claim_retention_policy: RetentionPolicy,
    /// The volumes of the pods.
    #[serde(default, skip_serializing_if = "VolumeClaim::is_empty")]
    pub volume_claim: VolumeClaim,
    /// A word that makes a new revision of the pods: an annotation of their template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// A readiness gate of the pods, which the step `readiness` opens and closes. Pods that come are let through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readiness_gate: Option<bool>,
    /// The liveness probe of the app's container, in the place of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub liveness_probe: Option<Map<String, Json>>,
    /// The same app under another kind of workload: `Deployment`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<Workload>,
    /// Hooks before and after the install, where the chart has some that a value switches on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hooks: Option<bool>,
}

/// `spec.podManagementPolicy` of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PodManagementPolicy {
    OrderedReady,
    Parallel,
}

/// `spec.updateStrategy.type` of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum UpdateStrategyType {
    RollingUpdate,
    OnDelete,
}

/// What becomes of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Retention {
    Retain,
    Delete,
}

/// A kind of workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Workload {
    StatefulSet,
    Deployment,
}

/// `spec.updateStrategy` of a set.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
pub struct UpdateStrategy {
    /// `RollingUpdate` or `OnDelete`.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<UpdateStrategyType>,
    /// With `RollingUpdate`.
    #[serde(default, skip_serializing_if = "RollingUpdate::is_empty")]
    pub rolling_update: RollingUpdate,
}

/// `spec.updateStrategy.rollingUpdate` of a set.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
pub struct RollingUpdate {
    /// Pods below this ordinal keep the old revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<u32>,
    /// Pods that may be away at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_unavailable: Option<u32>,
}

/// `spec.ordinals` of a set.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
pub struct Ordinals {
    /// The number of the first pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<u32>,
}

/// `spec.persistentVolumeClaimRetentionPolicy` of a set: `Retain` or `Delete`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
pub struct RetentionPolicy {
    /// When the set is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when_deleted: Option<Retention>,
    /// When scaling down takes the pod away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when_scaled: Option<Retention>,
}

/// The claim templates of a set.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
pub struct VolumeClaim {
    /// The storage class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_class_name: Option<String>,
    /// The size that is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<String>,
    /// An emptyDir in the place of every claim: a volume takes the cluster longer to make than all the rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub empty_dir: Option<bool>,
}

macro_rules! empty_by_default {
    ($($of:ty),*) => { $(impl $of {
        fn is_empty(&self) -> bool {
            *self == Self::default()
        }
    })* };
}

empty_by_default!(UpdateStrategy, RollingUpdate, Ordinals, RetentionPolicy, VolumeClaim);

/// A field that is wanted, and what it shall be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Wanted {
    /// The keys that lead to it, with dots between them: `updateStrategy.type`.
    pub field: String,
    /// Its value.
    pub value: Json,
}

impl Settings {
    /// What it wants, field by field.
    pub fn wanted(&self) -> Vec<Wanted> {
        fn walk(way: &str, value: Json, found: &mut Vec<Wanted>) {
            match value {
                // A probe is one thing.
                Json::Object(entries) if !way.ends_with("Probe") => {
                    for (key, value) in entries {
                        let field = if way.is_empty() { key } else { format!("{way}.{key}") };
                        walk(&field, value, found);
                    }
                }
                value => found.push(Wanted { field: way.to_owned(), value }),
            }
        }
        let mut found = Vec::new();
        walk("", serde_json::to_value(self).unwrap_or_default(), &mut found);
        found
    }

    /// Lays another over it: what that wants holds.
    pub fn lay(&mut self, over: &Self) {
        let mut all = serde_json::to_value(&*self).unwrap_or_default();
        for wanted in over.wanted() {
            field::put(&mut all, wanted.field.split('.'), wanted.value);
        }
        *self = serde_json::from_value(all).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn settings(json: Json) -> Settings {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn what_is_wanted_is_told_field_by_field() {
        let set = settings(json!({"replicas": 3, "updateStrategy": {"rollingUpdate": {"partition": 0}},
            "livenessProbe": {"exec": {"command": ["true"]}}}));
        let wanted: Vec<String> =
            set.wanted().iter().map(|it| format!("{} {}", it.field, it.value)).collect();
        assert_eq!(
            wanted,
            [
                "replicas 3",
                "updateStrategy.rollingUpdate.partition 0",
                "livenessProbe {\"exec\":{\"command\":[\"true\"]}}"
            ]
        );
        assert_eq!(Settings::default().wanted(), []);
    }

    #[test]
    fn what_a_later_step_wants_holds_and_the_rest_stays() {
        let mut set = settings(json!({"replicas": 3, "ordinals": {"start": 5}}));
        set.lay(&settings(json!({"ordinals": {"start": 6}, "revision": "two"})));
        assert_eq!(set, settings(json!({"replicas": 3, "ordinals": {"start": 6}, "revision": "two"})));
    }
}
