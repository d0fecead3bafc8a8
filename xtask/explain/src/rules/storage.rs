//! Claims, classes and volumes.

use serde_json::{Value as Json, json};

use crate::objects::{
    Objects, called, claim_names, claim_templates, containers, crashing, going, name, number, ready,
    replicas, text,
};
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
            let set = set_of(objects, claim);
            let default = objects.of("StorageClass").find(|class| is_default(class));
            let mend = set.filter(|_| default.is_some()).into_iter().flat_map(|set| of_the_default_class(objects, set));
            let says = format!("{} asks for the storage class {class}, which this cluster does not have", called(claim));
            Some(
                Case::of(called(claim), says)
                    .seen(format!("spec.storageClassName: {class}; there are: {}", there.join(", ")))
                    .mend(mend)
                    .change("name a class that is there in the claim template, or none for the cluster's default")
                    .costs("nothing: a claim that is pending holds no data; one that is bound keeps its class and its data"),
            )
        });
        lacking.collect()
    },
};

fn is_default(class: &Json) -> bool {
    text(class, "/metadata/annotations/storageclass.kubernetes.io~1is-default-class") == "true"
}

/// The set that made a claim.
fn set_of<'a>(objects: &'a Objects, claim: &Json) -> Option<&'a Json> {
    objects.sets().find(|set| {
        claim_templates(set).any(|template| {
            let prefix = format!("{}-{}-", name(template), name(set));
            name(claim).strip_prefix(&prefix).is_some_and(|ordinal| ordinal.parse::<u32>().is_ok())
        })
    })
}

/// A set made anew with claims of the default class, after its pending claims and the pods that wait for them.
fn of_the_default_class(objects: &Objects, set: &Json) -> Vec<String> {
    let [delete, apply] = objects.make_anew(set, |set| {
        for template in set["spec"]["volumeClaimTemplates"].as_array_mut().into_iter().flatten() {
            if let Some(spec) = template["spec"].as_object_mut() {
                spec.remove("storageClassName");
            }
        }
    });
    let mut mend = vec![delete];
    let pods = objects.pods_of(set);
    for pod in pods.iter().filter(|pod| text(pod, "/status/phase") == "Pending") {
        mend.push(objects.kubectl(&format!("delete pod {}", name(pod))));
        let pending = objects.claims_of(pod).filter(|claim| text(claim, "/status/phase") == "Pending");
        mend.extend(
            pending.map(|claim| objects.kubectl(&format!("delete persistentvolumeclaim {}", name(claim)))),
        );
    }
    mend.push(apply);
    mend
}

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
        let default = objects.of("StorageClass").any(is_default);
        let mark = |class: &Json| {
            let mark =
                json!({"metadata": {"annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}});
            objects.of_the_cluster(&format!(
                "patch storageclass {} --patch {}",
                name(class),
                crate::mend::quoted(&mark.to_string())
            ))
        };
        let classes: Vec<&Json> = objects.of("StorageClass").collect();
        // With more than one it is a choice.
        let only = if let [only] = classes[..] { Some(mark(only)) } else { None };
        let waiting =
            objects.of("PersistentVolumeClaim").filter(|claim| !going(claim) && !default).filter(|claim| {
                text(claim, "/status/phase") == "Pending"
                    && claim.pointer("/spec/storageClassName").is_none()
                    && text(claim, "/spec/volumeName").is_empty()
            });
        let told = waiting.map(|claim| {
            Case::of(called(claim), format!("{} names no storage class, and this cluster has no default one", called(claim)))
                .seen("spec.storageClassName is not set, and no StorageClass is marked as default")
                .mend(only.clone())
                .change("name a class in the claim template")
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
            // On a cluster only where it does not work.
            let waits = |pod: &&Json| objects.claims_of(pod).any(|claim| text(claim, "/status/phase") == "Pending");
            let works = objects.live() && !objects.pods_of(set).iter().any(waits);
            if node.is_empty() || immediate || works {
                return None;
            }
            let says = format!("the pods of {} name their node, and their claims wait for a scheduler that never sees them", called(set));
            Some(
                Case::of(called(set), says)
                    .seen(format!("spec.template.spec.nodeName: {node}, beside claim template {}", name(template)))
                    .mend(objects.patch_pods(set, &json!({"nodeName": null, "nodeSelector": {"kubernetes.io/hostname": node}})))
                    .change(format!("take nodeName out, and put nodeSelector: {{ kubernetes.io/hostname: {node} }} in its place"))
                    .costs("a new revision: every pod of the set is replaced"),
            )
        });
        fixed.collect()
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
                        .change(format!("add to the container that writes: volumeMounts: [{{ name: {}, mountPath: THE FOLDER IT WRITES TO }}]", name(template)))
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
            let stuck = objects.pods_of(set).into_iter().find(|pod| crashing(pod));
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
                .mend(given_to(objects, set, template, writer, user))
                .change(format!("set spec.template.spec.securityContext.fsGroup: {user}"))
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

/// A group for the volume; where that is a folder of the node, which no group is given to, a container that gives it
/// away before the others start.
fn given_to(objects: &Objects, set: &Json, template: &Json, writer: &Json, user: i64) -> Vec<String> {
    let mut pods = objects.pods_of(set).into_iter();
    let volumes =
        pods.find_map(|pod| objects.claims_of(pod).next().map(|claim| text(claim, "/spec/volumeName")));
    let volume = volumes.and_then(|volume| objects.named("PersistentVolume", volume));
    if volume.is_none_or(|volume| volume.pointer("/spec/hostPath").is_none()) {
        return objects.patch_pods(set, &json!({"securityContext": {"fsGroup": user}}));
    }
    let mounts = writer.pointer("/volumeMounts").and_then(Json::as_array).into_iter().flatten();
    let Some(mount) = mounts.into_iter().find(|mount| text(mount, "/name") == name(template)) else {
        return Vec::new();
    };
    let path = text(mount, "/mountPath");
    let giver = json!({"name": "give-away", "image": writer["image"], "command": ["chown", "-R", user.to_string(), path],
        "securityContext": {"runAsUser": 0, "runAsNonRoot": false}, "volumeMounts": [{"name": name(template), "mountPath": path}]});
    objects.patch_pods(set, &json!({"initContainers": [giver]}))
}

pub(super) const ONE_CLAIM_AND_A_ROLLING_UPDATE: Rule = Rule {
    id: "one-claim-and-a-rolling-update",
    symptom: "a Deployment's update does not move: the new pod never starts, and the old one never ends",
    why: "A rolling update starts the new pod before the old one ends. A claim that one node, or one writer, may have is           not free before that: each waits for the other.",
    source: "https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#strategy",
    not: "Don't delete the old pod by hand: the next update ends in the same way.",
    find: |objects| {
        let found = objects.of("Deployment").filter(|it| !going(it)).filter_map(|deployment| {
            let claim = claim_names(&deployment["spec"]["template"]).next()?;
            let shared = objects.named("PersistentVolumeClaim", claim).is_some_and(|claim| {
                let modes = claim.pointer("/spec/accessModes").and_then(Json::as_array);
                modes.into_iter().flatten().any(|mode| *mode == "ReadWriteMany")
            });
            if shared || text(deployment, "/spec/strategy/type") == "Recreate" || replicas(deployment) == 0 {
                return None;
            }
            let says = format!("{} rolls over pods that share the claim {claim}", called(deployment));
            let mut case = Case::of(called(deployment), says)
                .seen(format!("spec.strategy.type: RollingUpdate, beside the claim {claim}"))
                .mend([objects.patch(
                    deployment,
                    &json!({"spec": {"strategy": {"type": "Recreate", "rollingUpdate": null}}}),
                )])
                .change("say strategy: { type: Recreate }, or make it a StatefulSet with a claim template")
                .costs("between the old pod and the new one there is none");
            if objects.live() {
                // Where both run, it is no trouble.
                let pods: Vec<&Json> =
                    objects.of("Pod").filter(|pod| objects.workload_of(pod) == deployment).collect();
                let old = pods.iter().find(|pod| ready(pod))?;
                let new =
                    pods.iter().find(|pod| !going(pod) && (crashing(pod) || not_attached(objects, pod)))?;
                case = case.seen(format!("{} has it and is ready; {} can't start", called(old), called(new)));
            }
            Some(case)
        });
        found.collect()
    },
};

fn not_attached(objects: &Objects, pod: &Json) -> bool {
    objects.events("Pod", name(pod)).any(|(reason, _)| reason == "FailedAttachVolume")
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
    fn a_folder_of_the_node_is_given_away_by_a_container_and_other_volumes_by_their_group() {
        let set = mounting(json!({"securityContext": {"runAsUser": 1000}}));
        let pod = json!({"kind": "Pod", "metadata": {"name": "web-0", "ownerReferences": [{"uid": "s"}]},
            "spec": {"volumes": [{"persistentVolumeClaim": {"claimName": "data-web-0"}}]},
            "status": {"containerStatuses": [{"state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}});
        let claim = claim(json!({"volumeName": "pv"}), "Bound");
        let mend = |spec: Json| {
            let volume = json!({"kind": "PersistentVolume", "metadata": {"name": "pv"}, "spec": spec});
            let all = vec![set.clone(), service(), pod.clone(), claim.clone(), volume];
            let troubles = explain(&Objects::new(Origin::Cluster, "", all));
            assert_eq!(troubles.iter().map(|it| it.rule).collect::<Vec<_>>(), ["no-group-for-the-volume"]);
            troubles[0].case.mend[0].clone()
        };
        assert!(mend(json!({"csi": {}})).contains("{\"fsGroup\":1000}"));
        assert!(mend(json!({"hostPath": {}})).contains("[\"chown\",\"-R\",\"1000\",\"/data\"]"));
    }

    #[test]
    fn a_deployment_whose_pods_share_a_claim_is_told_when_they_can_t() {
        let deployment = |strategy: &str| {
            json!({"kind": "Deployment", "metadata": {"name": "one", "uid": "d"}, "spec": {"strategy": {"type": strategy},
                "template": {"spec": {"volumes": [{"persistentVolumeClaim": {"claimName": "data"}}]}}}})
        };
        let rule = ["one-claim-and-a-rolling-update"];
        assert_eq!(found(Origin::Chart, &[deployment("RollingUpdate")]), rule);
        assert_eq!(found(Origin::Chart, &[deployment("Recreate")]), [""; 0]);
        let many = json!({"kind": "PersistentVolumeClaim", "metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteMany"]}});
        assert_eq!(found(Origin::Chart, &[deployment("RollingUpdate"), many]), [""; 0]);
        let set = json!({"kind": "ReplicaSet", "metadata": {"name": "one-1", "uid": "r", "ownerReferences": [{"uid": "d"}]}});
        let pod = |name: &str, status: Json| json!({"kind": "Pod", "metadata": {"name": name, "ownerReferences": [{"uid": "r"}]}, "status": status});
        let old = pod("one-1-a", json!({"conditions": [{"type": "Ready", "status": "True"}]}));
        let new = pod(
            "one-1-b",
            json!({"containerStatuses": [{"state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}),
        );
        assert_eq!(
            found(Origin::Cluster, &[deployment("RollingUpdate"), set.clone(), old.clone(), new]),
            rule
        );
        assert_eq!(found(Origin::Cluster, &[deployment("RollingUpdate"), set, old]), [""; 0]);
    }

    #[test]
    fn a_class_that_is_not_there_is_left_out_of_a_set_that_is_made_anew() {
        let mut set = mounting(json!({}));
        set["spec"]["volumeClaimTemplates"][0]["spec"] = json!({"storageClassName": "fast"});
        let pod = json!({"kind": "Pod", "metadata": {"name": "web-0", "ownerReferences": [{"uid": "s"}]}, "status": {"phase": "Pending"},
            "spec": {"volumes": [{"persistentVolumeClaim": {"claimName": "data-web-0"}}]}});
        let claim = claim(json!({"storageClassName": "fast"}), "Pending");
        let all = vec![set, service(), pod, claim, class("standard", "true")];
        let mend = explain(&Objects::new(Origin::Cluster, "", all)).remove(0).case.mend;
        assert_eq!(
            mend[..3],
            [
                "kubectl delete statefulset web --cascade=orphan",
                "kubectl delete pod web-0",
                "kubectl delete persistentvolumeclaim data-web-0"
            ]
        );
        assert!(mend[3].contains(" apply ") && !mend[3].contains("fast"), "{}", mend[3]);
    }
}
