//! The readiness gate that a lab adds to pods: pods that come are let through, so that only a lab closes it.
//!
//! <https://github.com/kubernetes/enhancements/tree/master/keps/sig-network/580-pod-readiness-gates>

use std::convert::Infallible;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value as Json, json};

use crate::lab::changes::GATE;
use crate::run::timeline::Timeline;
use model::kinds::Kind;
use model::spec::{Experiment, Step};

/// Whether the pods of an experiment get a gate.
pub(super) fn is_wanted(experiment: &Experiment) -> bool {
    experiment.steps.iter().any(|step| match step {
        Step::Install(step) | Step::Upgrade(step) => step.set.readiness_gate == Some(true),
        _ => false,
    })
}

/// Opens the gate of every pod that comes, for ever. What can't be opened now is tried again when the pod changes.
pub(super) async fn keep(client: kube::Client, namespace: &str, timeline: &Timeline) -> Infallible {
    let pods: Api<Pod> = Api::namespaced(client, namespace);
    let mut changes = timeline.subscribe();
    loop {
        changes.borrow_and_update();
        let open = json!({"status": {"conditions": [{"type": GATE, "status": "True"}]}});
        for (name, _) in timeline.objects(Kind::Pod).into_iter().filter(|(_, pod)| waits(pod)) {
            let opened = pods.patch_status(&name, &PatchParams::default(), &Patch::Strategic(&open)).await;
            // It may be gone by now.
            drop(opened);
        }
        if changes.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Whether a pod has a gate that nobody has opened or closed.
fn waits(pod: &Json) -> bool {
    let any = |pointer: &str, key: &str| {
        let all = pod.pointer(pointer).and_then(Json::as_array);
        all.is_some_and(|all| all.iter().any(|one| one[key] == GATE))
    };
    any("/spec/readinessGates", "conditionType") && !any("/status/conditions", "type")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_is_opened_once_and_only_where_there_is_one() {
        let spec = json!({"readinessGates": [{"conditionType": GATE}]});
        assert!(waits(&json!({"spec": spec, "status": {"conditions": [{"type": "PodScheduled"}]}})));
        assert!(!waits(
            &json!({"spec": spec, "status": {"conditions": [{"type": GATE, "status": "False"}]}})
        ));
        assert!(!waits(&json!({"spec": {}})));
    }
}
