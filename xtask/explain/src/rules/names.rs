//! Names in DNS, and the services behind them.

use std::collections::BTreeSet;

use serde_json::Value as Json;

use crate::objects::{Objects, called, fits, going, name, selector, text};
use crate::{Case, Rule};

const DNS: &str = "https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/#stable-network-id";

pub(super) const NO_GOVERNING_SERVICE: Rule = Rule {
    id: "no-governing-service",
    symptom: "the name of a pod is not found",
    why: "A pod's name in DNS is <pod>.<serviceName>, and exists only while a service of that name selects the pod. \
          Nothing checks that there is one: the set runs without.",
    source: DNS,
    not: "Don't add hostname or subdomain by hand: the set already does, by serviceName.",
    find: |objects| {
        let lacking = objects.sets().filter_map(|set| {
            let service = text(set, "/spec/serviceName");
            if !service.is_empty() && objects.named("Service", service).is_some() {
                return None;
            }
            let set_name = name(set);
            let says = match service {
                "" => format!("{} names no governing service, so its pods have no names in DNS", called(set)),
                service => format!("{} names the service {service}, which is not there", called(set)),
            };
            let case = Case::of(called(set), says).seen(format!("spec.serviceName: {service:?}"));
            let case = match service {
                "" => case
                    .mend(format!("set spec.serviceName: {set_name}-headless, and make a Service of that name with clusterIP: None and the set's selector"))
                    .costs("spec.serviceName can't be changed on a set that is there: delete it with --cascade=orphan and make it again; pods and claims stay"),
                service => {
                    let labels = selector(set, "/spec/selector/matchLabels");
                    let labels: Vec<String> = labels.into_iter().flatten().filter_map(|(key, value)| {
                        Some(format!("{key}: {}", value.as_str()?))
                    }).collect();
                    case.mend(format!("make a Service called {service} with clusterIP: None and the selector {{ {} }}", labels.join(", ")))
                        .costs("nothing: pods are found as soon as it is there")
                }
            };
            Some(case)
        });
        lacking.collect()
    },
};

pub(super) const GOVERNING_SERVICE_WITH_AN_ADDRESS: Rule = Rule {
    id: "governing-service-with-an-address",
    symptom: "the service's name has one address where one expects all pods",
    why: "A headless service (clusterIP: None) answers with the addresses of its pods; one with an address of its own \
          answers with that. The pods' own names resolve either way with CoreDNS.",
    source: "https://kubernetes.io/docs/concepts/services-networking/service/#headless-services",
    not: "Don't set clusterIP: None on the service that people use from outside: it would lose its address.",
    find: |objects| {
        let wrong = objects.sets().filter_map(|set| {
            let service = objects.named("Service", text(set, "/spec/serviceName"))?;
            let address = text(service, "/spec/clusterIP");
            let kind = text(service, "/spec/type");
            if address == "None" || kind == "ExternalName" {
                return None;
            }
            let says = format!("the governing service of {} is not headless", called(set));
            let shown = if address.is_empty() { format!("type: {kind:?}, no clusterIP: None") } else { format!("clusterIP: {address}") };
            Some(
                Case::of(called(service), says)
                    .seen(format!("{} has spec.serviceName: {}", called(set), name(service)))
                    .seen(format!("{}: spec: {shown}", called(service)))
                    .mend("keep this service for access from outside, and give the set a second one with clusterIP: None".to_owned())
                    .costs("clusterIP of a service that is there can't be changed: it is made anew, and its address changes"),
            )
        });
        wrong.collect()
    },
};

/// The labels of the pods there are, or will be: each with who owns them.
fn pods(objects: &Objects) -> Vec<(String, &Json)> {
    let mut found = Vec::new();
    for kind in ["StatefulSet", "Deployment", "DaemonSet", "Job", "ReplicaSet", "Rollout"] {
        for workload in objects.of(kind).filter(|workload| !going(workload)) {
            // A Deployment's ReplicaSets are no owners of their own.
            let owned = workload.pointer("/metadata/ownerReferences").is_some();
            if let (false, Some(labels)) = (owned, workload.pointer("/spec/template/metadata/labels")) {
                found.push((called(workload), labels));
            }
        }
    }
    for pod in objects.of("Pod").filter(|pod| pod.pointer("/metadata/ownerReferences").is_none()) {
        if let Some(labels) = pod.pointer("/metadata/labels") {
            found.push((called(pod), labels));
        }
    }
    found
}

pub(super) const SERVICE_SELECTS_NOTHING: Rule = Rule {
    id: "service-selects-nothing",
    symptom: "the service answers nobody, or its name has no address",
    why: "A service leads to the pods that have every label of its selector. One wrong letter, and there is none.",
    source: "https://kubernetes.io/docs/concepts/services-networking/service/#services-in-kubernetes",
    not: "Don't take the selector away: a service without one leads nowhere until somebody writes its endpoints.",
    find: |objects| {
        let pods = pods(objects);
        let lonely = objects.of("Service").filter_map(|service| {
            let asked = selector(service, "/spec/selector")?;
            // A workload of a kind that nobody here knows has pods too.
            let running = objects.of("Pod").any(|pod| fits(asked, &pod["metadata"]["labels"]));
            if pods.is_empty() || running || pods.iter().any(|(_, labels)| fits(asked, labels)) {
                return None;
            }
            // Somebody's pods may come and go; the governing service of a set has no such excuse.
            let governed = objects.sets().find(|set| text(set, "/spec/serviceName") == name(service));
            let nearest = governed
                .map(|set| (called(set), &set["spec"]["template"]["metadata"]["labels"]))
                .or_else(|| pods.first().cloned());
            let (owner, labels) = nearest?;
            let wrong: Vec<String> = asked
                .iter()
                .filter(|(key, value)| labels.get(*key) != Some(*value))
                .map(|(key, value)| {
                    let has = labels
                        .get(key)
                        .and_then(Json::as_str)
                        .map_or("no such label".to_owned(), |has| format!("{has:?}"));
                    format!("spec.selector.{key}: {value}, where the pods of {owner} have {has}")
                })
                .collect();
            let mut case =
                Case::of(called(service), format!("{} selects no pod of any workload", called(service)));
            case.seen = wrong;
            let all: Vec<String> = selector_of(objects, &owner).into_iter().collect();
            Some(
                case.mend(format!("give its spec.selector the labels of the pods: {}", all.join(", ")))
                    .costs("nothing"),
            )
        });
        lonely.collect()
    },
};

fn selector_of(objects: &Objects, owner: &str) -> BTreeSet<String> {
    let workload = owner.split_once(' ').and_then(|(kind, name)| objects.named(kind, name));
    let labels = workload.and_then(|workload| selector(workload, "/spec/selector/matchLabels"));
    labels
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some(format!("{key}: {}", value.as_str()?)))
        .collect()
}

pub(super) const SERVICE_OVER_TWO_OWNERS: Rule = Rule {
    id: "service-over-two-owners",
    symptom: "every other request goes to the wrong pod",
    why: "A service knows labels, not owners: it leads to every pod that has them. Two workloads with the same labels \
          share its requests, and a headless name lists the pods of both.",
    source: "https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors",
    not: "Don't tell them apart by name: services select by labels alone.",
    find: |objects| {
        let pods = pods(objects);
        let shared = objects.of("Service").filter_map(|service| {
            let asked = selector(service, "/spec/selector")?;
            let owners: BTreeSet<&String> = pods
                .iter()
                .filter(|(owner, labels)| fits(asked, labels) && !owner.starts_with("Job ") && !is_hook(objects, owner))
                .map(|(owner, _)| owner)
                .collect();
            if owners.len() < 2 {
                return None;
            }
            let owners: Vec<String> = owners.into_iter().cloned().collect();
            let says = format!("{} leads to the pods of {}", called(service), owners.join(" and of "));
            Some(
                Case::of(called(service), says)
                    .seen(format!("spec.selector: {}", Json::Object(asked.clone())))
                    .mend("give the pods of each a label of their own (app.kubernetes.io/component), and the service that of the one it is meant for".to_owned())
                    .costs("selectors of workloads can't be changed: the one that gets another is made anew"),
            )
        });
        shared.collect()
    },
};

/// Hooks come and go around an installation: <https://helm.sh/docs/topics/charts_hooks/>.
fn is_hook(objects: &Objects, owner: &str) -> bool {
    let object = owner.split_once(' ').and_then(|(kind, name)| objects.named(kind, name));
    object.is_some_and(|object| object.pointer("/metadata/annotations/helm.sh~1hook").is_some())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use crate::{Objects, Origin, explain};

    fn set(service: &str) -> Json {
        json!({"kind": "StatefulSet", "metadata": {"name": "web"}, "spec": {"serviceName": service, "replicas": 2,
            "selector": {"matchLabels": {"app": "web"}}, "template": {"metadata": {"labels": {"app": "web"}}}}})
    }

    fn service(name: &str, spec: Json) -> Json {
        json!({"kind": "Service", "metadata": {"name": name}, "spec": spec})
    }

    fn headless() -> Json {
        service("web", json!({"clusterIP": "None", "selector": {"app": "web"}}))
    }

    fn found(all: &[Json]) -> Vec<&'static str> {
        let objects = Objects::new(Origin::Chart, "", all.to_vec());
        explain(&objects).iter().map(|trouble| trouble.rule).collect()
    }

    #[test]
    fn a_set_with_its_headless_service_is_left_alone() {
        assert_eq!(found(&[set("web"), headless()]), [""; 0]);
        let outside = service("outside", json!({"type": "NodePort", "selector": {"app": "web"}}));
        assert_eq!(found(&[set("web"), headless(), outside]), [""; 0]);
    }

    #[test]
    fn a_governing_service_that_is_not_there_or_has_an_address_is_told() {
        assert_eq!(found(&[set("")]), ["no-governing-service"]);
        assert_eq!(found(&[set("other"), headless()]), ["no-governing-service"]);
        let address = service("web", json!({"clusterIP": "10.0.0.1", "selector": {"app": "web"}}));
        assert_eq!(found(&[set("web"), address]), ["governing-service-with-an-address"]);
    }

    #[test]
    fn a_service_leads_to_the_pods_of_one_owner() {
        let wrong = service("web", json!({"clusterIP": "None", "selector": {"app": "wep"}}));
        let objects = Objects::new(Origin::Chart, "", vec![set("web"), wrong]);
        let troubles = explain(&objects);
        assert_eq!(troubles[0].rule, "service-selects-nothing");
        assert_eq!(
            troubles[0].case.seen,
            ["spec.selector.app: \"wep\", where the pods of StatefulSet web have \"web\""]
        );
        let mut deployment = set("");
        deployment["kind"] = json!("Deployment");
        deployment["metadata"]["name"] = json!("old");
        assert_eq!(found(&[set("web"), headless(), deployment.clone()]), ["service-over-two-owners"]);
        deployment["spec"]["template"]["metadata"]["labels"]["app"] = json!("old");
        assert_eq!(found(&[set("web"), headless(), deployment]), [""; 0]);
    }
}
