//! Pods that are not well: what is told where no rule speaks, for that all is well would be false.

use serde_json::Value as Json;
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use crate::objects::{Objects, called, condition, going, made_at, name, ready, text, waiting};

/// Whoever has just begun is given this time.
const PATIENCE: Duration = Duration::seconds(60);

/// Pods that have not been ready for a while, each with what it waits for; one that was asked to go when its time is
/// over. Those of a workload, or all.
pub fn unwell(objects: &Objects, of: Option<&Json>, now: OffsetDateTime) -> Vec<String> {
    let whose = |pod: &&Json| of.is_none_or(|of| called(objects.workload_of(pod)) == called(of));
    objects.of("Pod").filter(whose).filter_map(|pod| says(objects, pod, now)).collect()
}

fn says(objects: &Objects, pod: &Json, now: OffsetDateTime) -> Option<String> {
    let late = |since: &str| {
        let since = now - OffsetDateTime::parse(since, &Rfc3339).ok()?;
        (since > PATIENCE).then(|| since.whole_seconds())
    };
    if going(pod) {
        let late = late(text(pod, "/metadata/deletionTimestamp"))?;
        let held = &pod["metadata"]["finalizers"];
        return Some(format!("{} should have gone {late} s ago; finalizers: {held}", name(pod)));
    }
    // A job's pods end, well or not, and the job begins others.
    let of_a_job = text(pod, "/metadata/ownerReferences/0/kind") == "Job";
    if ready(pod) || of_a_job || text(pod, "/status/phase") == "Succeeded" {
        return None;
    }
    let unready = condition(pod, "Ready");
    let late = late(unready.map_or(made_at(pod), |unready| text(unready, "/lastTransitionTime")))?;
    let waits = waiting(pod).next().map(|it| format!("{}: {}", it.reason, it.message));
    let why = waits.or_else(|| objects.unready_because(pod).map(str::to_owned)).unwrap_or_else(|| {
        unready.map_or(text(pod, "/status/phase"), |unready| text(unready, "/message")).to_owned()
    });
    Some(format!("{} has not been ready for {late} s: {}", name(pod), model::text::on_one_line(&why)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Origin;
    use serde_json::json;

    #[test]
    fn a_pod_that_no_rule_knows_is_not_passed_over() {
        let pod = |name: &str, since: &str, status: &str, owner: &str| {
            json!({"kind": "Pod", "metadata": {"name": name, "ownerReferences": [{"kind": owner, "uid": "s"}]}, "status":
                {"phase": "Running", "conditions": [{"type": "Ready", "status": status, "lastTransitionTime": since}],
                "containerStatuses": [{"state": {"waiting": {"reason": "CreateContainerConfigError", "message": "no map"}}}]}})
        };
        let (long_ago, just_now) = ("2026-01-01T00:00:00Z", "2026-01-01T00:01:30Z");
        let mut held = pod("web-3", long_ago, "True", "StatefulSet");
        held["metadata"]["deletionTimestamp"] = json!(long_ago);
        let set =
            |name: &str, uid: &str| json!({"kind": "StatefulSet", "metadata": {"name": name, "uid": uid}});
        let all = vec![
            set("web", "s"),
            pod("web-0", long_ago, "True", "StatefulSet"),
            pod("web-1", long_ago, "False", "StatefulSet"),
            pod("web-2", just_now, "False", "StatefulSet"),
            held,
            pod("hook", long_ago, "False", "Job"),
        ];
        let now = OffsetDateTime::parse("2026-01-01T00:02:00Z", &Rfc3339).unwrap();
        let objects = Objects::new(Origin::Cluster, "shop", all);
        assert_eq!(
            unwell(&objects, Some(&set("web", "s")), now),
            [
                "web-1 has not been ready for 120 s: CreateContainerConfigError: no map",
                "web-3 should have gone 120 s ago; finalizers: null"
            ]
        );
        assert_eq!(unwell(&objects, Some(&set("we", "t")), now), [""; 0]);
    }
}
