//! Names in DNS, and the services behind them.

use std::collections::BTreeSet;

use serde_json::{Map, Value as Json, json};

use crate::mend::declared;
use crate::objects::{Objects, called, containers, fits, going, hook, name, ready, replicas, selector, text};
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
                    .mend([objects.apply(&governing(set, &format!("{set_name}-headless")))])
                    .mend(objects.make_anew(set, |set| set["spec"]["serviceName"] = json!(format!("{set_name}-headless"))))
                    .mend([objects.kubectl(&format!("rollout restart statefulset {set_name}"))])
                    .change(format!("set spec.serviceName: {set_name}-headless, and make a Service of that name with clusterIP: None and the set's selector"))
                    .costs("the set is made anew, and its pods are replaced one after the other: a pod's name is given to it when it is made"),
                service => {
                    let anew = governing(set, service);
                    let change = format!("make a Service called {service} with clusterIP: None and the selector {}", anew["spec"]["selector"]);
                    case.mend([objects.apply(&anew)])
                        .change(change)
                        .costs("nothing: pods are found as soon as it is there")
                }
            };
            Some(case)
        });
        lacking.collect()
    },
};

/// A headless service for the pods of a set, as Helm's where the set is Helm's.
fn governing(set: &Json, service: &str) -> Json {
    let metadata = declared(set)["metadata"].clone();
    let mut metadata = metadata.as_object().cloned().unwrap_or_default();
    metadata.insert("name".to_owned(), json!(service));
    let ports: Vec<Json> = containers(set)
        .filter_map(|container| container.get("ports")?.as_array())
        .flatten()
        .filter_map(|port| {
            let mut of = Map::from_iter([("port".to_owned(), port.get("containerPort")?.clone())]);
            of.extend(port.get("name").map(|name| ("name".to_owned(), name.clone())));
            Some(Json::Object(of))
        })
        .collect();
    let mut spec = json!({"clusterIP": "None", "selector": set["spec"]["selector"]["matchLabels"]});
    if !ports.is_empty() {
        spec["ports"] = Json::Array(ports);
    }
    json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec})
}

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
                    .mend(objects.make_anew(service, headless))
                    .change("say clusterIP: None, and make a second service where the address is used from outside")
                    .costs("the service's address goes: whoever uses it from outside needs a second service first"),
            )
        });
        wrong.collect()
    },
};

/// Takes a service its address.
fn headless(service: &mut Json) {
    let Some(spec) = service["spec"].as_object_mut() else { return };
    for of_an_address in [
        "clusterIPs",
        "ipFamilies",
        "ipFamilyPolicy",
        "internalTrafficPolicy",
        "externalTrafficPolicy",
        "type",
    ] {
        spec.remove(of_an_address);
    }
    for port in spec.get_mut("ports").and_then(Json::as_array_mut).into_iter().flatten() {
        port.as_object_mut().map(|port| port.remove("nodePort"));
    }
    spec.insert("clusterIP".to_owned(), json!("None"));
}

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
            let labels = selector_of(objects, &owner);
            let only = pods.len() == 1 || governed.is_some();
            let mend = labels.filter(|_| only).map(|labels| selecting(objects, service, labels));
            Some(
                case.mend(mend)
                    .change(format!(
                        "give its spec.selector the labels of the pods: {}",
                        labels.map_or_else(String::new, |it| Json::Object(it.clone()).to_string())
                    ))
                    .costs("nothing"),
            )
        });
        lonely.collect()
    },
};

fn selector_of<'a>(objects: &'a Objects, owner: &str) -> Option<&'a Map<String, Json>> {
    let workload = owner.split_once(' ').and_then(|(kind, name)| objects.named(kind, name))?;
    selector(workload, "/spec/selector/matchLabels")
}

/// Gives a service another selector, without a word of the one it had.
fn selecting(objects: &Objects, service: &Json, labels: &Map<String, Json>) -> String {
    let patch = json!([{"op": "replace", "path": "/spec/selector", "value": labels}]);
    let words = format!(
        "patch service {} --type=json --patch {}",
        name(service),
        crate::mend::quoted(&patch.to_string())
    );
    objects.kubectl(&words)
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
            // The governing service is meant for its set, where that has a label of its own.
            let set = objects.sets().find(|set| text(set, "/spec/serviceName") == name(service));
            let own = set.and_then(|set| selector(set, "/spec/selector/matchLabels"));
            let own = own.filter(|own| pods.iter().filter(|(_, labels)| fits(own, labels)).count() == 1);
            let mend = own.map(|own| selecting(objects, service, own));
            let says = format!("{} leads to the pods of {}", called(service), owners.join(" and of "));
            Some(
                Case::of(called(service), says)
                    .seen(format!("spec.selector: {}", Json::Object(asked.clone())))
                    .mend(mend)
                    .change("give the pods of each a label of their own (app.kubernetes.io/component), and the service that of the one it is meant for")
                    .costs("selectors of workloads can't be changed: the one that gets another is made anew"),
            )
        });
        shared.collect()
    },
};

/// Hooks come and go around an installation.
fn is_hook(objects: &Objects, owner: &str) -> bool {
    let object = owner.split_once(' ').and_then(|(kind, name)| objects.named(kind, name));
    object.is_some_and(|object| hook(object).is_some())
}

pub(super) const NO_SRV_WITHOUT_A_NAMED_PORT: Rule = Rule {
    id: "no-srv-without-a-named-port",
    symptom: "the SRV record that an app asks for is not found, though the service is",
    why: "An SRV record is made for each port of a service that has a name: _<port>._<protocol>.<service>. A port \
          without a name has none.",
    source: "https://kubernetes.io/docs/concepts/services-networking/dns-pod-service/#srv-records",
    not: "Don't name the port of the container alone: it is the service's that counts.",
    find: |objects| {
        let mut cases = Vec::new();
        for set in objects.sets() {
            for (port, protocol, service) in asked_for(set) {
                let Some(service) = objects.named("Service", service) else { continue };
                let ports =
                    service.pointer("/spec/ports").and_then(Json::as_array).map_or(&[][..], Vec::as_slice);
                if ports.iter().any(|it| text(it, "/name") == port) {
                    continue;
                }
                let says = format!(
                    "the pods of {} ask for _{port}._{protocol}.{}, and no port of {} is called {port}",
                    called(set),
                    name(service),
                    called(service)
                );
                let mut case = Case::of(called(service), says)
                    .seen(format!(
                        "spec.ports: {}",
                        Json::Array(
                            ports.iter().map(|it| json!({"name": it["name"], "port": it["port"]})).collect()
                        )
                    ))
                    .change(format!("call the port {port} in the service"))
                    .costs("nothing");
                // With more than one it is not known which is meant.
                if ports.len() == 1 {
                    let patch = json!([{"op": "add", "path": "/spec/ports/0/name", "value": port}]);
                    let patch = crate::mend::quoted(&patch.to_string());
                    case = case.mend([objects
                        .kubectl(&format!("patch service {} --type=json --patch {patch}", name(service)))]);
                }
                cases.push(case);
            }
        }
        cases
    },
};

/// The SRV records that a set's pods are told to ask for, in an argument or a variable: port, protocol, service.
fn asked_for(set: &Json) -> Vec<(&str, &str, &str)> {
    let mut found = Vec::new();
    for container in containers(set) {
        for list in ["command", "args", "env"] {
            for word in container[list].as_array().into_iter().flatten() {
                let Some(word) = word.as_str().or_else(|| word["value"].as_str()) else { continue };
                found.extend(
                    word.split(|c: char| !(c.is_ascii_alphanumeric() || "-_.".contains(c))).filter_map(srv),
                );
            }
        }
    }
    found.dedup();
    found
}

/// `_http._tcp.web.shop.svc` in its parts.
fn srv(word: &str) -> Option<(&str, &str, &str)> {
    let mut parts = word.split('.');
    let port = parts.next()?.strip_prefix('_').filter(|port| !port.is_empty())?;
    let protocol = parts.next()?.strip_prefix('_').filter(|it| ["tcp", "udp"].contains(it))?;
    Some((port, protocol, parts.next()?))
}

/// What a probe says when it could not resolve a name, in the words of several programs.
const NOT_FOUND: [&str; 6] = [
    "NXDOMAIN",
    "bad address",
    "no such host",
    "can't resolve",
    "could not resolve",
    "Name or service not known",
];

pub(super) const UNREADY_PEERS_NOT_PUBLISHED: Rule = Rule {
    id: "unready-peers-not-published",
    symptom: "all pods run, none becomes ready, and each says that it can't find the others",
    why: "A headless service names only pods that are ready. Pods that must find each other to become ready wait for a \
          name that comes when they no longer need it.",
    source: "https://kubernetes.io/docs/concepts/services-networking/dns-pod-service/#a-aaaa-records-1",
    not: "Don't take the readiness probe away: clients would be sent to pods that can't answer.",
    find: |objects| {
        let found = objects.sets().filter_map(|set| {
            let service = objects.named("Service", text(set, "/spec/serviceName"))?;
            let pods = objects.pods_of(set);
            let all = pods.len() as i64 == replicas(set) && pods.len() > 1;
            let runs = |pod: &&Json| !going(pod) && text(pod, "/status/phase") == "Running" && !ready(pod);
            if !all || !pods.iter().all(runs) || service["spec"]["publishNotReadyAddresses"] == true {
                return None;
            }
            let said = pods.iter().find_map(|pod| objects.unready_because(pod))?;
            if !NOT_FOUND.iter().any(|word| said.contains(word)) {
                return None;
            }
            let says = format!("the pods of {} wait for each other's names, and {} has only those of ready pods", called(set), called(service));
            Some(
                Case::of(called(service), says)
                    .seen(format!("event Unhealthy: {}", model::text::on_one_line(said)))
                    .seen(format!("{}: spec.publishNotReadyAddresses is not set; none of {} pods is ready", called(service), pods.len()))
                    .mend([objects.patch(service, &json!({"spec": {"publishNotReadyAddresses": true}}))])
                    .change("say publishNotReadyAddresses: true in the governing service; clients use another one")
                    .costs("the governing service's name leads to pods that are not ready too"),
            )
        });
        found.collect()
    },
};

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

    #[test]
    fn an_srv_record_that_pods_ask_for_needs_a_port_of_that_name() {
        let asking = |word: &str| {
            let mut set = set("web");
            set["spec"]["template"]["spec"] =
                json!({"containers": [{"name": "app", "env": [{"name": "PEERS", "value": word}]}]});
            set
        };
        let with = |ports: serde_json::Value| {
            service("web", json!({"clusterIP": "None", "selector": {"app": "web"}, "ports": ports}))
        };
        let word = "dnssrv+_http._tcp.web.shop.svc.cluster.local";
        assert_eq!(found(&[asking(word), with(json!([{"port": 80}]))]), ["no-srv-without-a-named-port"]);
        assert_eq!(found(&[asking(word), with(json!([{"port": 80, "name": "http"}]))]), [""; 0]);
        assert_eq!(found(&[asking("web.shop"), with(json!([{"port": 80}]))]), [""; 0], "nobody asks");
    }

    #[test]
    fn pods_that_wait_for_each_others_names_are_told_by_what_their_probes_say() {
        let pods = ["web-0", "web-1"].map(|name| {
            json!({"kind": "Pod", "metadata": {"name": name, "ownerReferences": [{"uid": "s"}], "labels": {"app": "web"}}, "status": {"phase": "Running"}})
        });
        let ask = |message: &str, publish: bool| {
            let mut set = set("web");
            set["metadata"]["uid"] = json!("s");
            set["spec"]["podManagementPolicy"] = json!("Parallel");
            let said = json!({"kind": "Event", "reason": "Unhealthy", "message": format!("Readiness probe failed: {message}"),
                "involvedObject": {"kind": "Pod", "name": "web-1"}});
            let service = service(
                "web",
                json!({"clusterIP": "None", "selector": {"app": "web"}, "publishNotReadyAddresses": publish}),
            );
            let all = [vec![set, service, said], pods.to_vec()].concat();
            explain(&Objects::new(Origin::Cluster, "", all))
                .iter()
                .map(|trouble| trouble.rule)
                .collect::<Vec<_>>()
        };
        assert_eq!(ask("server can't find web-0.web: NXDOMAIN", false), ["unready-peers-not-published"]);
        assert_eq!(ask("server can't find web-0.web: NXDOMAIN", true), [""; 0]);
        assert_eq!(ask("503", false), [""; 0]);
    }
}
