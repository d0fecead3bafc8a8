//! What objects will not get over by themselves: small pure conditions, each with the reason it found.

use serde_json::Value as Json;

use crate::condition::text;
use crate::failure::Stuck;

/// Why a pod will not run, whatever time it is given.
///
/// Reasons: <https://kubernetes.io/docs/concepts/containers/images/#imagepullbackoff> and the kubelet's own.
pub fn stuck(pod: &Json) -> Option<Stuck> {
    const NEVER: [&str; 6] = [
        "ImagePullBackOff",
        "ErrImageNeverPull",
        "InvalidImageName",
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
    ];
    let statuses = pod.pointer("/status/containerStatuses").and_then(Json::as_array);
    statuses.into_iter().flatten().find_map(|status| {
        let waiting = status.pointer("/state/waiting")?;
        let reason = text(waiting, "/reason");
        let looping = reason == "CrashLoopBackOff" && status["restartCount"].as_i64() >= Some(3);
        (looping || NEVER.contains(&reason)).then(|| Stuck {
            kind: "Pod".to_owned(),
            name: text(pod, "/metadata/name").to_owned(),
            reason: reason.to_owned(),
            message: text(waiting, "/message").to_owned(),
        })
    })
}

/// Why the object that an event is about will not get what it asks for.
pub fn refused(event: &Json) -> Option<Stuck> {
    let message = text(event, "/message");
    let no_class = message.contains("storageclass") && message.contains("not found");
    let refused = message.contains("violates PodSecurity");
    (no_class || refused).then(|| Stuck {
        kind: text(event, "/involvedObject/kind").to_owned(),
        name: text(event, "/involvedObject/name").to_owned(),
        reason: text(event, "/reason").to_owned(),
        message: message.to_owned(),
    })
}
