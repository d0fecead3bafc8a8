//! Data that is about to go, and data that came back.

use serde_json::{Value as Json, json};

use crate::mend::quoted;
use crate::objects::{Objects, called, claim_names, crashing, going, made_at, name, revision, text};
use crate::{Case, Rule};

pub(super) const CLAIM_IS_GOING: Rule = Rule {
    id: "claim-is-going",
    symptom: "a claim is Terminating and its pod runs on",
    why: "A claim that a pod uses is kept until the pod is gone, and goes then at once. The set makes a new claim, with \
          an empty volume, for the pod that follows.",
    source: "https://kubernetes.io/docs/concepts/storage/persistent-volumes/#storage-object-in-use-protection",
    not: "Don't delete the pod: with it goes the claim, and with a Delete policy the data.",
    find: |objects| {
        let going_ones = objects.of("PersistentVolumeClaim").filter(|claim| going(claim)).filter_map(|claim| {
            let uses = |pod: &&Json| !going(pod) && claim_names(pod).any(|used| used == name(claim));
            let pod = objects.of("Pod").find(uses)?;
            let retain = json!({"spec": {"persistentVolumeReclaimPolicy": "Retain"}});
            let volume = text(claim, "/spec/volumeName");
            let says = format!("{} is being deleted, and goes when {} does: its data with it", called(claim), called(pod));
            Some(
                Case::of(called(claim), says)
                    .seen(format!("metadata.deletionTimestamp: {}", text(claim, "/metadata/deletionTimestamp")))
                    .seen(format!("{} mounts it", called(pod)))
                    .mend([objects.of_the_cluster(&format!("patch persistentvolume {volume} --patch {}", quoted(&retain.to_string())))])
                    .change("nothing; copy the data out of the running pod (kubectl cp) before anything restarts it")
                    .costs("a deletion can't be taken back: the claim goes in the end, but a volume with Retain stays and can be bound by hand"),
            )
        });
        going_ones.collect()
    },
};

/// The claim of a crashing pod that was there before something happened which the pod came after.
fn older<'a>(objects: &'a Objects, pod: &Json, happened: &str) -> Option<&'a Json> {
    let after = !happened.is_empty() && made_at(pod) >= happened && crashing(pod);
    objects.claims_of(pod).find(|claim| after && !going(claim) && made_at(claim) < happened)
}

/// A claim and its pod, so that the set makes both anew.
fn emptied(objects: &Objects, claim: &Json, pod: &Json) -> [String; 2] {
    [
        objects.kubectl(&format!("delete persistentvolumeclaim {} --wait=false", name(claim))),
        objects.kubectl(&format!("delete pod {}", name(pod))),
    ]
}

/// A pod that crashes on data which was there before its set, or before itself; `log` would speak of what.
fn on_old_data(
    objects: &Objects,
    (pod, claim): (&Json, &Json),
    since: &Json,
    says: String,
    log: &str,
) -> Case {
    Case::of(called(pod), says)
        .seen(format!(
            "{} was made at {}, {} at {}",
            called(claim),
            made_at(claim),
            called(since),
            made_at(since)
        ))
        .mend(emptied(objects, claim, pod))
        .costs("all that is on this volume, for good")
        .question(format!(
            "does its log speak of {log}? {}",
            objects.kubectl(&format!("logs {} --previous", name(pod)))
        ))
}

pub(super) const REINSTALLED_ON_OLD_DATA: Rule = Rule {
    id: "reinstalled-on-old-data",
    symptom: "a fresh install does not start: it finds the data of the one before",
    why: "Deleting a set, also by helm uninstall, leaves its claims. A set of the same name takes them up again, with \
          the passwords and versions of then.",
    source: "https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/#persistentvolumeclaim-retention",
    not: "Don't delete the claim before you know that nobody wants the data.",
    find: |objects| {
        let mut cases = Vec::new();
        for (set, pod) in objects.pods_of_sets() {
            let Some(claim) = older(objects, pod, made_at(set)) else { continue };
            let says = format!(
                "{} starts on the data of a {} that was there before, and ends with an error",
                called(pod),
                called(set)
            );
            cases.push(
                on_old_data(objects, (pod, claim), set, says, "a password, an id or a version")
                    .change("persistentVolumeClaimRetentionPolicy: { whenDeleted: Delete }, where the data is of no use without the release"),
            );
        }
        cases
    },
};

pub(super) const SCALED_UP_ON_OLD_DATA: Rule = Rule {
    id: "scaled-up-on-old-data",
    symptom: "a pod that scaling up brought back does not start: it finds its data of then",
    why: "Scaling down deletes pods and leaves their claims. Scaling up makes pods of the same names on the same claims, \
          whatever the rest of the set has decided about them meanwhile.",
    source: "https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/#persistentvolumeclaim-retention",
    not: "Don't scale down in the hope that a member is forgotten: take it out of the cluster first, by its own means.",
    find: |objects| {
        let mut cases = Vec::new();
        for (set, pod) in objects.pods_of_sets() {
            let deleted = format!("Delete Pod {} in StatefulSet {} successful", name(pod), name(set));
            // The set deleted it, and not for an update: then there would be a revision since.
            let said = objects
                .events("StatefulSet", name(set))
                .any(|(_, message)| message.eq_ignore_ascii_case(&deleted));
            let of = objects.named("ControllerRevision", revision(pod));
            let Some(claim) =
                older(objects, pod, made_at(pod)).filter(|claim| made_at(claim) >= made_at(set))
            else {
                continue;
            };
            if !said || of.is_none_or(|of| made_at(of) > made_at(claim)) {
                continue;
            }
            let says = format!(
                "{} came back with the data that it had before {} was scaled down, and ends with an error",
                called(pod),
                called(set)
            );
            cases.push(
                on_old_data(objects, (pod, claim), pod, says, "a member that was removed")
                    .seen(format!("event SuccessfulDelete of {}: {deleted}", called(set)))
                    .change("persistentVolumeClaimRetentionPolicy: { whenScaled: Delete }, where a pod that comes back should begin anew"),
            );
        }
        cases
    },
};

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use crate::{Objects, Origin, explain};

    fn found(all: &[Json]) -> Vec<&'static str> {
        explain(&Objects::new(Origin::Cluster, "", all.to_vec())).iter().map(|trouble| trouble.rule).collect()
    }

    fn claim(made: &str) -> Json {
        json!({"kind": "PersistentVolumeClaim", "metadata": {"name": "data-web-0", "creationTimestamp": made},
            "spec": {"volumeName": "pv-1"}, "status": {"phase": "Bound"}})
    }

    fn pod(made: &str, state: Json) -> Json {
        json!({"kind": "Pod", "metadata": {"name": "web-0", "creationTimestamp": made, "ownerReferences": [{"uid": "s"}], "labels": {"controller-revision-hash": "web-1"}},
            "spec": {"volumes": [{"persistentVolumeClaim": {"claimName": "data-web-0"}}]},
            "status": {"containerStatuses": [{"state": state}]}})
    }

    #[test]
    fn a_claim_that_is_going_under_a_running_pod_is_told() {
        let mut claim = claim("1");
        claim["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        assert_eq!(found(&[claim.clone(), pod("2", json!({}))]), ["claim-is-going"]);
        assert_eq!(found(&[claim]), [""; 0]);
    }

    #[test]
    fn old_data_is_told_where_a_pod_ends_with_an_error_on_it() {
        let set = |made: &str| {
            json!({"kind": "StatefulSet", "metadata": {"name": "web", "uid": "s", "creationTimestamp": made},
                "spec": {"serviceName": "web", "selector": {"matchLabels": {"app": "web"}},
                    "template": {"metadata": {"labels": {"app": "web"}}}}})
        };
        let service = json!({"kind": "Service", "metadata": {"name": "web"}, "spec": {"clusterIP": "None", "selector": {"app": "web"}}});
        let crashing = || json!({"waiting": {"reason": "CrashLoopBackOff"}});
        let scaled = json!({"kind": "Event", "reason": "SuccessfulDelete", "involvedObject": {"kind": "StatefulSet", "name": "web"},
            "message": "Delete Pod web-0 in StatefulSet web successful"});
        let revision = |made: &str| json!({"kind": "ControllerRevision", "metadata": {"name": "web-1", "creationTimestamp": made}});
        let ask = |set: Json, claim: Json, pod: Json, more: &[Json]| {
            found(&[&[set, service.clone(), claim, pod], more].concat())
        };
        assert_eq!(ask(set("5"), claim("1"), pod("6", crashing()), &[]), ["reinstalled-on-old-data"]);
        assert_eq!(
            ask(set("5"), claim("1"), pod("6", json!({"running": {}})), &[]),
            [""; 0],
            "it bears it well"
        );
        assert_eq!(
            ask(set("5"), claim("1"), pod("2", crashing()), &[]),
            [""; 0],
            "the pod was there before the set"
        );
        let (old, new) = ([scaled.clone(), revision("1")], [scaled, revision("4")]);
        assert_eq!(ask(set("1"), claim("2"), pod("6", crashing()), &old), ["scaled-up-on-old-data"]);
        assert_eq!(ask(set("1"), claim("6"), pod("6", crashing()), &old), [""; 0], "the claim is new");
        assert_eq!(ask(set("1"), claim("2"), pod("6", crashing()), &new), [""; 0], "it was an update");
        assert_eq!(ask(set("1"), claim("2"), pod("6", crashing()), &old[1..]), [""; 0], "nobody scaled it");
    }
}
