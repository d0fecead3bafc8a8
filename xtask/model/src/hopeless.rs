//! What objects will not get over by themselves: small pure conditions, each with the reason it found.

use serde_json::Value as Json;

use crate::condition::{self, text};
use crate::failure::Stuck;

/// Why a pod will not run, whatever time it is given. One that was asked to go is not expected to.
pub fn stuck(pod: &Json) -> Option<Stuck> {
    waiting(pod, |reason, restarts| reason == "CrashLoopBackOff" && restarts >= 3 || never_starts(reason))
}

/// Why a container of a pod will never be started.
pub fn never_runs(pod: &Json) -> Option<Stuck> {
    waiting(pod, |reason, _| never_starts(reason))
}

/// Reasons: <https://kubernetes.io/docs/concepts/containers/images/#imagepullbackoff> and the kubelet's own.
fn never_starts(reason: &str) -> bool {
    const NEVER: [&str; 6] = [
        "ImagePullBackOff",
        "ErrImageNeverPull",
        "InvalidImageName",
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
    ];
    NEVER.contains(&reason)
}

/// The first container of a pod that waits for a reason which is `hopeless`, given how often it was started anew.
fn waiting(pod: &Json, hopeless: impl Fn(&str, i64) -> bool) -> Option<Stuck> {
    if condition::going(pod) {
        return None;
    }
    condition::waiting(pod).find_map(|waiting| {
        hopeless(waiting.reason, waiting.restarts).then(|| Stuck {
            kind: "Pod".to_owned(),
            name: text(pod, "/metadata/name").to_owned(),
            reason: waiting.reason.to_owned(),
            message: waiting.message.to_owned(),
        })
    })
}

/// Why the object that an event is about will not get what it asks for, if it still lacks it. Without the object the
/// event has the word.
pub fn refused(event: &Json, object: Option<&Json>) -> Option<Stuck> {
    let (kind, message) = (text(event, "/involvedObject/kind"), text(event, "/message"));
    let no_class = message.contains("storageclass") && message.contains("not found");
    let refused = message.contains("violates PodSecurity") || never_within_quota(message);
    let still = object.is_none_or(|object| lacks(kind, object));
    ((no_class || refused) && still).then(|| Stuck {
        kind: kind.to_owned(),
        name: text(event, "/involvedObject/name").to_owned(),
        reason: text(event, "/reason").to_owned(),
        message: message.to_owned(),
    })
}

/// Whether a quota refuses something of which nothing is there yet, so that nothing can make room for it:
/// `exceeded quota: most, requested: pods=1, used: pods=0, limited: pods=0`.
fn never_within_quota(message: &str) -> bool {
    let used = message.split_once("exceeded quota: ").and_then(|(_, told)| told.split_once(", used: "));
    let used = used.and_then(|(_, told)| told.split_once(", limited: "));
    used.is_some_and(|(used, _)| used.split(',').any(|one| one.ends_with("=0")))
}

/// Whether an object has not got what it asks for: a claim its volume, a workload its pods.
fn lacks(kind: &str, object: &Json) -> bool {
    let number = |pointer: &str| object.pointer(pointer).and_then(Json::as_i64);
    match kind {
        "PersistentVolumeClaim" => text(object, "/status/phase") != "Bound",
        "StatefulSet" | "Deployment" => {
            number("/status/replicas").unwrap_or(0) < number("/spec/replicas").unwrap_or(1)
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn event(kind: &str, message: &str) -> Json {
        json!({"involvedObject": {"kind": kind, "name": "it"}, "reason": "Refused", "message": message})
    }

    #[test]
    fn a_pod_that_is_asked_to_go_is_not_expected_to_run() {
        let waiting = json!({"waiting": {"reason": "ImagePullBackOff", "message": "nope"}});
        let mut pod =
            json!({"metadata": {"name": "counter-0"}, "status": {"containerStatuses": [{"state": waiting}]}});
        assert_eq!(stuck(&pod).unwrap().to_string(), "pod counter-0: ImagePullBackOff: nope");
        pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        assert_eq!(stuck(&pod), None);
    }

    #[test]
    fn an_object_that_got_what_it_was_refused_is_not_stuck() {
        let no_class = event("PersistentVolumeClaim", "storageclass \"fast\" not found");
        let claim = |phase: &str| json!({"status": {"phase": phase}});
        assert!(refused(&no_class, Some(&claim("Pending"))).is_some());
        assert!(refused(&no_class, None).is_some());
        assert_eq!(refused(&no_class, Some(&claim("Bound"))), None);
        let baseline = event("StatefulSet", "violates PodSecurity \"baseline:latest\"");
        let set = |replicas: i64| json!({"spec": {"replicas": 3}, "status": {"replicas": replicas}});
        assert!(refused(&baseline, Some(&set(2))).is_some());
        assert_eq!(refused(&baseline, Some(&set(3))), None);
        assert_eq!(refused(&event("StatefulSet", "create Pod it-0 successful"), Some(&set(0))), None);
    }

    #[test]
    fn a_quota_that_something_may_leave_again_is_waited_for_and_one_that_is_too_small_is_not() {
        let says = |used: &str| {
            let message = format!(
                "pods \"it-0\" is forbidden: exceeded quota: most, requested: pods=1, used: {used}, limited: pods=1"
            );
            refused(&event("StatefulSet", &message), None).is_some()
        };
        assert!(says("pods=0") && says("cpu=1,pods=0"));
        assert!(!says("pods=1") && !says("pods=10"));
    }
}
