//! Pods that are not made, and pods that may not go.

use serde_json::{Map, Value as Json, json};

use crate::mend::declared;
use crate::objects::{
    Objects, called, containers, first_ordinal, fits, going, name, number, ordinal, replicas, selector,
};
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

/// As many pods as there were made.
fn scaled_to_fit(objects: &Objects, workload: &Json) -> Option<String> {
    let owner = objects.workload_of(workload);
    let made = number(workload, "/status/replicas").unwrap_or(0);
    let kind = owner["kind"].as_str()?.to_lowercase();
    // A set in which pods lie beyond a gap would first make the pod that is missing, and that is what is refused.
    let beyond =
        |pod: &&Json| ordinal(name(pod)).is_some_and(|ordinal| ordinal >= first_ordinal(owner) + made);
    let gap = kind == "statefulset" && objects.pods_of(owner).iter().any(beyond);
    (made > 0 && kind != "job" && !gap)
        .then(|| objects.kubectl(&format!("scale {kind} {} --replicas={made}", name(owner))))
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
            // `… violates PodSecurity "restricted:latest": …`
            let said = message.split_once("PodSecurity \"").map_or("", |(_, said)| said);
            let (level, asks) = said.split_once("\": ").unwrap_or(("enforced", message));
            Case::of(
                called(workload),
                format!("the pods of {} are refused by the Pod Security level {level}", called(workload)),
            )
            .seen(event(workload, message))
            .mend(
                hardened(objects.workload_of(workload), asks)
                    .into_iter()
                    .flat_map(|spec| objects.patch_pods(objects.workload_of(workload), &spec)),
            )
            .change(format!("give the pod template the security context that is asked for: {asks}"))
            .costs("a container that needs root or a privilege will not run here at all")
        });
        refused.collect()
    },
};

/// What a pod template has to say to meet what Pod Security asks for; nothing where that can't be said by itself.
/// <https://kubernetes.io/docs/concepts/security/pod-security-standards/>
fn hardened(workload: &Json, asks: &str) -> Option<Json> {
    let (mut pod, mut container) = (Map::new(), Map::new());
    let (mut all, mut known) = (Map::new(), 0);
    let mut asked = |word: &str| {
        let asked = asks.contains(word);
        known += usize::from(asked);
        asked
    };
    if asked("allowPrivilegeEscalation != false") {
        container.insert("allowPrivilegeEscalation".to_owned(), json!(false));
    }
    if asked("unrestricted capabilities") {
        container.insert("capabilities".to_owned(), json!({"drop": ["ALL"]}));
    }
    if asked("privileged (") {
        container.insert("privileged".to_owned(), json!(false));
    }
    if asked("runAsNonRoot != true") {
        pod.insert("runAsNonRoot".to_owned(), json!(true));
    }
    if asked("seccompProfile (") {
        pod.insert("seccompProfile".to_owned(), json!({"type": "RuntimeDefault"}));
    }
    if asked("host namespaces (") {
        all.extend(["hostNetwork", "hostPID", "hostIPC"].map(|host| (host.to_owned(), Json::Null)));
    }
    // `a (…), b (…)`: one thing that is not known, and the patch would not be enough.
    if known == 0 || asks.matches(" (").count() != known {
        return None;
    }
    if !pod.is_empty() {
        all.insert("securityContext".to_owned(), Json::Object(pod));
    }
    if !container.is_empty() {
        let of = containers(workload).map(|it| json!({"name": it["name"], "securityContext": container}));
        all.insert("containers".to_owned(), of.collect());
    }
    Some(Json::Object(all))
}

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
            .mend(scaled_to_fit(objects, workload))
            .change(
                "ask for fewer pods or less in resources.requests, or have whoever keeps the quota raise it",
            )
            .costs("the pods beyond the quota are not there")
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
            let mut short = declared(set);
            short["metadata"]["name"] = json!(name(set)[..SET_NAME_CHARS].trim_end_matches('-'));
            case.mend([objects.kubectl(&format!("delete statefulset {}", name(set))), objects.apply(&short)])
                .change("give the set a shorter name, with fullnameOverride where the chart has it")
                .costs("nothing: no pod and no claim of the long name was ever made")
        });
        long.collect()
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
            let fixed = budget
                .pointer("/spec/maxUnavailable")
                .is_some_and(|most| most == 0 || most == "0" || most == "0%");
            let least = budget.pointer("/spec/minAvailable");
            let all = least.is_some_and(|least| least == "100%")
                || least.and_then(Json::as_i64).is_some_and(|least| {
                    least > 0 && covered(objects, budget).is_some_and(|pods| least >= pods)
                });
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
                    .mend([
                        objects.patch(budget, &json!({"spec": {"minAvailable": null, "maxUnavailable": 1}}))
                    ])
                    .change("say maxUnavailable: 1 in the budget")
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
    let asked = selector(budget, "/spec/selector/matchLabels")?;
    let workloads = ["StatefulSet", "Deployment"].iter().flat_map(|kind| objects.of(kind));
    let about = workloads.filter(|workload| {
        workload.pointer("/spec/template/metadata/labels").is_some_and(|labels| fits(asked, labels))
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

    #[test]
    fn pods_that_are_never_made_are_explained_by_the_events_of_their_set() {
        let security = "create Pod web-0 in StatefulSet web failed error: pods \"web-0\" is forbidden: violates PodSecurity \"restricted:latest\": runAsNonRoot != true";
        let quota = "create Pod web-0 in StatefulSet web failed error: pods \"web-0\" is forbidden: exceeded quota: small, requested: pods=1";
        for (message, rule) in [(security, "refused-by-pod-security"), (quota, "quota-used-up")] {
            let told = found(vec![set("web", 0), service(), failed(message)]);
            assert!(told.len() == 1 && told[0].starts_with(rule), "{told:?}");
            assert!(!told[0].contains("web-0"), "{told:?}");
            // An event outlives its cause by an hour.
            assert_eq!(found(vec![set("web", 3), service(), failed(message)]), [""; 0]);
        }
        let long = "w".repeat(53);
        assert!(found(vec![set(&long, 0), service()])[0].starts_with("name-too-long"));
        assert_eq!(found(vec![set(&long[1..], 0), service()]), [""; 0]);
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
