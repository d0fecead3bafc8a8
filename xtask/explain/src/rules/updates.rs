//! Revisions, and what keeps a set from moving on to the next.

use serde_json::Value as Json;

use super::storage::lowest_unready;
use crate::objects::{
    called, claim_templates, going, name, number, ordinal, replicas, selector, text, waiting,
};
use crate::{Case, Rule};

const STRATEGIES: &str =
    "https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/#update-strategies";
const REVISION: &str = "/metadata/labels/controller-revision-hash";

fn ordered(set: &Json) -> bool {
    text(set, "/spec/podManagementPolicy") != "Parallel"
}

fn on_delete(set: &Json) -> bool {
    text(set, "/spec/updateStrategy/type") == "OnDelete"
}

fn partition(set: &Json) -> i64 {
    number(set, "/spec/updateStrategy/rollingUpdate/partition").unwrap_or(0)
}

fn first_ordinal(set: &Json) -> i64 {
    number(set, "/spec/ordinals/start").unwrap_or(0)
}

/// Whether the controller has seen the latest spec, and a part of the pods is still of the revision before it.
fn moving(set: &Json) -> bool {
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
            let (_, pod) = lowest_unready(&pods)?;
            let (revision, update) = (text(pod, REVISION), text(set, "/status/updateRevision"));
            let (reason, message, _) = waiting(pod)
                .filter(|(reason, _, _)| *reason != "ContainerCreating" && *reason != "PodInitializing")?;
            if revision.is_empty() || update.is_empty() || revision == update {
                return None;
            }
            let says = format!(
                "{} is broken and of the revision before the last; {} waits for it instead of replacing it",
                called(pod),
                called(set)
            );
            Some(
                Case::of(called(pod), says)
                    .seen(format!("waiting: {reason}: {message}"))
                    .seen(format!("its revision is {revision}, the set's update revision {update}"))
                    .mend(objects.kubectl(&format!("delete pod {}", name(pod))))
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
            let (_, pod) = lowest_unready(&pods)?;
            let runs = text(pod, "/status/phase") == "Running" && waiting(pod).is_none();
            // An app that only starts slowly has not been refused yet.
            let (_, message) = objects.events("Pod", name(pod)).filter(|(reason, message)| *reason == "Unhealthy" && message.starts_with("Readiness")).last()?;
            let lacks = (pods.iter().filter(|pod| !going(pod)).count() as i64) < replicas(set);
            if !runs || !lacks {
                return None;
            }
            let says = format!("{} runs and is not ready, and {} makes no further pod before it is", called(pod), called(set));
            Some(
                Case::of(called(pod), says)
                    .seen(format!("event Unhealthy: {message}"))
                    .seen(format!("spec.podManagementPolicy of {} is OrderedReady, {} of {} pods are there", called(set), pods.len(), replicas(set)))
                    .mend(format!("if it waits for its peers: podManagementPolicy: Parallel, and publishNotReadyAddresses: true on the service {}", text(set, "/spec/serviceName")))
                    .mend("if it does not: look at why the probe fails, as for any pod")
                    .costs("podManagementPolicy can't be changed on a set that is there: delete it with --cascade=orphan and make it again; pods and claims stay")
                    .question(format!("does its log speak of peers that it can't find? {}", objects.kubectl(&format!("logs {}", name(pod))))),
            )
        });
        stuck.collect()
    },
};

pub(super) const PARTITION_MOVES_NOTHING: Rule = Rule {
    id: "partition-moves-nothing",
    symptom: "the update does not move, and nothing is wrong with any pod",
    why: "With a partition only the pods from that number up are updated. One that is as large as the number of replicas \
          leaves all of them alone.",
    source: "https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/#partitions",
    not: "Don't delete the pods: those below the partition come back with the old revision.",
    find: |objects| {
        let still = objects.sets().filter(|set| !on_delete(set)).filter_map(|set| {
            let (partition, pods) = (partition(set), replicas(set));
            let waits = if objects.live() { moving(set) } else { true };
            if partition == 0 || pods == 0 || partition < pods || !waits {
                return None;
            }
            let says = format!(
                "the partition of {} is {partition}, and with {pods} replicas no pod is ever updated",
                called(set)
            );
            let mut case = Case::of(called(set), says).seen(format!(
                "spec.updateStrategy.rollingUpdate.partition: {partition}, spec.replicas: {pods}"
            ));
            if objects.live() {
                case = case.seen(format!(
                    "{} of {pods} pods are of the new revision",
                    number(set, "/status/updatedReplicas").unwrap_or(0)
                ));
            }
            let patch = "'{\"spec\":{\"updateStrategy\":{\"rollingUpdate\":{\"partition\":0}}}}'";
            Some(
                case.mend(objects.kubectl(&format!("patch statefulset {} --patch {patch}", name(set))))
                    .costs("the pods are replaced, from the highest ordinal down"),
            )
        });
        still.collect()
    },
};

pub(super) const RAISED_PARTITION: Rule = Rule {
    id: "raised-partition-is-no-rollback",
    symptom: "the partition was raised, and pods below it keep the new revision",
    why: "The partition says which pods may be updated, not which are taken back. A pod that was updated before stays as \
          it is until something replaces it; then it comes back with the old revision.",
    source: "https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/#partitions",
    not: "Don't count on the partition to undo a roll-out: put the old template back.",
    find: |objects| {
        let mixed = objects.sets().filter(|set| !on_delete(set) && partition(set) > 0 && moving(set)).filter_map(|set| {
            let below = first_ordinal(set) + partition(set);
            let update = text(set, "/status/updateRevision");
            let ahead: Vec<&Json> = objects.pods_of(set).into_iter()
                .filter(|pod| !going(pod) && ordinal(name(pod)).is_some_and(|ordinal| ordinal < below) && text(pod, REVISION) == update)
                .collect();
            let pod = ahead.first()?;
            let says = format!("{} lies below the partition of {} and has the new revision all the same", called(pod), called(set));
            Some(
                Case::of(called(set), says)
                    .seen(format!("spec.updateStrategy.rollingUpdate.partition: {}", partition(set)))
                    .seen(format!("{} is of revision {update}, the current one is {}", called(pod), text(set, "/status/currentRevision")))
                    .mend(objects.kubectl(&format!("delete pod {}", ahead.iter().map(|pod| name(pod)).collect::<Vec<_>>().join(" "))))
                    .costs("these pods come back with the old revision, on their claims; an app that can't read what the new one wrote will not start"),
            )
        });
        mixed.collect()
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
                    .filter(|pod| !going(pod) && text(pod, REVISION) != update)
                    .map(name)
                    .collect();
                let last = old.last()?;
                let says = format!(
                    "{} has a new revision, and {} of its pods wait to be deleted by hand",
                    called(set),
                    old.len()
                );
                Some(
                    Case::of(called(set), says)
                        .seen("spec.updateStrategy.type: OnDelete")
                        .seen(format!("of the old revision: {}", old.join(", ")))
                        .mend(objects.kubectl(&format!("delete pod {last}")))
                        .mend("one at a time: the next when this one is ready again")
                        .costs("each deleted pod is away until its successor is ready"),
                )
            });
        waiting.collect()
    },
};

pub(super) const SCALED_BY_HAND: Rule = Rule {
    id: "scaled-by-hand",
    symptom: "helm upgrade ends with a conflict over .spec.replicas",
    why: "Helm 4 applies on the server, where every field has an owner. kubectl scale took spec.replicas, and Helm is \
          refused when it asks for another number.",
    source: "https://kubernetes.io/docs/reference/using-api/server-side-apply/#conflicts",
    not: "Don't force every upgrade: it would also take what an autoscaler owns.",
    find: |objects| {
        let taken = objects.sets().filter_map(|set| {
            let managers = set.pointer("/metadata/managedFields").and_then(Json::as_array)?;
            let owns = |manager: &&Json| manager.pointer("/fieldsV1/f:spec/f:replicas").is_some();
            let scaled =
                managers.iter().filter(owns).find(|manager| text(manager, "/subresource") == "scale")?;
            let helm = managers
                .iter()
                .any(|manager| text(manager, "/manager") == "helm" && text(manager, "/operation") == "Apply");
            // An autoscaler owns it on purpose.
            if !helm || text(scaled, "/manager") != "kubectl" || managers.iter().filter(owns).count() > 1 {
                return None;
            }
            let says = format!(
                "kubectl scale owns the replicas of {}, and Helm will be refused when it sets them",
                called(set)
            );
            Some(
                Case::of(called(set), says)
                    .seen(format!(
                        "metadata.managedFields: kubectl, subresource scale, owns spec.replicas: {}",
                        replicas(set)
                    ))
                    .mend("helm upgrade … --force-conflicts, once, with the number of replicas in the values")
                    .costs("Helm owns the field again; what the values say is what runs"),
            )
        });
        taken.collect()
    },
};

/// Labels that charts change with every version of theirs: <https://helm.sh/docs/chart_best_practices/labels/>.
const OF_A_VERSION: [&str; 3] = ["helm.sh/chart", "app.kubernetes.io/version", "chart"];

pub(super) const VERSION_IN_THE_SELECTOR: Rule = Rule {
    id: "version-in-the-selector",
    symptom: "the chart installs, and the next version of it can't be upgraded to",
    why: "The selector and the claim templates of a set can't be changed. A label that holds the chart's version is \
          another with the next version, and the API server refuses the upgrade.",
    source: "https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/#pod-selector",
    not: "Don't uninstall to get around it while the claims' retention policy is Delete: the data goes too.",
    find: |objects| {
        let mut cases = Vec::new();
        for set in objects.sets() {
            let mut fixed: Vec<String> = Vec::new();
            for label in OF_A_VERSION {
                if selector(set, "/spec/selector/matchLabels")
                    .is_some_and(|labels| labels.contains_key(label))
                {
                    fixed.push(format!("spec.selector.matchLabels.{label}"));
                }
                for template in claim_templates(set) {
                    if template.pointer("/metadata/labels").is_some_and(|labels| labels.get(label).is_some())
                    {
                        fixed.push(format!(
                            "spec.volumeClaimTemplates {}: metadata.labels.{label}",
                            name(template)
                        ));
                    }
                }
            }
            if fixed.is_empty() {
                continue;
            }
            let says = format!("a label of {} that can't be changed holds the chart's version", called(set));
            let mut case = Case::of(called(set), says);
            case.seen = fixed;
            cases.push(
                case.mend("leave the version out of these labels; the object's own metadata may keep it")
                    .costs("a set that is there is deleted with --cascade=orphan and made again once; pods and claims stay"),
            );
        }
        cases
    },
};

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use crate::{Objects, Origin, explain};

    fn found(origin: Origin, all: Vec<Json>) -> Vec<&'static str> {
        explain(&Objects::new(origin, "shop", all)).iter().map(|trouble| trouble.rule).collect()
    }

    fn set(spec: Json, status: Json) -> Json {
        let mut set = json!({"kind": "StatefulSet", "metadata": {"name": "web", "uid": "s", "generation": 2}, "status": status,
            "spec": {"serviceName": "web", "replicas": 3, "selector": {"matchLabels": {"app": "web"}},
                "template": {"metadata": {"labels": {"app": "web"}}}}});
        set["status"]["observedGeneration"] = json!(2);
        for (key, value) in spec.as_object().unwrap() {
            set["spec"][key] = value.clone();
        }
        set
    }

    fn updating() -> Json {
        json!({"currentRevision": "old", "updateRevision": "new", "updatedReplicas": 0})
    }

    fn service() -> Json {
        json!({"kind": "Service", "metadata": {"name": "web"}, "spec": {"clusterIP": "None", "selector": {"app": "web"}}})
    }

    fn pod(ordinal: i64, revision: &str, status: Json) -> Json {
        json!({"kind": "Pod", "metadata": {"name": format!("web-{ordinal}"), "ownerReferences": [{"uid": "s"}],
            "labels": {"app": "web", "controller-revision-hash": revision}}, "status": status})
    }

    fn is_ready() -> Json {
        json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]})
    }

    fn can_t_pull() -> Json {
        json!({"containerStatuses": [{"image": "a:1", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no"}}}]})
    }

    #[test]
    fn a_repaired_template_does_not_reach_the_pod_that_is_waited_for() {
        let all = |revision: &str, spec: Json| {
            let pods = [pod(0, "new", is_ready()), pod(1, revision, can_t_pull())];
            [vec![set(spec, updating()), service()], pods.to_vec()].concat()
        };
        assert_eq!(
            found(Origin::Cluster, all("old", json!({}))),
            ["image-not-there", "stays-on-a-broken-revision"]
        );
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
        let all = vec![set(json!({"replicas": 1}), json!({})), service(), pod(0, "a", unready), refused];
        assert_eq!(found(Origin::Cluster, all), [""; 0], "nobody waits for it");
    }

    #[test]
    fn a_partition_is_told_when_it_moves_nothing_or_takes_nothing_back() {
        let at = |partition: i64| json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": partition}}});
        assert_eq!(
            found(Origin::Cluster, vec![set(at(3), updating()), service()]),
            ["partition-moves-nothing"]
        );
        assert_eq!(found(Origin::Chart, vec![set(at(3), json!({})), service()]), ["partition-moves-nothing"]);
        assert_eq!(found(Origin::Cluster, vec![set(at(2), updating()), service()]), [""; 0]);
        let same = json!({"currentRevision": "new", "updateRevision": "new"});
        assert_eq!(
            found(Origin::Cluster, vec![set(at(3), same), service()]),
            [""; 0],
            "nothing is to be moved"
        );
        let all =
            vec![set(at(2), updating()), service(), pod(1, "new", is_ready()), pod(2, "new", is_ready())];
        assert_eq!(found(Origin::Cluster, all), ["raised-partition-is-no-rollback"]);
        let all =
            vec![set(at(2), updating()), service(), pod(1, "old", is_ready()), pod(2, "new", is_ready())];
        assert_eq!(found(Origin::Cluster, all), [""; 0]);
    }

    #[test]
    fn on_delete_is_told_while_pods_wait_for_it() {
        let spec = json!({"updateStrategy": {"type": "OnDelete"}});
        let all =
            |revision: &str| vec![set(spec.clone(), updating()), service(), pod(0, revision, is_ready())];
        assert_eq!(found(Origin::Cluster, all("old")), ["on-delete-waits-for-you"]);
        assert_eq!(found(Origin::Cluster, all("new")), [""; 0]);
    }

    #[test]
    fn a_version_in_what_can_t_be_changed_is_told_before_the_first_upgrade() {
        let spec = |label: &str| {
            json!({"selector": {"matchLabels": {"app": "web", label: "x"}},
            "template": {"metadata": {"labels": {"app": "web", label: "x"}}}})
        };
        assert_eq!(
            found(Origin::Chart, vec![set(spec("helm.sh/chart"), json!({})), service()]),
            ["version-in-the-selector"]
        );
        assert_eq!(found(Origin::Chart, vec![set(spec("tier"), json!({})), service()]), [""; 0]);
    }

    #[test]
    fn replicas_that_kubectl_took_from_helm_are_told() {
        let of = |manager: &str, operation: &str, subresource: &str, owns: bool| {
            let fields = if owns {
                json!({"f:spec": {"f:replicas": {}}})
            } else {
                json!({"f:spec": {"f:template": {}}})
            };
            json!({"manager": manager, "operation": operation, "subresource": subresource, "fieldsV1": fields})
        };
        let all = |managers: Json| {
            let mut set = set(json!({}), json!({}));
            set["metadata"]["managedFields"] = managers;
            found(Origin::Cluster, vec![set, service()])
        };
        let helm = of("helm", "Apply", "", false);
        assert_eq!(all(json!([of("kubectl", "Update", "scale", true), helm])), ["scaled-by-hand"]);
        assert_eq!(all(json!([of("kube-controller-manager", "Update", "scale", true), helm])), [""; 0]);
        assert_eq!(all(json!([of("kubectl", "Update", "scale", true)])), [""; 0], "Helm has no part in it");
    }
}
