//! Pods that are not placed, or not started.

use serde_json::{Value as Json, json};

use crate::objects::{
    Objects, called, condition, containers, going, name, number, ordered, revision, text, waiting,
};
use crate::{Case, Rule};

/// A reason of the scheduler's: its words, in ours, what to change, and what that is in the pod template.
type Reason = (&'static str, &'static str, &'static str, fn(&Json) -> Option<Json>);

const REASONS: [Reason; 7] = [
    (
        "Insufficient cpu",
        "no node has enough cpu left",
        "lower resources.requests.cpu, or free some",
        |workload| Some(without_request(workload, "cpu")),
    ),
    (
        "Insufficient memory",
        "no node has enough memory left",
        "lower resources.requests.memory, or free some",
        |workload| Some(without_request(workload, "memory")),
    ),
    ("Too many pods", "the nodes hold as many pods as they may", "remove pods, or add a node", |_| None),
    (
        "node affinity/selector",
        "no node fits its selector or affinity",
        "correct nodeSelector or affinity, or label a node",
        |workload| {
            let spec = workload.pointer("/spec/template/spec")?;
            let mut patch = json!({});
            if spec.get("nodeSelector").is_some() {
                patch["nodeSelector"] = Json::Null;
            }
            if spec.pointer("/affinity/nodeAffinity").is_some() {
                patch["affinity"] = json!({"nodeAffinity": null});
            }
            Some(patch)
        },
    ),
    (
        "untolerated taint",
        "every node has a taint that it does not tolerate",
        "add the toleration, or take the taint away",
        |_| None,
    ),
    (
        "anti-affinity",
        "its anti-affinity leaves no node",
        "prefer it instead of requiring it, or add a node",
        |_| {
            Some(
                json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": null}}}),
            )
        },
    ),
    (
        "topology spread constraints",
        "its topology spread leaves no node",
        "use whenUnsatisfiable: ScheduleAnyway, or add a node",
        |_| Some(json!({"topologySpreadConstraints": null})),
    ),
];

fn without_request(workload: &Json, of: &str) -> Json {
    let requests =
        |container: &Json| json!({"name": container["name"], "resources": {"requests": {of: "0"}}});
    json!({"containers": containers(workload).map(requests).collect::<Json>()})
}

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
            let named: Vec<&Reason> = REASONS.iter().filter(|(word, ..)| message.contains(word)).collect();
            let why: Vec<&str> = named.iter().map(|(_, why, ..)| *why).collect();
            let change: Vec<&str> = named.iter().map(|(_, _, change, _)| *change).collect();
            let says = format!("{} can't be placed: {}", called(pod), why.join("; "));
            let case = Case::of(called(pod), says)
                .seen(format!("condition PodScheduled is False: {message}"))
                .change(change.join("; "))
                .costs("a changed template is a new revision: every pod of the workload is replaced");
            let workload = objects.workload_of(pod);
            // The only reason that is named, or it is not known which of them to take away.
            match named.as_slice() {
                [] => None,
                [(_, _, _, cure)] => {
                    let patch = cure(workload).filter(|_| workload["kind"] != "Pod");
                    Some(case.mend(patch.into_iter().flat_map(|patch| objects.patch_pods(workload, &patch))))
                }
                _ => Some(case.question("which of the nodes is it meant for? the reason of that one counts")),
            }
        });
        stuck.collect()
    },
};

/// An image that is not there: the pod that waits for it, which container, which image, and what the kubelet says.
struct Missing<'a> {
    pod: &'a Json,
    container: &'a str,
    image: &'a str,
    said: String,
}

/// The images that are missing, each once.
fn missing(objects: &Objects) -> Vec<Missing<'_>> {
    const REASONS: [&str; 4] = ["ImagePullBackOff", "ErrImagePull", "ErrImageNeverPull", "InvalidImageName"];
    let mut found: Vec<Missing<'_>> = Vec::new();
    for pod in objects.of("Pod").filter(|pod| !going(pod) && !left_behind(objects, pod)) {
        let Some(waits) = waiting(pod).find(|it| REASONS.contains(&it.reason)) else { continue };
        // The status may name the image in another way than the one that was asked for.
        let asked = pod.pointer("/spec/containers").and_then(Json::as_array).into_iter().flatten();
        let mut asked = asked.filter(|it| text(it, "/name") == waits.container).map(|it| text(it, "/image"));
        let image = asked.next().unwrap_or(waits.image);
        let said = format!("waiting: {}: {}", waits.reason, waits.message);
        let same = |it: &Missing<'_>| {
            it.image == image && name(objects.workload_of(it.pod)) == name(objects.workload_of(pod))
        };
        if !found.iter().any(same) {
            found.push(Missing { pod, container: waits.container, image, said });
        }
    }
    found
}

/// Whether a pod is of a revision that its set has left: what is wrong with it is mended already.
fn left_behind(objects: &Objects, pod: &Json) -> bool {
    let set = objects.workload_of(pod);
    let update = text(set, "/status/updateRevision");
    set["kind"] == "StatefulSet" && ordered(set) && !update.is_empty() && revision(pod) != update
}

/// The name of an image as containerd has it.
fn whole_name(image: &str) -> String {
    match image.split_once('/') {
        None => format!("docker.io/library/{image}"),
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => image.to_owned(),
        Some(_) => format!("docker.io/{image}"),
    }
}

/// An image's name without its tag, and its tag.
fn tagged(image: &str) -> (&str, &str) {
    match image.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, tag),
        _ => (image, "latest"),
    }
}

/// The image of the same name that a node has; rather one with a tag that stays what it is.
fn on_a_node(objects: &Objects, image: &str) -> Option<String> {
    let wanted = whole_name(image);
    let (repository, _) = tagged(&wanted);
    let images = objects.of("Node").filter_map(|node| node.pointer("/status/images")?.as_array()).flatten();
    let names = images.filter_map(|image| image["names"].as_array()).flatten().filter_map(Json::as_str);
    let mut there: Vec<&str> =
        names.filter(|name| !name.contains('@') && tagged(name).0 == repository).collect();
    there.sort_by_key(|name| (tagged(name).1 == "latest", *name));
    there.first().map(|name| (*name).to_owned())
}

/// Whether the kubelet asks a registry for an image each time.
fn floats(image: &str) -> bool {
    !image.contains('@') && tagged(image).1 == "latest"
}

const PULLED: &str = "https://kubernetes.io/docs/concepts/containers/images/#imagepullpolicy-defaulting";

pub(super) const LATEST_OF_A_LOADED_IMAGE: Rule = Rule {
    id: "latest-of-a-loaded-image",
    symptom: "ImagePullBackOff or ErrImagePull, though the node has the image",
    why: "For an image called latest, or without any tag, imagePullPolicy is Always unless it is set: the kubelet asks the \
          registry each time, and an image that was loaded into the node is in none.",
    source: PULLED,
    not: "Don't push it to a public registry to get around it.",
    find: |objects| {
        let found = missing(objects).into_iter().filter(|it| floats(it.image)).filter_map(|it| {
            let there = on_a_node(objects, it.image)?;
            let workload = objects.workload_of(it.pod);
            let says = format!("{} asks a registry for {}, and the node has {there}", called(it.pod), it.image);
            let cure = json!({"containers": [{"name": it.container, "image": there, "imagePullPolicy": "IfNotPresent"}]});
            Some(
                Case::of(called(it.pod), says)
                    .seen(it.said)
                    .seen(format!("status.images of a node: {there}"))
                    .mend(objects.patch_pods(workload, &cure))
                    .change("give the image a tag of its own, and imagePullPolicy: IfNotPresent")
                    .costs("a new revision: every pod of the workload is replaced"),
            )
        });
        found.collect()
    },
};

pub(super) const IMAGE_NOT_THERE: Rule = Rule {
    id: "image-not-there",
    symptom: "ImagePullBackOff, ErrImagePull or ErrImageNeverPull",
    why: "The kubelet can't have the image: the name or the tag is wrong, the registry asks who it is, or the image was \
          never loaded into this node.",
    source: PULLED,
    not: "Don't delete the pod to make it try again: it tries by itself, and the next one asks for the same image.",
    find: |objects| {
        let known = |it: &Missing<'_>| floats(it.image) && on_a_node(objects, it.image).is_some();
        let found = missing(objects).into_iter().filter(|it| !known(it)).map(|it| {
            let workload = objects.workload_of(it.pod);
            Case::of(called(it.pod), format!("the node can't have the image {} of {}", it.image, called(it.pod)))
                .seen(it.said)
                .mend(undone(objects, workload, it.pod))
                .change("correct the name or the tag, add imagePullSecrets for a private registry, or load the image into the node")
                .costs("the pods go back to the revision before, where there is one")
        });
        found.collect()
    },
};

/// Back to the revision before, and with `OrderedReady` without the pod that would be waited for.
fn undone(objects: &Objects, set: &Json, pod: &Json) -> Vec<String> {
    let revisions = objects.of("ControllerRevision").filter(|it| {
        let owner = it.pointer("/metadata/ownerReferences/0");
        owner.is_some_and(|owner| owner["uid"] == set["metadata"]["uid"]) && number(it, "/revision").is_some()
    });
    if set["kind"] != "StatefulSet" || revisions.count() < 2 {
        return Vec::new();
    }
    let mut mend = vec![objects.kubectl(&format!("rollout undo statefulset {}", name(set)))];
    if ordered(set) {
        mend.push(objects.kubectl(&format!("delete pod {}", name(pod))));
    }
    mend
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use crate::{Case, Objects, Origin, explain};

    fn set() -> Json {
        json!({"kind": "StatefulSet", "metadata": {"name": "web", "uid": "s"}, "status": {"replicas": 1},
            "spec": {"serviceName": "web", "replicas": 1, "selector": {"matchLabels": {"app": "web"}},
                "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "app"}]}}}})
    }

    fn found(all: &[Json]) -> Vec<(&'static str, Case)> {
        let service = json!({"kind": "Service", "metadata": {"name": "web"}, "spec": {"clusterIP": "None", "selector": {"app": "web"}}});
        let all = [all, &[set(), service]].concat();
        let troubles = explain(&Objects::new(Origin::Cluster, "", all));
        troubles.into_iter().map(|trouble| (trouble.rule, trouble.case)).collect()
    }

    fn pod(status: Json) -> Json {
        json!({"kind": "Pod", "metadata": {"name": "web-0", "ownerReferences": [{"uid": "s"}], "labels": {"app": "web"}},
            "status": status})
    }

    fn unscheduled(message: &str) -> Json {
        pod(
            json!({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}]}),
        )
    }

    #[test]
    fn a_pod_that_can_t_be_placed_is_told_by_what_is_lacking() {
        let told = found(&[unscheduled("0/1 nodes are available: 1 Insufficient memory.")]);
        assert_eq!(told[0].1.says, "Pod web-0 can't be placed: no node has enough memory left");
        assert!(told[0].1.mend[0].contains("{\"requests\":{\"memory\":\"0\"}}"), "{:?}", told[0].1.mend);
        assert_eq!(told[0].1.mend[1], "kubectl delete pod web-0");
        let two = found(&[unscheduled(
            "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint {a: b}.",
        )]);
        assert!(two[0].1.mend.is_empty() && two[0].1.question.is_some());
        assert_eq!(found(&[unscheduled("0/1 nodes are available: something new.")]), []);
    }

    fn waits(image: &str) -> Json {
        let waiting = json!({"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}});
        let mut pod = pod(json!({"containerStatuses": [{"name": "app", "image": image, "state": waiting}]}));
        pod["spec"] = json!({"containers": [{"name": "app", "image": image}]});
        pod
    }

    #[test]
    fn an_image_called_latest_that_a_node_has_needs_no_registry() {
        let node = |names: &[&str]| json!({"kind": "Node", "metadata": {"name": "n"}, "status": {"images": [{"names": names}]}});
        let there =
            node(&["docker.io/shop/app:latest", "docker.io/shop/app:1.2", "docker.io/shop/app@sha256:0"]);
        for image in ["shop/app", "shop/app:latest"] {
            let told = found(&[waits(image), there.clone()]);
            assert_eq!(told[0].0, "latest-of-a-loaded-image");
            assert!(
                told[0].1.mend[0]
                    .contains("\"image\":\"docker.io/shop/app:1.2\",\"imagePullPolicy\":\"IfNotPresent\"")
            );
        }
        for (image, node) in [
            ("shop/app:1.3", there.clone()),
            ("host:5000/app", there),
            ("shop/app", node(&["docker.io/shop/other:1"])),
        ] {
            assert_eq!(found(&[waits(image), node])[0].0, "image-not-there", "{image}");
        }
    }

    #[test]
    fn an_image_that_is_not_there_is_undone_where_there_is_a_revision_before() {
        let revision = |number: i64| json!({"kind": "ControllerRevision", "metadata": {"ownerReferences": [{"uid": "s"}]}, "revision": number});
        let told = found(&[waits("a:1"), revision(1)]);
        assert_eq!((told[0].0, told[0].1.mend.len()), ("image-not-there", 0));
        let told = found(&[waits("a:1"), revision(1), revision(2)]);
        assert_eq!(told[0].1.mend, ["kubectl rollout undo statefulset web", "kubectl delete pod web-0"]);
    }
}
