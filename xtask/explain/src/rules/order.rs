//! The order of pods, and what a set waits for.

use serde_json::json;

use crate::objects::{
    called, condition, first_ordinal, going, lowest_unready, name, number, on_delete, ordered, ready,
    replicas, revision, text, waiting,
};
use crate::{Case, Rule};

pub(super) const STRATEGIES: &str =
    "https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/#update-strategies";

/// Whether the controller has seen the latest spec, and a part of the pods is still of the revision before it.
pub(super) fn moving(set: &serde_json::Value) -> bool {
    let (current, update) = (text(set, "/status/currentRevision"), text(set, "/status/updateRevision"));
    number(set, "/status/observedGeneration") >= number(set, "/metadata/generation")
        && !update.is_empty()
        && current != update
}

pub(super) const STAYS_ON_A_BROKEN_REVISION: Rule = Rule {
    id: "stays-on-a-broken-revision",
    symptom: "the template was put right, and the pod stays broken",
    why: "With OrderedReady the controller waits for each pod to become ready before it does anything else, also for a pod \
          of a broken revision: it never replaces it with the repaired one.",
    source: "https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/#forced-rollback",
    not: "Don't change the template once more: it is right already, and nobody looks at it.",
    find: |objects| {
        let stuck = objects.sets().filter(|set| ordered(set) && !on_delete(set)).filter_map(|set| {
            let pods = objects.pods_of(set);
            let pod = lowest_unready(&pods)?;
            let (revision, update) = (revision(pod), text(set, "/status/updateRevision"));
            let starts = ["ContainerCreating", "PodInitializing"];
            let waits = waiting(pod).find(|it| !starts.contains(&it.reason))?;
            if revision.is_empty() || update.is_empty() || revision == update {
                return None;
            }
            let says = format!(
                "{} is broken and of a revision that {} has left; it waits for the pod instead of replacing it",
                called(pod),
                called(set)
            );
            Some(
                Case::of(called(pod), says)
                    .seen(format!("waiting: {}: {}", waits.reason, waits.message))
                    .seen(format!("its revision is {revision}, the set's update revision {update}"))
                    .mend([objects.kubectl(&format!("delete pod {}", name(pod)))])
                    .change("nothing: the template is right already")
                    .costs("the pod is made anew of the last revision, on its old claim"),
            )
        });
        stuck.collect()
    },
};

pub(super) const WAITS_FOR_THE_FIRST: Rule = Rule {
    id: "waits-for-an-unready-pod",
    symptom: "stuck at 1/3, the others are not even made",
    why: "With OrderedReady a pod is made only when all before it are running and ready. An app whose readiness needs its \
          peers waits for pods that wait for it, and a headless service leaves out who is not ready.",
    source: "https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/#pod-management-policies",
    not: "Don't take the readiness probe away: clients would be sent to pods that can't answer.",
    find: |objects| {
        let stuck = objects.sets().filter(|set| ordered(set)).filter_map(|set| {
            let pods = objects.pods_of(set);
            let pod = lowest_unready(&pods)?;
            let runs = text(pod, "/status/phase") == "Running" && waiting(pod).next().is_none();
            // An app that only starts slowly has not been refused yet.
            let message = objects.unready_because(pod)?;
            let lacks = (pods.iter().filter(|pod| !going(pod)).count() as i64) < replicas(set);
            if !runs || !lacks {
                return None;
            }
            let service = objects.named("Service", text(set, "/spec/serviceName"));
            let unpublished = service.filter(|service| service["spec"]["publishNotReadyAddresses"] != true);
            let says = format!("{} runs and is not ready, and {} makes no further pod before it is", called(pod), called(set));
            let case = Case::of(called(pod), says)
                .seen(format!("event Unhealthy: {message}"))
                .seen(format!("spec.podManagementPolicy of {} is OrderedReady, {} of {} pods are there", called(set), pods.len(), replicas(set)));
            // Without a sign of peers it may be any other fault of the app, and nothing here would mend that.
            let case = if asks_for_peers(set, message) {
                case.mend(objects.make_anew(set, |set| set["spec"]["podManagementPolicy"] = json!("Parallel")))
                    .mend(unpublished.map(|service| objects.patch(service, &json!({"spec": {"publishNotReadyAddresses": true}}))))
            } else {
                case
            };
            Some(
                case
                    .change("if it waits for its peers: podManagementPolicy: Parallel, and publishNotReadyAddresses: true on the governing service; if it does not, look at why the probe fails, as for any pod")
                    .costs("pods start side by side from then on; those that are there stay, with their claims")
                    .question(format!("does its log speak of peers that it can't find? {}", objects.kubectl(&format!("logs {}", name(pod))))),
            )
        });
        stuck.collect()
    },
};

/// Whether what a pod runs, or what its probe said, speaks of another pod of its set by name.
fn asks_for_peers(set: &serde_json::Value, message: &str) -> bool {
    let start = first_ordinal(set);
    let told = format!("{}{message}", set["spec"]["template"]["spec"]);
    (start..start + replicas(set)).any(|ordinal| told.contains(&format!("{}-{ordinal}", name(set))))
}

pub(super) const RESTARTED_OUT_OF_ORDER: Rule = Rule {
    id: "restarted-out-of-order",
    symptom: "after a restart of the node a pod is not ready, though all before it are",
    why: "OrderedReady is an order of making and deleting pods. Containers that end are started again by the kubelet, \
          each for itself and all at once: what an app learnt in such a start it may keep.",
    source: "https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/#pod-management-policies",
    not: "Don't rely on the order: let the app ask again for what it needs, or end so that it is started again.",
    find: |objects| {
        let mut cases = Vec::new();
        for set in objects.sets().filter(|set| ordered(set)) {
            let pods = objects.pods_of(set);
            for (at, pod) in pods.iter().enumerate().skip(1) {
                let began = text(pod, "/status/containerStatuses/0/state/running/startedAt");
                let restarts = |pod: &serde_json::Value| {
                    number(pod, "/status/containerStatuses/0/restartCount").unwrap_or(0)
                };
                let since = |pod| condition(pod, "Ready").map_or("", |it| text(it, "/lastTransitionTime"));
                let later = pods[..at].iter().find(|low| restarts(low) > 0 && since(low) > began);
                let unready = !going(pod) && !began.is_empty() && !ready(pod) && restarts(pod) > 0;
                let (true, Some(low), Some(message)) =
                    (unready && pods[..at].iter().all(|low| ready(low)), later, objects.unready_because(pod))
                else {
                    continue;
                };
                let says = format!(
                    "{} was started again before {} was ready again, and has not got over it",
                    called(pod),
                    called(low)
                );
                cases.push(
                    Case::of(called(pod), says)
                        .seen(format!(
                            "its container runs since {began}, {} is ready since {}",
                            called(low),
                            since(low)
                        ))
                        .seen(format!("event Unhealthy: {message}"))
                        .mend([objects.kubectl(&format!("delete pod {}", name(pod)))])
                        .change("nothing in the set: the app has to bear a start in any order")
                        .costs("the pod is made anew, on its claim")
                        .question(format!(
                            "does its log speak of peers that it could not find? {}",
                            objects.kubectl(&format!("logs {}", name(pod)))
                        )),
                );
            }
        }
        cases
    },
};

/// Whoever asks for so many seconds means it.
const LONG_S: i64 = 60;

pub(super) const READY_IS_NOT_AVAILABLE: Rule = Rule {
    id: "ready-is-not-available",
    symptom: "all pods are ready, currentRevision is the new one, and the roll-out is not done",
    why: "With minReadySeconds a pod counts as available only when it has been ready for so long, and that is what a \
          roll-out waits for. currentRevision moves before.",
    source: "https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/#minimum-ready-seconds",
    not: "Don't take currentRevision for the end of a roll-out: compare availableReplicas with replicas.",
    find: |objects| {
        let waits = objects.sets().filter_map(|set| {
            let (seconds, asked) = (number(set, "/spec/minReadySeconds").unwrap_or(0), replicas(set));
            let count = |of: &str| number(set, &format!("/status/{of}")).unwrap_or(0);
            let ready = count("readyReplicas");
            if seconds < LONG_S || asked == 0 || ready < asked || count("availableReplicas") >= ready {
                return None;
            }
            let says = format!(
                "all pods of {} are ready, and count as available only after {seconds} s",
                called(set)
            );
            Some(
                Case::of(called(set), says)
                    .seen(format!("spec.minReadySeconds: {seconds}"))
                    .seen(format!(
                        "status.readyReplicas: {ready}, status.availableReplicas: {}",
                        count("availableReplicas")
                    ))
                    .mend([objects.patch(set, &json!({"spec": {"minReadySeconds": 0}}))])
                    .change("lower minReadySeconds, or wait")
                    .costs("a pod that breaks soon after it was ready no longer stops the roll-out"),
            )
        });
        waits.collect()
    },
};

pub(super) const ON_DELETE_WAITS: Rule = Rule {
    id: "on-delete-waits-for-you",
    symptom: "the update does not move, and kubectl rollout status refuses to watch it",
    why: "With OnDelete the controller replaces no pod by itself: a pod gets the new revision when somebody deletes it.",
    source: STRATEGIES,
    not: "Don't wait for kubectl rollout status: it only knows RollingUpdate.",
    find: |objects| {
        let waiting =
            objects.sets().filter(|set| on_delete(set) && objects.live() && moving(set)).filter_map(|set| {
                let update = text(set, "/status/updateRevision");
                let old: Vec<&str> = objects
                    .pods_of(set)
                    .into_iter()
                    .filter(|pod| !going(pod) && revision(pod) != update)
                    .map(name)
                    .collect();
                // Who has deleted some knows what the others wait for.
                if old.is_empty() || old.len() < objects.pods_of(set).len() {
                    return None;
                }
                let says = format!("{} has a new revision, and waits for somebody to delete its pods", called(set));
                Some(
                    Case::of(called(set), says)
                        .seen("spec.updateStrategy.type: OnDelete")
                        .seen(format!("of the old revision: {}", old.join(", ")))
                        // The highest first, as a rolling update does.
                        .mend(old.iter().rev().map(|pod| objects.kubectl(&format!("delete pod {pod}"))))
                        .change("say updateStrategy: { type: RollingUpdate } where nobody wants to choose the moment")
                        .costs("each deleted pod is away until its successor is ready: wait for that before the next"),
                )
            });
        waiting.collect()
    },
};

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use crate::Origin;
    use crate::fixture::{can_t_pull, found, is_ready, pod, service, set, updating};

    #[test]
    fn a_repaired_template_does_not_reach_the_pod_that_is_waited_for() {
        let all = |revision: &str, spec: Json| {
            let pods = [pod(0, "new", is_ready()), pod(1, revision, can_t_pull())];
            [vec![set(spec, updating()), service()], pods.to_vec()].concat()
        };
        assert_eq!(found(Origin::Cluster, all("old", json!({}))), ["stays-on-a-broken-revision"]);
        // Of the last revision it is only broken; in parallel it would be replaced.
        assert_eq!(found(Origin::Cluster, all("new", json!({}))), ["image-not-there"]);
        assert_eq!(
            found(Origin::Cluster, all("old", json!({"podManagementPolicy": "Parallel"}))),
            ["image-not-there"]
        );
    }

    #[test]
    fn a_set_that_waits_for_its_first_pod_asks_what_that_one_waits_for() {
        let unready = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "False"}]});
        let refused = json!({"kind": "Event", "reason": "Unhealthy", "message": "Readiness probe failed: 503",
            "involvedObject": {"kind": "Pod", "name": "web-0"}});
        let all = vec![set(json!({}), json!({})), service(), pod(0, "a", unready.clone()), refused.clone()];
        assert_eq!(found(Origin::Cluster, all.clone()), ["waits-for-an-unready-pod"]);
        assert_eq!(found(Origin::Cluster, all[..3].to_vec()), [""; 0], "nobody has asked it yet");
        let mends = |message: &str| super::asks_for_peers(&all[0], message);
        assert!(
            mends("nslookup: can't resolve web-1.web")
                && !mends("dial tcp 10.244.0.7:8081: connection refused")
        );
        let all = vec![set(json!({"replicas": 1}), json!({})), service(), pod(0, "a", unready), refused];
        assert_eq!(found(Origin::Cluster, all), [""; 0], "nobody waits for it");
    }

    #[test]
    fn on_delete_is_told_while_pods_wait_for_it() {
        let spec = json!({"updateStrategy": {"type": "OnDelete"}});
        let all =
            |revision: &str| vec![set(spec.clone(), updating()), service(), pod(0, revision, is_ready())];
        assert_eq!(found(Origin::Cluster, all("old")), ["on-delete-waits-for-you"]);
        assert_eq!(found(Origin::Cluster, all("new")), [""; 0]);
        let begun = [all("old"), vec![pod(1, "new", is_ready())]].concat();
        assert_eq!(found(Origin::Cluster, begun), [""; 0], "somebody is at it");
    }

    #[test]
    fn a_pod_that_started_before_those_below_it_is_told_when_it_does_not_get_over_that() {
        let status = |ready: &str, since: &str, began: &str, restarts: i64| {
            json!({"phase": "Running", "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": since}],
                "containerStatuses": [{"restartCount": restarts, "state": {"running": {"startedAt": began}}}]})
        };
        let refused = json!({"kind": "Event", "reason": "Unhealthy", "message": "Readiness probe failed: 503",
            "involvedObject": {"kind": "Pod", "name": "web-1"}});
        let ask = |low: Json, high: Json| {
            let set = set(json!({"replicas": 2}), json!({}));
            found(Origin::Cluster, vec![set, service(), pod(0, "a", low), pod(1, "a", high), refused.clone()])
        };
        let low = || status("True", "5", "1", 1);
        assert_eq!(ask(low(), status("False", "2", "2", 1)), ["restarted-out-of-order"]);
        assert_eq!(ask(low(), status("False", "6", "6", 1)), [""; 0], "it started after the other was ready");
        assert_eq!(ask(low(), status("False", "2", "2", 0)), [""; 0], "it was never started again");
        assert_eq!(ask(low(), status("True", "2", "2", 1)), [""; 0], "it is ready");
    }

    #[test]
    fn ready_pods_that_have_long_to_wait_to_be_available_are_told() {
        let ask = |seconds: i64, available: i64| {
            let status = json!({"replicas": 3, "readyReplicas": 3, "availableReplicas": available});
            found(Origin::Cluster, vec![set(json!({"minReadySeconds": seconds}), status), service()])
        };
        assert_eq!(ask(600, 0), ["ready-is-not-available"]);
        assert_eq!(ask(600, 3), [""; 0]);
        assert_eq!(ask(10, 0), [""; 0], "that is soon over");
    }
}
