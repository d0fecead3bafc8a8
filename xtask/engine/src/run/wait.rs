//! The one place that waits: event-driven, with a deadline, and with an explanation when it expires.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::Value as Json;

use crate::run::timeline::Timeline;
use model::failure::{EventSeen, Failure, LastSeen, Stuck, Why};
use model::hopeless;
use model::kinds::Kind;

/// Events that an expired wait shows.
const EVENTS_SHOWN: usize = 6;

/// Waits until `condition` is true of what the watches see.
///
/// `what` says what is awaited, for the error. `last_seen` tells, on expiry, what the condition looked at.
/// The time from the act at `since` to the change that made it true goes to the cluster in the ledger.
///
/// # Errors
/// At the deadline, and as soon as the wait has become hopeless: with what was awaited, what was seen last, and
/// the events that explain it.
pub async fn until(
    timeline: &Timeline,
    what: &str,
    since: Instant,
    deadline: Duration,
    mut condition: impl FnMut() -> Result<bool, String>,
    last_seen: impl Fn() -> String,
) -> Result<()> {
    let mut changes = timeline.subscribe();
    let end = tokio::time::Instant::now() + deadline;
    let mut arrived = since;
    loop {
        let before = *changes.borrow_and_update();
        let verdict = condition();
        if verdict == Ok(true) {
            timeline.ledger.cluster(since, arrived);
            return Ok(());
        }
        if let Some(stuck) = hopeless(timeline) {
            timeline.ledger.cluster(since, Instant::now());
            let (awaited, seen) = (what.to_owned(), seen(timeline, last_seen()));
            return Err(Failure::from(Why::Hopeless { awaited, stuck, seen }).into());
        }
        // The timeline lives as long as we hold it, so its sender does too: only the deadline ends this.
        if tokio::time::timeout_at(end, changes.changed()).await.is_err() {
            timeline.ledger.cluster(since, Instant::now());
            let (awaited, limit_s, problem) = (what.to_owned(), deadline.as_secs(), verdict.err());
            let seen = seen(timeline, last_seen());
            return Err(Failure::from(Why::Expired { awaited, limit_s, problem, seen }).into());
        }
        // More may have arrived since: the first that can have made the difference.
        arrived = timeline.arrival(before).unwrap_or(arrived);
    }
}

/// Why no amount of waiting helps, if so.
fn hopeless(timeline: &Timeline) -> Option<Stuck> {
    let stuck = timeline.find_object(Kind::Pod, |_, pod| hopeless::stuck(pod));
    stuck.or_else(|| timeline.find_object(Kind::Event, |_, event| hopeless::refused(event)))
}

/// What explains that a wait was in vain.
fn seen(timeline: &Timeline, says: String) -> LastSeen {
    // What went well explains nothing.
    const USUAL: [&str; 7] =
        ["Scheduled", "Pulled", "Created", "Started", "SuccessfulCreate", "Killing", "WaitForFirstConsumer"];
    let pods = timeline.objects(Kind::Pod).into_iter().map(|(name, pod)| (name, pod_state(&pod)));
    let mut events: Vec<EventSeen> = Vec::new();
    for event in timeline.transitions().iter().rev().filter(|transition| transition.kind == Kind::Event) {
        let event = EventSeen {
            object: event.name.clone(),
            reason: event.what.to_string(),
            message: event.detail.clone().unwrap_or_default(),
        };
        if !USUAL.contains(&event.reason.as_str()) && !events.contains(&event) {
            events.push(event);
        }
        if events.len() == EVENTS_SHOWN {
            break;
        }
    }
    events.reverse();
    LastSeen { says, down: timeline.down(), pods: pods.collect(), events }
}

/// A pod in a few words: phase, readiness, and what keeps it from more.
fn pod_state(pod: &Json) -> String {
    let mut words = vec![pod.pointer("/status/phase").and_then(Json::as_str).unwrap_or("unknown").to_owned()];
    if pod.pointer("/metadata/deletionTimestamp").is_some() {
        words.push("terminating".to_owned());
    }
    for condition in pod.pointer("/status/conditions").and_then(Json::as_array).into_iter().flatten() {
        if condition["status"] == "False" {
            let kind = condition["type"].as_str().unwrap_or_default();
            let why = condition["message"].as_str().or(condition["reason"].as_str()).unwrap_or_default();
            words.push(format!("not {kind} ({why})"));
        }
    }
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(name: &str, status: Json) -> Json {
        json!({"metadata": {"name": name, "uid": name}, "status": status})
    }

    #[tokio::test(start_paused = true)]
    async fn an_expired_wait_says_what_it_saw_last_and_which_events_explain_it() {
        let timeline = Timeline::begin();
        timeline.applied(
            Kind::Pod,
            pod(
                "counter-1",
                json!({"phase": "Pending", "conditions": [
            {"type": "PodScheduled", "status": "False", "message": "0/1 nodes are available"}]}),
            ),
        );
        timeline.applied(
            Kind::Event,
            json!({"metadata": {"name": "e", "uid": "e"}, "involvedObject": {"name": "counter-1"},
            "reason": "FailedScheduling", "message": "no node matches the claim"}),
        );
        timeline.watch_dropped(Kind::StatefulSet, "429 too many requests");
        let (since, deadline) = (Instant::now(), Duration::from_secs(5));
        let wait = until(&timeline, "pods ready", since, deadline, || Ok(false), || "2 of 3".to_owned());
        let error = wait.await.unwrap_err().to_string();
        assert_eq!(
            error,
            "pods ready: not within 5 s\nlast seen: 2 of 3\n  no watch of StatefulSet objects: 429 too many requests\n  pod counter-1: Pending, not PodScheduled \
             (0/1 nodes are available)\n  event counter-1 FailedScheduling: no node matches the claim"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_hopeless_wait_stops_at_once() {
        let timeline = Timeline::begin();
        let waiting =
            json!({"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image \"nope\""}});
        timeline.applied(Kind::Pod, pod("counter-0", json!({"containerStatuses": [{"state": waiting}]})));
        let (before, deadline) = (tokio::time::Instant::now(), Duration::from_secs(600));
        let wait = until(&timeline, "rolled out", Instant::now(), deadline, || Ok(false), String::new);
        let error = wait.await.unwrap_err().to_string();
        assert!(
            error.contains("pod counter-0: ImagePullBackOff: Back-off pulling image \"nope\""),
            "{error}"
        );
        assert_eq!(before.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_ends_the_wait_without_polling() {
        let timeline = std::sync::Arc::new(Timeline::begin());
        let (other, mut asked) = (std::sync::Arc::clone(&timeline), 0);
        tokio::spawn(async move { other.applied(Kind::Pod, pod("counter-0", json!({}))) });
        let seen = || {
            asked += 1;
            Ok(!timeline.names(Kind::Pod).is_empty())
        };
        let deadline = Duration::from_secs(5);
        until(&timeline, "a pod", Instant::now(), deadline, seen, String::new).await.unwrap();
        assert_eq!(asked, 2);
    }

    #[tokio::test]
    async fn time_after_the_change_that_was_awaited_is_the_engines() {
        let (timeline, since) = (Timeline::begin(), Instant::now());
        let mut judged = 0;
        // The change arrives while the first verdict is being found, which therefore knows nothing of it.
        let seen = || {
            judged += 1;
            let there = !timeline.names(Kind::Pod).is_empty();
            if judged == 1 {
                std::thread::sleep(Duration::from_millis(10));
                timeline.applied(Kind::Pod, pod("counter-0", json!({})));
                std::thread::sleep(Duration::from_millis(20));
            }
            Ok(there)
        };
        until(&timeline, "a pod", since, Duration::from_secs(5), seen, String::new).await.unwrap();
        let (now, arrived) = (Instant::now(), timeline.arrival(0).unwrap());
        assert_eq!(judged, 2);
        assert_eq!(timeline.ledger.engine(since, now), now - arrived);
    }
}
