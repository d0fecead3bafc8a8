//! What stands in the way of a chart of somebody else's on the lab's node, and is changed on the chart's way into the
//! cluster. Nothing else is, and every change is told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use regex::Regex;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::changes::{app, pod_spec, workload};
use super::target::{ANYWHERE, data};
use model::condition;

/// What a container may ask for: fifty pods fit on a node with two cores.
const REQUESTS: [(&str, &str); 2] = [("cpu", "10m"), ("memory", "16Mi")];
/// Probes, and the path of the counter that answers each.
pub(super) const PROBES: [(&str, &str); 3] =
    [("startupProbe", "/healthz"), ("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")];
/// Seconds that a pod may take to stop.
const GRACE_S: u64 = 5;
/// Where the counter listens when the chart names no port.
const PORT: u64 = 8000;

/// What is known of the cluster that a chart is to be adapted to.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Adapt {
    /// The kinds that it has: `apps/v1 StatefulSet`.
    pub(crate) kinds: BTreeSet<String>,
    /// The namespace of the release.
    #[serde(default)]
    pub(crate) namespace: String,
    /// Images that it can't have, and the one that stands in for each.
    pub(crate) stand_ins: BTreeMap<String, String>,
    /// An image with a shell that the cluster has.
    #[serde(default)]
    pub(crate) shell: Option<String>,
}

/// Changes the objects, and says what was changed: a sentence each, and each once.
pub(crate) fn adapt(objects: &mut Vec<Json>, to: &Adapt) -> Vec<String> {
    let mut told = Told::default();
    objects.retain(|object| {
        let (group, kind) = (object["apiVersion"].as_str().unwrap_or_default(), &object["kind"]);
        let known = to.kinds.is_empty()
            || to.kinds.contains(&format!("{group} {}", kind.as_str().unwrap_or_default()));
        if !known {
            told.say(format!("{} of {group} is left out: the cluster has no such kind", named(object)));
        }
        known
    });
    let image = workload(objects).and_then(app).and_then(|app| app["image"].as_str()).map(str::to_owned);
    for object in objects {
        let elsewhere =
            object["metadata"].get("namespace").is_some_and(|namespace| *namespace != to.namespace);
        if elsewhere && let Some(namespace) = taken(object, "/metadata", "namespace") {
            told.say(format!(
                "{} asks for the namespace {namespace}, and gets that of its release",
                named(object)
            ));
        }
        if object["kind"] == "Service" {
            service(object, &mut told);
        }
        pods(object, to, image.as_deref().unwrap_or_default(), &mut told);
    }
    told.0
}

#[derive(Default)]
struct Told(Vec<String>);

impl Told {
    fn say(&mut self, says: String) {
        if !self.0.contains(&says) {
            self.0.push(says);
        }
    }
}

fn named(object: &Json) -> String {
    let text = |pointer| object.pointer(pointer).and_then(Json::as_str).unwrap_or("?");
    format!("{} {}", text("/kind"), text("/metadata/name"))
}

/// The entries of a list, where there is one: to look into JSON that can be changed makes what isn't there.
fn listed<'a>(object: Option<&'a mut Json>, key: &str) -> impl Iterator<Item = &'a mut Json> {
    object.and_then(|object| object.get_mut(key)?.as_array_mut()).into_iter().flatten()
}

/// An entry, taken out.
fn taken(object: &mut Json, of: &str, key: &str) -> Option<Json> {
    object.pointer_mut(of)?.as_object_mut()?.remove(key)
}

/// Node ports are one set for the whole cluster, and nobody makes load balancers here.
fn service(object: &mut Json, told: &mut Told) {
    let name = named(object);
    for port in listed(object.get_mut("spec"), "ports") {
        if let Some(fixed) = port.as_object_mut().and_then(|port| port.remove("nodePort")) {
            told.say(format!(
                "{name}: the node port {fixed} is left to the cluster, which has one set of them"
            ));
        }
    }
    let Some(spec) = object.get_mut("spec").and_then(Json::as_object_mut) else { return };
    if spec.get("type").is_some_and(|kind| kind == "LoadBalancer") {
        spec.insert("type".to_owned(), json!("NodePort"));
        told.say(format!(
            "{name}: a load balancer becomes a node port, for nobody makes load balancers here"
        ));
    }
    for field in ["loadBalancerIP", "loadBalancerClass", "externalIPs"] {
        if spec.remove(field).is_some() {
            told.say(format!("{name}: {field} is left out"));
        }
    }
}

fn pods(object: &mut Json, to: &Adapt, image_of_the_app: &str, told: &mut Told) {
    let hook = condition::hook(object).is_some();
    let lives = !hook && object["kind"] != "Job" && object["kind"] != "CronJob";
    // The pods of a Deployment share a claim, and of counters only one writes to it.
    let of_set = object["kind"] == "StatefulSet";
    let data = app(object).map(|container| (container["name"].clone(), data(object)));
    let Some(spec) = pod_spec(object) else { return };
    // A shell as the first process hears no SIGTERM, and stops when its time is up.
    if lives && spec["terminationGracePeriodSeconds"].as_u64().unwrap_or(30) > GRACE_S {
        spec["terminationGracePeriodSeconds"] = json!(GRACE_S);
        told.say(format!("pods have {GRACE_S} seconds to stop"));
    }
    for of in ["initContainers", "containers"] {
        for container in listed(Some(&mut *spec), of) {
            asks_for_less(container, told);
            if container["imagePullPolicy"] == "Always" {
                container["imagePullPolicy"] = json!("IfNotPresent");
                told.say(format!("imagePullPolicy Always of {} is IfNotPresent", container["image"]));
            }
            let image = container["image"].as_str().unwrap_or_default().to_owned();
            if let Some(ours) = to.stand_ins.get(&image) {
                let is_app = data.as_ref().is_some_and(|(name, _)| *name == container["name"]);
                if lives && of == "containers" && (is_app || image == image_of_the_app) {
                    let folder = data.as_ref().filter(|_| is_app && of_set);
                    let folder = folder.map_or(ANYWHERE, |(_, folder)| folder.as_str());
                    as_the_app(container, folder);
                    told.say(format!(
                        "the image {image} can't be had: the lab's counter stands in for the app"
                    ));
                } else {
                    as_a_shell(container, lives && of == "containers");
                    told.say(format!("the image {image} can't be had: a shell stands in for it"));
                }
                container["image"] = json!(ours);
            }
            hurries(container, told);
            if hook {
                sleeps_less(container, told);
            }
        }
    }
}

/// Three pods of a dozen experiments shall fit on one node.
fn asks_for_less(container: &mut Json, told: &mut Told) {
    let name = container["name"].clone();
    let Some(resources) = container.get_mut("resources").and_then(Json::as_object_mut) else { return };
    for (of, least) in REQUESTS {
        let asked = |of_what: &str| resources.get(of_what).and_then(|it| it.get(of)).cloned();
        let Some(asked) = asked("requests").or_else(|| asked("limits")) else { continue };
        if asked != least {
            let requests = resources.entry("requests").or_insert_with(|| json!({}));
            if let Some(requests) = requests.as_object_mut() {
                requests.insert(of.to_owned(), json!(least));
                told.say(format!("container {name} asks for {asked} of {of}, and gets {least}"));
            }
        }
    }
}

/// The counter in the place of the app: told the port and the folder, asked by probes what it answers.
fn as_the_app(container: &mut Json, data: &str) {
    let port = container.pointer("/ports/0/containerPort").and_then(Json::as_u64);
    let probed =
        PROBES.iter().find_map(|(probe, _)| container.get(probe)?.pointer("/httpGet/port")?.as_u64());
    let port = port.or(probed).unwrap_or(PORT);
    for (probe, path) in PROBES {
        let Some(probe) = container.get_mut(probe).filter(|probe| probe.is_object()) else { continue };
        let asks = probe.get("exec").is_some();
        let Some(probe) = probe.as_object_mut() else { continue };
        if asks {
            probe.remove("exec");
            probe.insert("httpGet".to_owned(), json!({"port": port}));
        }
        if let Some(asked) = probe.get_mut("httpGet").and_then(Json::as_object_mut) {
            asked.insert("path".to_owned(), json!(path));
            asked.remove("httpHeaders");
        }
    }
    if let Some(container) = container.as_object_mut() {
        ["command", "args", "workingDir", "lifecycle"].iter().for_each(|of| drop(container.remove(*of)));
    }
    let settings = [
        json!({"name": "LISTEN", "value": format!("0.0.0.0:{port}")}),
        json!({"name": "DATA_DIR", "value": data}),
        json!({"name": "STANDS_IN", "value": "true"}),
        json!({"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}),
    ];
    let mut env = container["env"].as_array().cloned().unwrap_or_default();
    env.retain(|entry| settings.iter().all(|setting| setting["name"] != entry["name"]));
    env.extend(settings);
    container["env"] = Json::Array(env);
}

/// A shell in the place of what isn't the app: it does what it is told, and without that waits or is done.
fn as_a_shell(container: &mut Json, lives: bool) {
    // The shell has wget, and scripts of hooks ask for curl.
    const CURL: &str =
        "curl() { for url in \"$@\"; do case $url in http*) wget -q -O - \"$url\" || return; esac; done; }\n";
    let script = container["command"].as_array().and_then(|words| {
        let words: Vec<&str> = words.iter().filter_map(Json::as_str).collect();
        let shell = words.first()?.rsplit('/').next()?;
        let runs = matches!(shell, "sh" | "bash" | "ash");
        let flag = words.get(1).filter(|flag| runs && flag.starts_with('-') && flag.ends_with('c'))?;
        let told = words.get(2).copied().or_else(|| container.pointer("/args/0")?.as_str());
        Some(((*flag).to_owned(), told?.to_owned()))
    });
    let (flag, does) = match script {
        Some((flag, script)) => (flag, format!("{CURL}{script}")),
        None if lives => ("-c".to_owned(), "exec tail -f /dev/null".to_owned()),
        None => ("-c".to_owned(), "true".to_owned()),
    };
    container["command"] = json!(["sh", flag, does]);
    if let Some(container) = container.as_object_mut() {
        container.remove("args");
        PROBES.iter().for_each(|(probe, _)| drop(container.remove(*probe)));
    }
}

/// The scripts of hooks sleep for a second at most, for Helm waits for each. Many sleep until the app is sure to be there;
/// what they ask it then, they ask as often as they would have slept seconds.
fn sleeps_less(container: &mut Json, told: &mut Told) {
    static SLEEP: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"\bsleep\s+(\d+)").expect("the pattern is one"));
    const AGAIN: &str = "again() { tries=TIMES; until command \"$@\"; do tries=$((tries - 1)); [ $tries -gt 0 ] || return 1; \
        sleep 1; done; }\nwget() { again wget \"$@\"; }\ncurl() { again curl \"$@\"; }\n";
    const MOST_S: u64 = 60;
    for of in ["command", "args"] {
        for word in listed(Some(&mut *container), of) {
            let Some(script) = word.as_str() else { continue };
            let long = |found: &regex::Captures<'_>| found[1].parse::<u64>().is_ok_and(|seconds| seconds > 1);
            if SLEEP.captures_iter(script).any(|found| long(&found)) {
                let saved =
                    SLEEP.captures_iter(script).filter_map(|found| found[1].parse::<u64>().ok()).max();
                let again = AGAIN.replace("TIMES", &saved.unwrap_or(1).min(MOST_S).to_string());
                let shorter = SLEEP.replace_all(script, |found: &regex::Captures<'_>| {
                    if long(found) { "sleep 1".to_owned() } else { found[0].to_owned() }
                });
                *word = json!(again + &shorter);
                told.say(
                    "hooks sleep for one second, and ask again where they slept for an answer".to_owned(),
                );
            }
        }
    }
}

/// Probes begin at once, and ask often.
fn hurries(container: &mut Json, told: &mut Told) {
    for (probe, _) in PROBES {
        let Some(probe) = container.get_mut(probe).and_then(Json::as_object_mut) else { continue };
        if probe.get("initialDelaySeconds").and_then(Json::as_u64).is_some_and(|delay| delay > 1) {
            probe.insert("initialDelaySeconds".to_owned(), json!(1));
            told.say("probes begin after one second".to_owned());
        }
        if probe.get("periodSeconds").and_then(Json::as_u64).unwrap_or(10) > 2 {
            probe.insert("periodSeconds".to_owned(), json!(2));
            told.say("probes ask every two seconds".to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapted(object: Json, to: &Adapt) -> (Json, Vec<String>) {
        let mut objects = vec![object];
        let told = adapt(&mut objects, to);
        (objects.pop().unwrap_or_default(), told)
    }

    fn set(containers: Json) -> Json {
        json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "web"}, "spec": {
            "template": {"spec": {"containers": containers}},
            "volumeClaimTemplates": [{"metadata": {"name": "data"}}]}})
    }

    #[test]
    fn a_kind_that_the_cluster_has_not_is_left_out_and_told() {
        let to = Adapt { kinds: ["v1 Service".to_owned()].into(), ..Adapt::default() };
        let rollout =
            json!({"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "metadata": {"name": "web"}});
        let (left, told) = adapted(rollout, &to);
        assert_eq!(left, Json::Null);
        assert_eq!(told, ["Rollout web of argoproj.io/v1alpha1 is left out: the cluster has no such kind"]);
    }

    #[test]
    fn ports_namespaces_and_load_balancers_are_left_to_the_cluster() {
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "prod"},
            "spec": {"type": "LoadBalancer", "ports": [{"port": 80, "nodePort": 30080}]}});
        let (service, told) = adapted(service, &Adapt::default());
        assert_eq!(service["spec"], json!({"type": "NodePort", "ports": [{"port": 80}]}));
        assert!(service["metadata"].get("namespace").is_none());
        assert_eq!(told.len(), 3, "{told:?}");
    }

    #[test]
    fn the_counter_stands_in_for_the_app_and_a_shell_for_the_rest() {
        let containers = json!([
            {"name": "log", "image": "busybox:1.36", "command": ["sh", "-c", "sleep 9"]},
            {"name": "app", "image": "someone/app", "command": ["python", "app.py"], "imagePullPolicy": "Always",
             "ports": [{"containerPort": 5000}], "env": [{"name": "PORT", "value": "5000"}],
             "resources": {"requests": {"cpu": "100m"}},
             "livenessProbe": {"httpGet": {"path": "/health", "port": 5000}, "initialDelaySeconds": 10},
             "volumeMounts": [{"name": "data", "mountPath": "/app/data"}]}]);
        let stand_ins =
            ["busybox:1.36", "someone/app"].map(|image| (image.to_owned(), "counter:1".to_owned()));
        let (set, told) =
            adapted(set(containers), &Adapt { stand_ins: stand_ins.into(), ..Adapt::default() });
        let containers = &set["spec"]["template"]["spec"]["containers"];
        let app = &containers[1];
        assert_eq!([&containers[0]["image"], &app["image"]], ["counter:1", "counter:1"]);
        assert!(containers[0]["command"][2].as_str().unwrap().ends_with("\nsleep 9"));
        assert!(app.get("command").is_none());
        assert_eq!(app["livenessProbe"]["httpGet"], json!({"path": "/healthz", "port": 5000}));
        assert_eq!(app["resources"]["requests"], json!({"cpu": "10m"}));
        let env = app["env"].as_array().unwrap();
        assert!(env.contains(&json!({"name": "DATA_DIR", "value": "/app/data"})), "{env:?}");
        assert!(env.contains(&json!({"name": "LISTEN", "value": "0.0.0.0:5000"})), "{env:?}");
        assert_eq!(told.len(), 7, "{told:#?}");
    }

    #[test]
    fn a_hook_that_sleeps_is_woken() {
        let job = json!({"kind": "Job", "metadata": {"name": "x", "annotations": {"helm.sh/hook": "post-install"}},
            "spec": {"template": {"spec": {"containers": [{"name": "a", "command": ["sh", "-c", "sleep 60; sleep 1"]}]}}}});
        let (job, told) = adapted(job, &Adapt::default());
        let command = job.pointer("/spec/template/spec/containers/0/command/2").unwrap();
        let command = command.as_str().unwrap();
        assert!(
            command.starts_with("again() { tries=60;") && command.ends_with("\nsleep 1; sleep 1"),
            "{command}"
        );
        assert_eq!(told, ["hooks sleep for one second, and ask again where they slept for an answer"]);
    }

    #[test]
    fn a_hook_without_a_command_is_done_at_once() {
        let job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "x"},
            "spec": {"template": {"spec": {"containers": [{"name": "a", "image": "curl", "args": ["-f", "http://x"]}]}}}});
        let to =
            Adapt { stand_ins: [("curl".to_owned(), "counter:1".to_owned())].into(), ..Adapt::default() };
        let container = adapted(job, &to).0["spec"]["template"]["spec"]["containers"][0].clone();
        assert_eq!(container["command"], json!(["sh", "-c", "true"]));
        assert!(container.get("args").is_none());
    }
}
