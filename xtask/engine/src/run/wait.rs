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

/// What a controller had begun when an act was done, it still tells of afterwards.
const UNDER_WAY: Duration = Duration::from_secs(2);

/// Something that was done, after which something is awaited.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Act {
    /// When it began.
    pub began: Instant,
    /// When it had been done.
    pub ended: Instant,
}

impl Act {
    /// Something that was done in no time.
    pub(crate) fn at(moment: Instant) -> Self {
        Self { began: moment, ended: moment }
    }
}

/// A wait.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wait<'a> {
    /// What the watches see.
    pub timeline: &'a Timeline,
    /// What is awaited, for the error.
    pub what: &'a str,
    /// From here to the change that made it true the time goes to the cluster in the ledger.
    pub since: Instant,
    /// How long.
    pub deadline: Duration,
    /// What it should come of. What was wrong before is no reason to give up, for it may just have been mended;
    /// without an act there is none at all.
    pub act: Option<Act>,
}

impl Wait<'_> {
    /// Waits until `condition` is true. `last_seen` tells, when it is in vain, what the condition looked at.
    ///
    /// # Errors
    /// At the deadline, and as soon as the wait has become hopeless: with what was awaited, what was seen last, and
    /// the events that explain it.
    pub(crate) async fn until(
        self,
        mut condition: impl FnMut() -> Result<bool, String>,
        last_seen: impl Fn() -> String,
    ) -> Result<()> {
        let Self { timeline, what, since, deadline, act } = self;
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
            if let Some(stuck) = act.and_then(|act| hopeless(timeline, act)) {
                // It may have come after the condition was judged, and be what was waited for.
                if condition() == Ok(true) {
                    continue;
                }
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
}

/// Ends when a hook that was begun after `began` can never end, with the reason. A hook that fails is Helm's to judge,
/// and one that crashes may be waiting for what is still starting: it is for what keeps a container from running at all.
pub(crate) async fn hook_in_vain(timeline: &Timeline, began: Instant) -> Failure {
    let of_a_hook = |pod: &Json| {
        let owner = pod.pointer("/metadata/ownerReferences/0/kind").and_then(Json::as_str);
        // A hook is a job, or a pod that nobody owns.
        if matches!(owner, None | Some("Job")) { hopeless::never_runs(pod) } else { None }
    };
    let mut changes = timeline.subscribe();
    loop {
        changes.borrow_and_update();
        if let Some(stuck) = timeline.find_seen(Kind::Pod, began, of_a_hook) {
            let awaited = "the hooks of the chart to end".to_owned();
            let seen = seen(timeline, format!("{} had not begun", stuck.name));
            return Why::Hopeless { awaited, stuck, seen }.into();
        }
        // The sender lives in the timeline that we hold.
        let _ = changes.changed().await;
    }
}

/// Why no amount of waiting helps, if so: of pods seen since the act began, for it may have made them, and of events
/// since it had been done, for before they tell of what it may have mended.
fn hopeless(timeline: &Timeline, act: Act) -> Option<Stuck> {
    let stuck = timeline.find_seen(Kind::Pod, act.began, hopeless::stuck);
    stuck.or_else(|| timeline.find_event(act.ended + UNDER_WAY, hopeless::refused))
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
    LastSeen { says, down: timeline.down(), troubles: Vec::new(), pods: pods.collect(), events }
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
        let wait = wait(&timeline, "pods ready", timeline.started());
        let error = wait.until(|| Ok(false), || "2 of 3".to_owned()).await.unwrap_err().to_string();
        assert_eq!(
            error,
            "pods ready: not within 5 s\nlast seen: 2 of 3\n  no watch of StatefulSet objects: 429 too many requests\n  pod counter-1: Pending, not PodScheduled \
             (0/1 nodes are available)\n  event counter-1 FailedScheduling: no node matches the claim"
        );
    }

    fn wait<'a>(timeline: &'a Timeline, what: &'a str, acted: Instant) -> Wait<'a> {
        let (since, deadline) = (Instant::now(), Duration::from_secs(5));
        Wait { timeline, what, since, deadline, act: Some(Act::at(acted)) }
    }

    /// What a wait ends with that begins after an act.
    async fn in_vain(timeline: &Timeline, acted: Instant) -> Why {
        in_vain_after(timeline, Act { began: acted, ended: acted - UNDER_WAY }).await
    }

    async fn in_vain_after(timeline: &Timeline, act: Act) -> Why {
        let wait = Wait { act: Some(act), ..wait(timeline, "ready", act.ended) };
        let error = wait.until(|| Ok(false), String::new).await.unwrap_err();
        error.downcast::<Failure>().unwrap().why
    }

    #[tokio::test(start_paused = true)]
    async fn while_an_act_is_done_pods_are_of_its_making_and_events_are_not_yet() {
        let waiting = json!({"waiting": {"reason": "ImagePullBackOff", "message": "nope"}});
        let stuck = pod("counter-0", json!({"containerStatuses": [{"state": waiting}]}));
        let refused = json!({"metadata": {"name": "e", "uid": "e"}, "reason": "FailedCreate",
            "involvedObject": {"kind": "ReplicaSet", "name": "counter", "uid": "s"},
            "message": "pods \"counter-1\" is forbidden: violates PodSecurity \"baseline:latest\""});
        for (kind, object, hopeless) in [(Kind::Pod, stuck, true), (Kind::Event, refused, false)] {
            let (timeline, began) = (Timeline::begin(), Instant::now());
            timeline.applied(kind, object);
            let why = in_vain_after(&timeline, Act { began, ended: Instant::now() }).await;
            assert_eq!(matches!(why, Why::Hopeless { .. }), hopeless, "{kind}: {why:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_wrong_before_the_act_is_no_reason_to_give_up() {
        let timeline = Timeline::begin();
        let waiting = json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}});
        let crashing =
            || pod("counter-0", json!({"containerStatuses": [{"state": waiting, "restartCount": 4}]}));
        let refused = |count: i64| {
            json!({"metadata": {"name": "e", "uid": "e"}, "count": count, "reason": "FailedCreate",
            "involvedObject": {"kind": "StatefulSet", "name": "counter", "uid": "s"},
            "message": "pods \"counter-1\" is forbidden: violates PodSecurity \"baseline:latest\""})
        };
        let set = |replicas: i64| {
            json!({"metadata": {"name": "counter", "uid": "s"}, "spec": {"replicas": 2},
            "status": {"replicas": replicas}})
        };
        timeline.applied(Kind::Pod, crashing());
        timeline.applied(Kind::StatefulSet, set(1));
        timeline.applied(Kind::Event, refused(1));
        let mended = Instant::now();
        let hopeless = |why: &Why| matches!(why, Why::Hopeless { .. });
        assert!(!hopeless(&in_vain(&timeline, mended).await));
        // The same event, delivered again; then it happens again, and then the set has its pods.
        timeline.applied(Kind::Event, refused(1));
        assert!(!hopeless(&in_vain(&timeline, mended).await));
        timeline.applied(Kind::Event, refused(2));
        assert!(hopeless(&in_vain(&timeline, mended).await));
        timeline.applied(Kind::StatefulSet, set(2));
        assert!(!hopeless(&in_vain(&timeline, mended).await));
        timeline.applied(Kind::Pod, crashing());
        assert!(hopeless(&in_vain(&timeline, mended).await));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_hopeless_may_be_what_was_waited_for() {
        let timeline = Timeline::begin();
        let waiting = json!({"waiting": {"reason": "ImagePullBackOff", "message": "nope"}});
        timeline.applied(Kind::Pod, pod("counter-0", json!({"containerStatuses": [{"state": waiting}]})));
        // Judged before it came, and again after.
        let judged = std::cell::Cell::new(0);
        let condition = || {
            judged.set(judged.get() + 1);
            Ok(judged.get() > 1)
        };
        let wait = wait(&timeline, "an image that isn't there", timeline.started());
        assert!(wait.until(condition, String::new).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_hopeless_wait_stops_at_once() {
        let timeline = Timeline::begin();
        let waiting =
            json!({"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image \"nope\""}});
        timeline.applied(Kind::Pod, pod("counter-0", json!({"containerStatuses": [{"state": waiting}]})));
        let before = tokio::time::Instant::now();
        let wait = wait(&timeline, "rolled out", timeline.started());
        let error = wait.until(|| Ok(false), String::new).await.unwrap_err().to_string();
        assert!(
            error.contains("pod counter-0: ImagePullBackOff: Back-off pulling image \"nope\""),
            "{error}"
        );
        assert_eq!(before.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_hook_whose_image_is_not_to_be_had_is_not_waited_for_and_one_that_crashes_is() {
        let hook = |name: &str, owner: &str, reason: &str| {
            json!({"metadata": {"name": name, "uid": name, "ownerReferences": [{"kind": owner}]}, "status":
                {"containerStatuses": [{"state": {"waiting": {"reason": reason, "message": "no"}}, "restartCount": 9}]}})
        };
        let (timeline, began) = (Timeline::begin(), Instant::now());
        timeline.applied(Kind::Pod, hook("crashes", "Job", "CrashLoopBackOff"));
        timeline.applied(Kind::Pod, hook("counter-0", "StatefulSet", "ImagePullBackOff"));
        let waits = hook_in_vain(&timeline, began);
        assert!(tokio::time::timeout(Duration::from_secs(60), waits).await.is_err());
        timeline.applied(Kind::Pod, hook("migrate", "Job", "ImagePullBackOff"));
        let error = hook_in_vain(&timeline, began).await.headline();
        assert_eq!(
            error,
            "the hooks of the chart to end: this can no longer happen: pod migrate: ImagePullBackOff: no"
        );
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
        wait(&timeline, "a pod", Instant::now()).until(seen, String::new).await.unwrap();
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
        Wait { since, ..wait(&timeline, "a pod", since) }.until(seen, String::new).await.unwrap();
        let (now, arrived) = (Instant::now(), timeline.arrival(0).unwrap());
        assert_eq!(judged, 2);
        assert_eq!(timeline.ledger.engine(since, now), now - arrived);
    }
}
