//! Pods that are not made, not placed, or not started; pods that may not go.

use serde_json::Value as Json;

use crate::objects::{Objects, called, condition, going, name, number, replicas, text, waiting};
use crate::{Case, Rule};

/// Workloads whose pods are made by the controller of that kind; a Deployment's by that of its ReplicaSets.
const MAKERS: [&str; 3] = ["StatefulSet", "ReplicaSet", "Job"];

/// What events say of pods that could not be made, for workloads that still lack some.
fn not_made<'a>(objects: &'a Objects, words: &'a str) -> Vec<(&'a Json, &'a str)> {
    let mut found = Vec::new();
    for kind in MAKERS {
        for workload in objects.of(kind).filter(|workload| !going(workload)) {
            let lacks = number(workload, "/status/replicas").unwrap_or(0) < replicas(workload);
            let said =
                objects.events(kind, name(workload)).filter(|(reason, _)| *reason == "FailedCreate").last();
            if let (true, Some((_, message))) = (lacks, said)
                && message.contains(words)
            {
                found.push((workload, message));
            }
        }
    }
    found
}

fn event(workload: &Json, message: &str) -> String {
    format!("event FailedCreate of {}: {message}", called(workload))
}

pub(super) const REFUSED_BY_POD_SECURITY: Rule = Rule {
    id: "refused-by-pod-security",
    symptom: "0 pods, and nothing says why",
    why: "The namespace enforces a Pod Security level, and the API server refuses pods that go beyond it. The set itself \
          is accepted; only its events tell.",
    source: "https://kubernetes.io/docs/concepts/security/pod-security-admission/#pod-security-admission-labels-for-namespaces",
    not: "Don't take the label off the namespace to make one chart run: it protects all that runs there.",
    find: |objects| {
        let refused = not_made(objects, "violates PodSecurity").into_iter().map(|(workload, message)| {
            let level = message.split('"').nth(1).unwrap_or("enforced");
            let asks = message.split_once(": ").map_or(message, |(_, rest)| rest);
            Case::of(
                called(workload),
                format!("the pods of {} are refused by the level {level}", called(workload)),
            )
            .seen(event(workload, message))
            .mend(format!("give the pod template the security context that is asked for: {asks}"))
            .costs("a container that needs root or a privilege will not run here at all")
        });
        refused.collect()
    },
};

pub(super) const QUOTA_USED_UP: Rule = Rule {
    id: "quota-used-up",
    symptom: "fewer pods than asked for, and nothing is pending",
    why: "A ResourceQuota bounds what all pods of the namespace may ask for together; a pod beyond it is never made.",
    source: "https://kubernetes.io/docs/concepts/policy/resource-quotas/",
    not: "Don't leave requests out to get around it: with a quota on cpu or memory such pods are refused as well.",
    find: |objects| {
        let refused = not_made(objects, "exceeded quota").into_iter().map(|(workload, message)| {
            let quota = message
                .split_once("exceeded quota: ")
                .and_then(|(_, rest)| rest.split(',').next())
                .unwrap_or_default();
            Case::of(
                called(workload),
                format!("the quota {quota} leaves no room for the pods of {}", called(workload)),
            )
            .seen(event(workload, message))
            .mend(objects.kubectl(&format!("describe resourcequota {quota}")))
            .mend("then ask for less, remove what is not needed, or have the quota raised")
            .costs("what is removed to make room")
        });
        refused.collect()
    },
};

/// Longest name of a set whose pods can be made: their label `controller-revision-hash` holds it, a dash and ten
/// characters, and no label's value has more than 63.
const SET_NAME_CHARS: usize = 52;

pub(super) const NAME_TOO_LONG: Rule = Rule {
    id: "name-too-long",
    symptom: "0 pods of a set that was accepted",
    why: "Every pod of a set carries the name of its revision as a label: the set's name, a dash and up to ten \
          characters. A label's value has at most 63.",
    source: "https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set",
    not: "Don't shorten the release alone: the chart's fullname may add its own name to it again.",
    find: |objects| {
        let long = objects.sets().filter(|set| name(set).len() > SET_NAME_CHARS).map(|set| {
            let says = format!(
                "the name of {} has {} characters, and {SET_NAME_CHARS} leave room for the revision",
                called(set),
                name(set).len()
            );
            let mut case = Case::of(called(set), says).seen(format!("metadata.name: {}", name(set)));
            case.seen.extend(
                objects
                    .events("StatefulSet", name(set))
                    .filter(|(reason, _)| *reason == "FailedCreate")
                    .last()
                    .map(|(_, message)| event(set, message)),
            );
            case.mend("give the set a shorter name, with fullnameOverride where the chart has it")
                .costs("a set of another name has other pods and other claims")
        });
        long.collect()
    },
};

pub(super) const NOT_SCHEDULABLE: Rule = Rule {
    id: "not-schedulable",
    symptom: "a pod stays Pending",
    why: "The scheduler places a pod only where a node has all it asks for left over, and where its selector, affinity \
          and tolerations allow it. Requests count, not what is really used.",
    source: "https://kubernetes.io/docs/concepts/scheduling-eviction/kube-scheduler/#kube-scheduler-implementation",
    not: "Don't set nodeName: it goes around the scheduler, and the pod then fails on the node instead.",
    find: |objects| {
        let stuck = objects.of("Pod").filter(|pod| !going(pod)).filter_map(|pod| {
            let scheduled = condition(pod, "PodScheduled")
                .filter(|it| it["status"] == "False" && it["reason"] == "Unschedulable")?;
            let message = text(scheduled, "/message");
            // Each of these is the only reason named, or it is not unambiguous.
            let reasons = [
                (
                    "Insufficient cpu",
                    "no node has enough cpu left",
                    "lower resources.requests.cpu, or free some",
                ),
                (
                    "Insufficient memory",
                    "no node has enough memory left",
                    "lower resources.requests.memory, or free some",
                ),
                ("Too many pods", "the nodes hold as many pods as they may", "remove pods, or add a node"),
                (
                    "node affinity/selector",
                    "no node fits its selector or affinity",
                    "correct nodeSelector or affinity, or label a node",
                ),
                (
                    "untolerated taint",
                    "every node has a taint that it does not tolerate",
                    "add the toleration, or take the taint away",
                ),
                (
                    "anti-affinity",
                    "its anti-affinity leaves no node",
                    "prefer it instead of requiring it, or add a node",
                ),
                (
                    "topology spread constraints",
                    "its topology spread leaves no node",
                    "use whenUnsatisfiable: ScheduleAnyway, or add a node",
                ),
            ];
            let named: Vec<_> = reasons.iter().filter(|(word, _, _)| message.contains(word)).collect();
            if named.is_empty() {
                return None;
            }
            let why: Vec<&str> = named.iter().map(|(_, why, _)| *why).collect();
            let mut case =
                Case::of(called(pod), format!("{} can't be placed: {}", called(pod), why.join("; ")))
                    .seen(format!("condition PodScheduled is False: {message}"))
                    .costs("a changed template is a new revision: every pod of the workload is replaced");
            case.mend.extend(named.iter().map(|(_, _, mend)| (*mend).to_owned()));
            if named.len() > 1 {
                case = case.question("which of the nodes is it meant for? the reason of that one counts");
            }
            Some(case)
        });
        stuck.collect()
    },
};

pub(super) const IMAGE_NOT_THERE: Rule = Rule {
    id: "image-not-there",
    symptom: "ImagePullBackOff, ErrImagePull or ErrImageNeverPull",
    why: "The kubelet asks the registry for an image that the node lacks, and for one called latest each time it starts a \
          container. An image that was loaded into the node is in no registry.",
    source: "https://kubernetes.io/docs/concepts/containers/images/#imagepullpolicy-defaulting",
    not: "Don't push to a public registry to get around it: load the image, or give the pod a pull secret.",
    find: |objects| {
        let reasons = ["ImagePullBackOff", "ErrImagePull", "ErrImageNeverPull", "InvalidImageName"];
        let stuck = objects.of("Pod").filter(|pod| !going(pod)).filter_map(|pod| {
            let (reason, message, image) = waiting(pod).filter(|(reason, _, _)| reasons.contains(reason))?;
            let last = image.rsplit('/').next().unwrap_or(image);
            let floats = !last.contains('@') && (!last.contains(':') || last.ends_with(":latest"));
            let says = format!("the node can't have the image {image} of {}", called(pod));
            let case = Case::of(called(pod), says).seen(format!("waiting: {reason}: {message}"));
            Some(if floats {
                case.mend("give the image a tag other than latest, and imagePullPolicy: IfNotPresent; on kind: kind load docker-image NAME:TAG")
                    .costs("a new revision: every pod of the workload is replaced")
            } else {
                case.mend("correct the name or the tag, add imagePullSecrets for a private registry, or load the image into the node")
                    .costs("a corrected template is a new revision; a set with OrderedReady may keep the broken pod until it is deleted")
            })
        });
        let mut cases: Vec<Case> = stuck.collect();
        cases.dedup_by(|one, other| one.seen == other.seen);
        cases
    },
};

pub(super) const BUDGET_ALLOWS_NONE: Rule = Rule {
    id: "budget-allows-none",
    symptom: "kubectl drain never ends",
    why: "A drain asks for evictions, and an eviction that the budget does not allow is refused and asked for again. A \
          budget that asks for as many pods as there are never allows one.",
    source: "https://kubernetes.io/docs/tasks/run-application/configure-pdb/",
    not: "Don't drain with --disable-eviction: it deletes the pods and goes around every budget.",
    find: |objects| {
        let never = objects.of("PodDisruptionBudget").filter_map(|budget| {
            let fixed = budget.pointer("/spec/maxUnavailable").is_some_and(|most| most == 0 || most == "0" || most == "0%");
            let least = budget.pointer("/spec/minAvailable");
            let all = least.is_some_and(|least| least == "100%")
                || least.and_then(Json::as_i64).is_some_and(|least| least > 0 && covered(objects, budget).is_some_and(|pods| least >= pods));
            if !(fixed || all) {
                return None;
            }
            let asks = match least {
                Some(least) => format!("spec.minAvailable: {least}"),
                None => "spec.maxUnavailable: 0".to_owned(),
            };
            Some(
                Case::of(called(budget), format!("{} never lets a pod be evicted", called(budget)))
                    .seen(asks)
                    .mend(objects.kubectl(&format!("patch poddisruptionbudget {} --type merge --patch '{{\"spec\":{{\"minAvailable\":null,\"maxUnavailable\":1}}}}'", name(budget))))
                    .costs("one pod at a time may be away"),
            )
        });
        never.collect()
    },
};

/// How many pods a budget is about; nothing where it is about none that are known.
fn covered(objects: &Objects, budget: &Json) -> Option<i64> {
    if objects.live() {
        return number(budget, "/status/expectedPods").filter(|pods| *pods > 0);
    }
    let asked = crate::objects::selector(budget, "/spec/selector/matchLabels")?;
    let workloads = ["StatefulSet", "Deployment"].iter().flat_map(|kind| objects.of(kind));
    let about = workloads.filter(|workload| {
        workload
            .pointer("/spec/template/metadata/labels")
            .is_some_and(|labels| crate::objects::fits(asked, labels))
    });
    Some(about.map(replicas).sum()).filter(|pods| *pods > 0)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use crate::{Objects, Origin, explain};

    fn found(all: Vec<Json>) -> Vec<String> {
        let troubles = explain(&Objects::new(Origin::Cluster, "shop", all));
        troubles.iter().map(|trouble| format!("{}: {}", trouble.rule, trouble.case.says)).collect()
    }

    fn set(name: &str, made: i64) -> Json {
        json!({"kind": "StatefulSet", "metadata": {"name": name, "uid": "s"}, "status": {"replicas": made},
            "spec": {"serviceName": "web", "replicas": 3, "selector": {"matchLabels": {"app": "web"}},
                "template": {"metadata": {"labels": {"app": "web"}}}}})
    }

    fn service() -> Json {
        json!({"kind": "Service", "metadata": {"name": "web"}, "spec": {"clusterIP": "None", "selector": {"app": "web"}}})
    }

    fn failed(message: &str) -> Json {
        json!({"kind": "Event", "reason": "FailedCreate", "message": message,
            "involvedObject": {"kind": "StatefulSet", "name": "web"}})
    }

    fn pod(status: Json) -> Json {
        json!({"kind": "Pod", "metadata": {"name": "web-0", "ownerReferences": [{"uid": "s"}], "labels": {"app": "web"}},
            "status": status})
    }

    #[test]
    fn pods_that_are_never_made_are_explained_by_the_events_of_their_set() {
        let security = "create Pod web-0 in StatefulSet web failed error: pods \"web-0\" is forbidden: violates PodSecurity \"restricted:latest\": runAsNonRoot != true";
        let quota = "create Pod web-0 in StatefulSet web failed error: pods \"web-0\" is forbidden: exceeded quota: small, requested: pods=1";
        for (message, rule) in [(security, "refused-by-pod-security"), (quota, "quota-used-up")] {
            let told = found(vec![set("web", 0), service(), failed(message)]);
            assert!(told.len() == 1 && told[0].starts_with(rule), "{told:?}");
            // An event outlives its cause by an hour.
            assert_eq!(found(vec![set("web", 3), service(), failed(message)]), [""; 0]);
        }
        let long = "w".repeat(53);
        assert!(found(vec![set(&long, 0), service()])[0].starts_with("name-too-long"));
        assert_eq!(found(vec![set(&long[1..], 0), service()]), [""; 0]);
    }

    #[test]
    fn a_pod_that_can_t_be_placed_is_told_by_what_is_lacking() {
        let unscheduled = |message: &str| {
            pod(
                json!({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}]}),
            )
        };
        let told = found(vec![
            set("web", 1),
            service(),
            unscheduled("0/1 nodes are available: 1 Insufficient memory."),
        ]);
        assert_eq!(told, ["not-schedulable: Pod web-0 can't be placed: no node has enough memory left"]);
        assert_eq!(
            found(vec![set("web", 1), service(), unscheduled("0/1 nodes are available: something new.")]),
            [""; 0]
        );
    }

    #[test]
    fn an_image_that_is_not_there_is_told_and_latest_has_its_own_cure() {
        let waits = |image: &str| {
            let waiting =
                json!({"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}});
            let status = json!({"containerStatuses": [{"image": image, "state": waiting}]});
            let troubles =
                explain(&Objects::new(Origin::Cluster, "", vec![set("web", 1), service(), pod(status)]));
            assert_eq!(troubles[0].rule, "image-not-there");
            troubles[0].case.mend[0].clone()
        };
        for image in ["shop/app", "host:5000/shop/app", "app:latest"] {
            assert!(waits(image).contains("other than latest"), "{image}");
        }
        assert!(waits("host:5000/app:1.2").contains("correct the name or the tag"));
    }

    #[test]
    fn a_budget_that_allows_none_is_told_and_one_that_is_only_used_up_is_not() {
        let budget = |spec: Json| {
            json!({"kind": "PodDisruptionBudget", "metadata": {"name": "web"}, "spec": spec,
            "status": {"expectedPods": 3, "disruptionsAllowed": 0}})
        };
        for spec in
            [json!({"minAvailable": 3}), json!({"maxUnavailable": 0}), json!({"minAvailable": "100%"})]
        {
            assert_eq!(found(vec![set("web", 3), service(), budget(spec)]).len(), 1);
        }
        for spec in [json!({"minAvailable": 2}), json!({"maxUnavailable": 1}), json!({"minAvailable": "50%"})]
        {
            assert_eq!(found(vec![set("web", 3), service(), budget(spec)]), [""; 0]);
        }
    }
}
