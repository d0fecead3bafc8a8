//! How much a stranger's chart may make in a namespace: more than any chart of the kind needs, and less than harms.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    LimitRange, LimitRangeItem, LimitRangeSpec, ResourceQuota, ResourceQuotaSpec, ScopeSelector,
    ScopedResourceSelectorRequirement,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::api::ObjectMeta;

/// The most of each resource: <https://kubernetes.io/docs/concepts/policy/resource-quotas/>.
const MOST: [(&str, &str); 20] = [
    ("pods", "40"),
    ("services", "20"),
    ("services.nodeports", "10"),
    // Nobody answers for one on a cluster made by kind, and where somebody does it costs money.
    ("services.loadbalancers", "2"),
    ("persistentvolumeclaims", "20"),
    ("requests.storage", "20Gi"),
    ("limits.ephemeral-storage", "40Gi"),
    ("configmaps", "40"),
    // Each revision of a release is one.
    ("secrets", "60"),
    ("replicationcontrollers", "10"),
    ("count/serviceaccounts", "20"),
    ("count/deployments.apps", "20"),
    ("count/statefulsets.apps", "20"),
    ("count/replicasets.apps", "60"),
    ("count/daemonsets.apps", "5"),
    ("count/jobs.batch", "40"),
    ("count/cronjobs.batch", "5"),
    ("count/roles.rbac.authorization.k8s.io", "20"),
    ("count/rolebindings.rbac.authorization.k8s.io", "20"),
    ("count/networkpolicies.networking.k8s.io", "20"),
];

/// Pods of these classes push others off the node; those of the control plane are among them.
/// <https://kubernetes.io/docs/tasks/administer-cluster/guaranteed-scheduling-critical-addon-pods/>
const OF_THE_SYSTEM: [&str; 2] = ["system-cluster-critical", "system-node-critical"];

/// What a container that says nothing of it may write besides its volumes.
const EPHEMERAL: &str = "1Gi";

/// The quotas of a namespace.
pub(super) fn of_a_namespace() -> [ResourceQuota; 2] {
    let quota = |name: &str, most: &[(&str, &str)], scope_selector| ResourceQuota {
        metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
        spec: Some(ResourceQuotaSpec { hard: Some(quantities(most)), scope_selector, scopes: None }),
        status: None,
    };
    let of_the_system = ScopeSelector {
        match_expressions: Some(vec![ScopedResourceSelectorRequirement {
            scope_name: "PriorityClass".to_owned(),
            operator: "In".to_owned(),
            values: Some(OF_THE_SYSTEM.map(str::to_owned).to_vec()),
        }]),
    };
    [quota("most", &MOST, None), quota("none-of-the-system", &[("pods", "0")], Some(of_the_system))]
}

/// What a container is given that asks for nothing: without it a pod would be refused for want of a limit that the
/// quota can count. <https://kubernetes.io/docs/concepts/policy/limit-range/>
pub(super) fn of_containers() -> LimitRange {
    let item = LimitRangeItem {
        type_: "Container".to_owned(),
        default: Some(quantities(&[("ephemeral-storage", EPHEMERAL)])),
        default_request: Some(quantities(&[("ephemeral-storage", "0")])),
        ..LimitRangeItem::default()
    };
    LimitRange {
        metadata: ObjectMeta { name: Some("most".to_owned()), ..ObjectMeta::default() },
        spec: Some(LimitRangeSpec { limits: vec![item] }),
    }
}

fn quantities(of: &[(&str, &str)]) -> BTreeMap<String, Quantity> {
    of.iter().map(|(what, much)| ((*what).to_owned(), Quantity((*much).to_owned()))).collect()
}
