//! Claims, classes and volumes.

use serde_json::Value as Json;

use crate::objects::{called, claim_templates, containers, going, name, number, ordinal, text, waiting};
use crate::{Case, Rule};

pub(super) const CLASS_UNKNOWN: Rule = Rule {
    id: "storage-class-unknown",
    symptom: "a claim and its pod stay Pending",
    why: "A claim names its class, and only the provisioner of that class makes the volume. Nobody is told that there is \
          no such class: it may still be made.",
    source: "https://kubernetes.io/docs/concepts/storage/storage-classes/",
    not: "Don't make a class of that name with another provisioner just to please the claim.",
    find: |objects| {
        if !objects.live() {
            return Vec::new();
        }
        let lacking = objects.of("PersistentVolumeClaim").filter(|claim| !going(claim)).filter_map(|claim| {
            let class = text(claim, "/spec/storageClassName");
            let pending = text(claim, "/status/phase") == "Pending" && text(claim, "/spec/volumeName").is_empty();
            if !pending || class.is_empty() || objects.named("StorageClass", class).is_some() {
                return None;
            }
            let there: Vec<&str> = objects.of("StorageClass").map(name).collect();
            let says = format!("{} asks for the storage class {class}, which this cluster does not have", called(claim));
            Some(
                Case::of(called(claim), says)
                    .seen(format!("spec.storageClassName: {class}; there are: {}", there.join(", ")))
                    .mend("name a class that is there in the claim template, delete the set with --cascade=orphan, its pending claims and their pods, and install again")
                    .costs("claims that are bound already keep their class and their data; a pending one holds nothing"),
            )
        });
        lacking.collect()
    },
};

pub(super) const NO_DEFAULT_CLASS: Rule = Rule {
    id: "no-default-storage-class",
    symptom: "a claim without a class stays Pending",
    why: "A claim that names no class gets the default one of the cluster, and where there is none it waits until there \
          is. (A class that waits for the first consumer is another matter: its claims are Pending until a pod uses them.)",
    source: "https://kubernetes.io/docs/concepts/storage/persistent-volumes/#retroactive-default-storageclass-assignment",
    not: "Don't set storageClassName to an empty text: that asks for a volume without any class.",
    find: |objects| {
        if !objects.live() {
            return Vec::new();
        }
        let default = objects.of("StorageClass").any(|class| {
            text(class, "/metadata/annotations/storageclass.kubernetes.io~1is-default-class") == "true"
        });
        let waiting =
            objects.of("PersistentVolumeClaim").filter(|claim| !going(claim) && !default).filter(|claim| {
                text(claim, "/status/phase") == "Pending"
                    && claim.pointer("/spec/storageClassName").is_none()
                    && text(claim, "/spec/volumeName").is_empty()
            });
        let told = waiting.map(|claim| {
            Case::of(called(claim), format!("{} names no storage class, and this cluster has no default one", called(claim)))
                .seen("spec.storageClassName is not set, and no StorageClass is marked as default")
                .mend("kubectl patch storageclass NAME --patch '{\"metadata\":{\"annotations\":{\"storageclass.kubernetes.io/is-default-class\":\"true\"}}}'")
                .costs("every claim of the cluster that names no class gets this one from then on, also those that wait now")
        });
        told.collect()
    },
};

pub(super) const NODE_NAME_SKIPS_THE_SCHEDULER: Rule = Rule {
    id: "node-name-skips-the-scheduler",
    symptom: "pod and claim wait for each other",
    why: "A class that waits for its first consumer makes the volume when the scheduler places the pod. A pod with \
          nodeName never comes by the scheduler.",
    source: "https://kubernetes.io/docs/concepts/storage/storage-classes/#volume-binding-mode",
    not: "Don't bind the volume by hand: the next pod of the set will wait in the same way.",
    find: |objects| {
        let fixed = objects.sets().filter_map(|set| {
            let node = text(set, "/spec/template/spec/nodeName");
            let template = claim_templates(set).next()?;
            let class = text(template, "/spec/storageClassName");
            let immediate = objects.named("StorageClass", class).is_some_and(|class| text(class, "/volumeBindingMode") == "Immediate");
            if node.is_empty() || immediate {
                return None;
            }
            let says = format!("the pods of {} name their node, and their claims wait for a scheduler that never sees them", called(set));
            Some(
                Case::of(called(set), says)
                    .seen(format!("spec.template.spec.nodeName: {node}, beside claim template {}", name(template)))
                    .mend(format!("take nodeName out, and put nodeSelector: {{ kubernetes.io/hostname: {node} }} in its place"))
                    .costs("a new revision: every pod of the set is replaced"),
            )
        });
        fixed.collect()
    },
};

pub(super) const CLAIM_IS_GOING: Rule = Rule {
    id: "claim-is-going",
    symptom: "a claim is Terminating and its pod runs on",
    why: "A claim that a pod uses is kept until the pod is gone, and goes then at once. The set makes a new claim, with \
          an empty volume, for the pod that follows.",
    source: "https://kubernetes.io/docs/concepts/storage/persistent-volumes/#storage-object-in-use-protection",
    not: "Don't delete the pod: with it goes the claim, and with a Delete policy the data.",
    find: |objects| {
        let going_ones = objects.of("PersistentVolumeClaim").filter(|claim| going(claim)).filter_map(|claim| {
            let uses = |pod: &&Json| {
                let volumes = pod.pointer("/spec/volumes").and_then(Json::as_array);
                !going(pod) && volumes.into_iter().flatten().any(|volume| text(volume, "/persistentVolumeClaim/claimName") == name(claim))
            };
            let pod = objects.of("Pod").find(uses)?;
            let volume = text(claim, "/spec/volumeName");
            let says = format!("{} is being deleted, and goes when {} does: its data with it", called(claim), called(pod));
            Some(
                Case::of(called(claim), says)
                    .seen(format!("metadata.deletionTimestamp: {}", text(claim, "/metadata/deletionTimestamp")))
                    .seen(format!("{} mounts it", called(pod)))
                    .mend(format!("kubectl patch persistentvolume {volume} --patch '{{\"spec\":{{\"persistentVolumeReclaimPolicy\":\"Retain\"}}}}'"))
                    .mend("then copy the data out of the running pod (kubectl cp) before anything restarts it")
                    .costs("a deletion can't be taken back: the claim goes in the end, but a volume with Retain stays and can be bound by hand"),
            )
        });
        going_ones.collect()
    },
};

pub(super) const CLAIM_MOUNTED_NOWHERE: Rule = Rule {
    id: "claim-mounted-nowhere",
    symptom: "the data is gone after a restart, though there is a claim for each pod",
    why: "A claim template makes a claim and a volume of its name in each pod. Only a container that mounts this volume \
          writes to it; all else goes to the container's own file system, and with it.",
    source: "https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/#volume-claim-templates",
    not: "Don't add an emptyDir of the claim's name: the claim's volume wins.",
    find: |objects| {
        let mut cases = Vec::new();
        for set in objects.sets() {
            for template in claim_templates(set) {
                let mounts = |container: &Json| {
                    let of = |pointer: &str| {
                        container.pointer(pointer).and_then(Json::as_array).cloned().unwrap_or_default()
                    };
                    of("/volumeMounts")
                        .iter()
                        .chain(&of("/volumeDevices"))
                        .any(|mount| text(mount, "/name") == name(template))
                };
                let helpers = set.pointer("/spec/template/spec/initContainers").and_then(Json::as_array);
                if containers(set).chain(helpers.into_iter().flatten()).any(mounts) {
                    continue;
                }
                let says = format!("no container of {} mounts its claim {}", called(set), name(template));
                cases.push(
                    Case::of(called(set), says)
                        .seen(format!("spec.volumeClaimTemplates: {}; no container has a volumeMount of that name", name(template)))
                        .mend(format!("add to the container that writes: volumeMounts: [{{ name: {}, mountPath: THE FOLDER IT WRITES TO }}]", name(template)))
                        .costs("a new revision: every pod is replaced, and what the old ones wrote elsewhere goes with them"),
                );
            }
        }
        cases
    },
};

pub(super) const NO_GROUP_FOR_THE_VOLUME: Rule = Rule {
    id: "no-group-for-the-volume",
    symptom: "permission denied in the data folder, and the container restarts",
    why: "A new volume belongs to root. With fsGroup the kubelet gives it to that group when it mounts it; without, a \
          process that is not root may not write, unless the provisioner made the folder open to all.",
    source: "https://kubernetes.io/docs/tasks/configure-pod-container/security-context/#set-the-security-context-for-a-pod",
    not: "Don't run the app as root for this.",
    find: |objects| {
        let lacking = objects.sets().filter_map(|set| {
            let template = claim_templates(set).next()?;
            let pod_user = number(set, "/spec/template/spec/securityContext/runAsUser");
            let writer = containers(set).find(|container| {
                let mounts = container.pointer("/volumeMounts").and_then(Json::as_array);
                mounts.into_iter().flatten().any(|mount| text(mount, "/name") == name(template))
            })?;
            let user = number(writer, "/securityContext/runAsUser").or(pod_user).filter(|user| *user != 0)?;
            let grouped = set.pointer("/spec/template/spec/securityContext/fsGroup").is_some();
            // Where it runs, it is no trouble: some provisioners open the folder to all.
            let crashing =
                |pod: &&Json| waiting(pod).is_some_and(|(reason, _, _)| reason == "CrashLoopBackOff");
            let stuck = objects.pods_of(set).into_iter().find(crashing);
            if grouped || (objects.live() && stuck.is_none()) {
                return None;
            }
            let says = format!(
                "{} runs as user {user} and asks for no fsGroup: its new volumes belong to root",
                called(set)
            );
            let mut case = Case::of(called(set), says)
                .seen(format!(
                    "runAsUser: {user}, no spec.template.spec.securityContext.fsGroup, claim template {}",
                    name(template)
                ))
                .mend(format!("set spec.template.spec.securityContext.fsGroup: {user}"))
                .costs("a new revision: every pod of the set is replaced");
            if let Some(pod) = stuck {
                case = case.seen(format!("{} is in CrashLoopBackOff", called(pod))).question(format!(
                    "does the log speak of a permission that is denied? {}",
                    objects.kubectl(&format!("logs {} --previous", name(pod)))
                ));
            }
            Some(case)
        });
        lacking.collect()
    },
};

/// The ordinal of the lowest pod that isn't ready, among those that are there.
pub(super) fn lowest_unready<'a>(pods: &[&'a Json]) -> Option<(i64, &'a Json)> {
    let unready = pods.iter().filter(|pod| !going(pod) && !crate::objects::ready(pod));
    unready.filter_map(|pod| Some((ordinal(name(pod))?, *pod))).min_by_key(|(ordinal, _)| *ordinal)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use crate::{Objects, Origin, explain};

    fn found(origin: Origin, all: &[Json]) -> Vec<&'static str> {
        explain(&Objects::new(origin, "", all.to_vec())).iter().map(|trouble| trouble.rule).collect()
    }

    fn set(spec: Json) -> Json {
        json!({"kind": "StatefulSet", "metadata": {"name": "web", "uid": "s"}, "spec": {"serviceName": "web", "replicas": 1,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": spec},
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {}}]}})
    }

    fn mounting(more: Json) -> Json {
        let mut spec = json!({"containers": [{"name": "app", "volumeMounts": [{"name": "data", "mountPath": "/data"}]}]});
        for (key, value) in more.as_object().unwrap() {
            spec[key] = value.clone();
        }
        set(spec)
    }

    fn service() -> Json {
        json!({"kind": "Service", "metadata": {"name": "web"}, "spec": {"clusterIP": "None", "selector": {"app": "web"}}})
    }

    fn claim(spec: Json, phase: &str) -> Json {
        json!({"kind": "PersistentVolumeClaim", "metadata": {"name": "data-web-0"}, "spec": spec, "status": {"phase": phase}})
    }

    fn class(name: &str, default: &str) -> Json {
        json!({"kind": "StorageClass", "metadata": {"name": name,
            "annotations": {"storageclass.kubernetes.io/is-default-class": default}}, "volumeBindingMode": "WaitForFirstConsumer"})
    }

    #[test]
    fn a_claim_is_told_only_when_nobody_will_ever_make_its_volume() {
        let of = |spec: Json, phase: &str, class: Json| found(Origin::Cluster, &[claim(spec, phase), class]);
        assert_eq!(
            of(json!({"storageClassName": "fast"}), "Pending", class("standard", "true")),
            ["storage-class-unknown"]
        );
        assert_eq!(of(json!({}), "Pending", class("standard", "false")), ["no-default-storage-class"]);
        // This one rightly waits for its first consumer.
        assert_eq!(
            of(json!({"storageClassName": "standard"}), "Pending", class("standard", "true")),
            [""; 0]
        );
        assert_eq!(of(json!({"storageClassName": "fast"}), "Bound", class("standard", "true")), [""; 0]);
    }

    #[test]
    fn a_claim_that_no_container_mounts_is_told() {
        assert_eq!(found(Origin::Chart, &[mounting(json!({})), service()]), [""; 0]);
        let nowhere = set(json!({"containers": [{"name": "app"}]}));
        assert_eq!(found(Origin::Chart, &[nowhere, service()]), ["claim-mounted-nowhere"]);
    }

    #[test]
    fn who_is_not_root_needs_a_group_and_who_names_a_node_needs_none() {
        let user = json!({"securityContext": {"runAsUser": 1000}});
        assert_eq!(found(Origin::Chart, &[mounting(user.clone()), service()]), ["no-group-for-the-volume"]);
        // On a cluster only where it does not work.
        assert_eq!(found(Origin::Cluster, &[mounting(user), service()]), [""; 0]);
        let grouped = json!({"securityContext": {"runAsUser": 1000, "fsGroup": 1000}});
        assert_eq!(found(Origin::Chart, &[mounting(grouped), service()]), [""; 0]);
        let node = mounting(json!({"nodeName": "node-1"}));
        assert_eq!(found(Origin::Chart, &[node, service()]), ["node-name-skips-the-scheduler"]);
    }

    #[test]
    fn a_claim_that_is_going_under_a_running_pod_is_told() {
        let mut claim = claim(json!({"volumeName": "pv-1"}), "Bound");
        claim["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        let pod = json!({"kind": "Pod", "metadata": {"name": "web-0"},
            "spec": {"volumes": [{"persistentVolumeClaim": {"claimName": "data-web-0"}}]}});
        assert_eq!(found(Origin::Cluster, &[claim.clone(), pod]), ["claim-is-going"]);
        assert_eq!(found(Origin::Cluster, &[claim]), [""; 0]);
    }
}
