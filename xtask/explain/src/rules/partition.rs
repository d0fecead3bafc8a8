//! Partitions: which pods an update reaches, and which it does not bring back.

use serde_json::{Value as Json, json};

use super::order::moving;
use crate::objects::{
    Objects, called, first_ordinal, going, made_at, managers, name, number, on_delete, ordinal, replicas,
    revision, text,
};
use crate::{Case, Rule};

const PARTITIONS: &str = "https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/#partitions";

fn partition(set: &Json) -> i64 {
    number(set, "/spec/updateStrategy/rollingUpdate/partition").unwrap_or(0)
}

/// The partition that was meant, where somebody took it for an ordinal.
fn meant(set: &Json) -> Option<i64> {
    let (start, partition, pods) = (first_ordinal(set), partition(set), replicas(set));
    (start > 0 && partition >= pods && (start..start + pods).contains(&partition)).then(|| partition - start)
}

/// Another partition.
fn at(objects: &Objects, set: &Json, partition: i64) -> String {
    objects.patch(set, &json!({"spec": {"updateStrategy": {"rollingUpdate": {"partition": partition}}}}))
}

/// The pods below the partition, which an update leaves alone.
fn below<'a>(objects: &'a Objects, set: &'a Json) -> impl Iterator<Item = &'a Json> {
    let end = first_ordinal(set) + partition(set);
    let pods = objects.pods_of(set).into_iter();
    pods.filter(move |pod| !going(pod) && ordinal(name(pod)).is_some_and(|ordinal| ordinal < end))
}

pub(super) const MOVES_NOTHING: Rule = Rule {
    id: "partition-moves-nothing",
    symptom: "the update does not move, and nothing is wrong with any pod",
    why: "With a partition only the pods from that number up are updated. One that is as large as the number of replicas \
          leaves all of them alone.",
    source: PARTITIONS,
    not: "Don't delete the pods: those below the partition come back with the old revision.",
    find: |objects| {
        let still = objects.sets().filter(|set| !on_delete(set)).filter_map(|set| {
            let (partition, pods) = (partition(set), replicas(set));
            let waits = if objects.live() { moving(set) } else { true };
            if partition == 0 || pods == 0 || partition < pods || !waits || meant(set).is_some() {
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
            Some(
                case.mend([at(objects, set, 0)])
                    .change("lower the partition, to 0 in the end")
                    .costs("the pods are replaced, from the highest ordinal down"),
            )
        });
        still.collect()
    },
};

pub(super) const COUNTS_FROM_THE_FIRST: Rule = Rule {
    id: "partition-counts-from-the-first",
    symptom: "the update does not move, and the partition is the ordinal of a pod",
    why: "With ordinals.start the pods have higher numbers, and the partition does not: it counts pods from the first \
          one. A partition of 5 leaves five pods alone, whatever they are called.",
    source: "https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/#start-ordinal",
    not: "Don't change ordinals.start for it: the pods below it would be deleted.",
    find: |objects| {
        let still = objects.sets().filter(|set| !on_delete(set) && (!objects.live() || moving(set))).filter_map(|set| {
            let (meant, start) = (meant(set)?, first_ordinal(set));
            let says = format!(
                "the partition of {} is {}, which leaves its first {} pods alone: it has {}, from ordinal {start} on",
                called(set), partition(set), partition(set), replicas(set)
            );
            Some(
                Case::of(called(set), says)
                    .seen(format!("spec.ordinals.start: {start}, spec.updateStrategy.rollingUpdate.partition: {}", partition(set)))
                    .mend([at(objects, set, meant)])
                    .change(format!("say partition: {meant}, which is the place of the pod with ordinal {}", partition(set)))
                    .costs("the pods from there on are replaced, from the highest ordinal down"),
            )
        });
        still.collect()
    },
};

pub(super) const NO_ROLLBACK: Rule = Rule {
    id: "raised-partition-is-no-rollback",
    symptom: "the partition was raised, and pods below it keep the new revision",
    why: "The partition says which pods may be updated, not which are taken back. A pod that was updated before stays as \
          it is until something replaces it; then it comes back with the old revision.",
    source: PARTITIONS,
    not: "Don't count on the partition to undo a roll-out: put the old template back.",
    find: |objects| {
        let mixed = objects.sets().filter(|set| !on_delete(set) && partition(set) > 0 && moving(set) && partition(set) < replicas(set)).filter_map(|set| {
            let update = text(set, "/status/updateRevision");
            let ahead: Vec<&Json> = below(objects, set).filter(|pod| revision(pod) == update).collect();
            let pod = ahead.first()?;
            let says = format!("{} lies below the partition of {} and has the new revision all the same", called(pod), called(set));
            Some(
                Case::of(called(set), says)
                    .seen(format!("spec.updateStrategy.rollingUpdate.partition: {}", partition(set)))
                    .seen(format!("{} is of revision {update}, the current one is {}", called(pod), text(set, "/status/currentRevision")))
                    .mend([objects.kubectl(&format!("delete pod {}", ahead.iter().map(|pod| name(pod)).collect::<Vec<_>>().join(" ")))])
                    .change("put the old template back, to undo all of it")
                    .costs("these pods come back with the old revision, on their claims; an app that can't read what the new one wrote will not start"),
            )
        });
        mixed.collect()
    },
};

pub(super) const LOST_THE_OLD_REVISION: Rule = Rule {
    id: "partition-lost-the-old-revision",
    symptom: "after scaling to zero and up again the pods below the partition are new too",
    why: "The old revision is kept for the pods below the partition while there are some. With none left the update \
          counts as done, and the new revision is the current one, for all of them.",
    source: PARTITIONS,
    not: "Don't scale a set to zero in the middle of a phased roll-out.",
    find: |objects| {
        let found = objects.sets().filter(|set| !on_delete(set) && partition(set) > 0 && !moving(set)).filter_map(|set| {
            let update = text(set, "/status/updateRevision");
            let of_set = |it: &&Json| it.pointer("/metadata/ownerReferences/0/uid") == set.pointer("/metadata/uid");
            let revisions: Vec<&Json> = objects.of("ControllerRevision").filter(of_set).collect();
            let new = revisions.iter().find(|it| name(it) == update)?;
            let old = revisions.iter().filter(|it| number(it, "/revision") < number(new, "/revision"));
            let old = old.max_by_key(|it| number(it, "/revision"))?;
            // In force since before there was the new revision: nothing but a set without pods gets past it.
            let owns = |it: &&Json| it.pointer("/fieldsV1/f:spec/f:updateStrategy/f:rollingUpdate/f:partition").is_some();
            let held = managers(set).filter(owns).all(|it| text(it, "/time") <= made_at(new));
            let owned = managers(set).any(|it| owns(&it));
            let pod = below(objects, set).find(|pod| revision(pod) == update && made_at(pod) > made_at(new))?;
            if !held || !owned {
                return None;
            }
            let says = format!("{} lies below the partition of {} and has the new revision: the old one was lost", called(pod), called(set));
            let back = number(old, "/revision").unwrap_or(0);
            Some(
                Case::of(called(set), says)
                    .seen(format!("spec.updateStrategy.rollingUpdate.partition: {}, older than the revision {update}", partition(set)))
                    .seen(format!("status.currentRevision is {update} too; {} is still kept", name(old)))
                    .mend([at(objects, set, 0), objects.kubectl(&format!("rollout undo statefulset {} --to-revision={back}", name(set)))])
                    .change("put the old template back, or take the partition away and let the update go on")
                    .costs("all pods go back to the old revision; the phased roll-out begins anew"),
            )
        });
        found.collect()
    },
};

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::Origin;
    use crate::fixture::{found, is_ready, pod, service, set, updating};

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
    fn a_partition_that_is_an_ordinal_is_told_apart_from_one_that_holds_everything_back() {
        let ask = |start: i64, partition: i64| {
            let spec = json!({"replicas": 2, "ordinals": {"start": start},
                "updateStrategy": {"rollingUpdate": {"partition": partition}}});
            found(Origin::Cluster, vec![set(spec, updating()), service()])
        };
        assert_eq!(ask(5, 6), ["partition-counts-from-the-first"]);
        assert_eq!(ask(5, 9), ["partition-moves-nothing"], "no pod has that ordinal");
        assert_eq!(ask(5, 1), [""; 0]);
        assert_eq!(ask(0, 2), ["partition-moves-nothing"]);
    }

    #[test]
    fn an_old_revision_that_was_lost_is_told_only_where_the_partition_was_there_before_the_new_one() {
        let ask = |partition_at: &str, of: &str| {
            let spec = json!({"updateStrategy": {"rollingUpdate": {"partition": 2}}});
            let mut set = set(spec, json!({"currentRevision": "new", "updateRevision": "new"}));
            set["metadata"]["managedFields"] = json!([{"time": partition_at,
                "fieldsV1": {"f:spec": {"f:updateStrategy": {"f:rollingUpdate": {"f:partition": {}}}}}}]);
            let revision = |name: &str, number: i64, made: &str| {
                json!({"kind": "ControllerRevision", "revision": number, "metadata": {"name": name, "creationTimestamp": made,
                    "ownerReferences": [{"uid": "s"}]}})
            };
            let mut pod = pod(0, of, is_ready());
            pod["metadata"]["creationTimestamp"] = json!("7");
            found(
                Origin::Cluster,
                vec![set, service(), revision("old", 1, "1"), revision("new", 2, "5"), pod],
            )
        };
        assert_eq!(ask("5", "new"), ["partition-lost-the-old-revision"]);
        assert_eq!(ask("6", "new"), [""; 0], "it was raised after the update was done");
        assert_eq!(ask("5", "old"), [""; 0]);
    }
}
