//! The lives of pods, volume claims and nodes, made of the transitions a watch saw.

use std::collections::BTreeMap;

use machine::identity;
use model::kinds::{Change, Kind};
use model::record::Transition;

/// The lanes of a timeline: pods by name and ordinal, then volume claims, then the nodes that something happened to.
///
/// `until_ms` is when the experiment ended: what lives then lives to the edge of the picture.
pub(super) fn lanes(timeline: &[Transition], until_ms: u64) -> Vec<Lane> {
    let mut lanes: BTreeMap<(usize, String, u64, String), Lane> = BTreeMap::new();
    for transition in timeline {
        let Some(rank) = LANES.iter().position(|kind| *kind == transition.kind) else { continue };
        let (stem, ordinal) = natural(&transition.name);
        // Names by their ordinal, so that counter-10 stands below counter-2.
        let lane = lanes.entry((rank, stem, ordinal, transition.name.clone())).or_insert_with(|| Lane {
            name: identity::node(&transition.name).to_owned(),
            kind: transition.kind,
            lives: Vec::new(),
        });
        lane.see(transition);
    }
    let mut lanes: Vec<Lane> = lanes.into_values().collect();
    for life in lanes.iter_mut().flat_map(|lane| &mut lane.lives) {
        life.close(until_ms);
    }
    lanes
}

/// The kinds that have lanes, in their order.
const LANES: [Kind; 3] = [Kind::Pod, Kind::PersistentVolumeClaim, Kind::Node];

/// All lives under one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lane {
    /// Name of the object.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// A pod of a StatefulSet returns under its old name, as another life.
    pub lives: Vec<Life>,
}

/// One object from its creation to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Life {
    uid: String,
    /// Revision of a pod.
    pub revision: Option<String>,
    /// The node that a pod is on.
    pub node: Option<String>,
    /// Its phases, one after the other.
    pub spans: Vec<Span>,
    /// When its container was restarted, in milliseconds.
    pub restarts: Vec<u64>,
    open: bool,
}

/// A phase and how long it lasted, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    /// The phase.
    pub phase: Phase,
    /// When it began.
    pub from_ms: u64,
    /// When it ended.
    pub until_ms: u64,
}

/// What a pod is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Created, no container runs. Of a volume claim: not bound.
    Pending,
    /// Its container runs, and it isn't ready.
    Running,
    /// Ready. Of a volume claim: bound.
    Ready,
    /// Asked to go, and not gone.
    Terminating,
}

impl Phase {
    /// The phase in words.
    pub(super) fn says(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running, not ready",
            Self::Ready => "ready",
            Self::Terminating => "terminating",
        }
    }
}

impl Lane {
    /// Whether it is that of a pod.
    pub(super) fn is_pod(&self) -> bool {
        self.kind == Kind::Pod
    }

    fn see(&mut self, transition: &Transition) {
        let at = transition.at_ms;
        if self.lives.last().is_none_or(|life| life.uid != transition.uid) {
            // Its watch may have missed the end of the one before.
            if let Some(before) = self.lives.last_mut() {
                before.close(at);
            }
            // A node was there before, and well: else nothing would have been tried with it.
            let (phase, from_ms) = match self.kind {
                Kind::Node => (Phase::Ready, 0),
                _ => (Phase::Pending, at),
            };
            self.lives.push(Life {
                uid: transition.uid.clone(),
                revision: None,
                node: None,
                spans: vec![Span { phase, from_ms, until_ms: at }],
                restarts: Vec::new(),
                open: true,
            });
        }
        let life = self.lives.last_mut().expect("a life was just seen");
        if transition.revision.is_some() {
            life.revision.clone_from(&transition.revision);
        }
        if transition.what == Change::Scheduled {
            life.node.clone_from(&transition.detail);
        }
        life.see(&transition.what, at);
    }
}

impl Life {
    /// When it began.
    pub(super) fn begins_ms(&self) -> u64 {
        self.spans.first().map_or(0, |span| span.from_ms)
    }

    /// When it ended, or the picture does.
    pub(super) fn until_ms(&self) -> u64 {
        self.spans.last().map_or(0, |span| span.until_ms)
    }

    /// Moves it to the right.
    pub(super) fn shift(&mut self, by_ms: u64) {
        self.moments().for_each(|at| *at += by_ms);
    }

    /// Moves it to the left.
    pub(super) fn unshift(&mut self, by_ms: u64) {
        self.moments().for_each(|at| *at -= by_ms);
    }

    fn moments(&mut self) -> impl Iterator<Item = &mut u64> {
        let spans = self.spans.iter_mut().flat_map(|span| [&mut span.from_ms, &mut span.until_ms]);
        spans.chain(&mut self.restarts)
    }

    fn see(&mut self, what: &Change, at: u64) {
        let current = self.spans.last().expect("a life has a phase").phase;
        match what {
            // A pod asked to go stays so, whatever its readiness says meanwhile.
            Change::Deleted => self.close(at),
            _ if !self.open => {}
            // The pod of a job stays as an object when its work is done.
            Change::Succeeded | Change::Failed if current != Phase::Terminating => self.close(at),
            _ if current == Phase::Terminating => {}
            Change::Terminating => self.enter(Phase::Terminating, at),
            Change::Running if current == Phase::Ready => {}
            Change::Running | Change::Unready => self.enter(Phase::Running, at),
            Change::Ready | Change::Bound => self.enter(Phase::Ready, at),
            Change::Restarted => self.restarts.push(at),
            _ => {}
        }
    }

    fn enter(&mut self, phase: Phase, at: u64) {
        let last = self.spans.last_mut().expect("a life has a phase");
        if last.phase == phase {
            return;
        }
        last.until_ms = at.max(last.from_ms);
        if last.until_ms == last.from_ms {
            last.phase = phase;
        } else {
            self.spans.push(Span { phase, from_ms: at, until_ms: at });
        }
    }

    fn close(&mut self, at: u64) {
        if std::mem::take(&mut self.open) {
            let last = self.spans.last_mut().expect("a life has a phase");
            last.until_ms = at.max(last.from_ms);
        }
    }
}

/// A name without its ordinal, and the ordinal.
fn natural(name: &str) -> (String, u64) {
    match name.rsplit_once('-').and_then(|(stem, end)| Some((stem, end.parse().ok()?))) {
        Some((stem, ordinal)) => (stem.to_owned(), ordinal),
        None => (name.to_owned(), 0),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;

    fn spans(life: &Life) -> Vec<(Phase, u64, u64)> {
        life.spans.iter().map(|span| (span.phase, span.from_ms, span.until_ms)).collect()
    }

    #[test]
    fn a_pod_that_comes_back_under_its_name_is_another_life_in_the_same_lane() {
        let (_, record) = fixture::passing();
        let lanes = lanes(&record.experiments[0].timeline, 11_000);
        let names: Vec<_> =
            lanes.iter().map(|lane| (lane.name.as_str(), lane.is_pod(), lane.lives.len())).collect();
        assert_eq!(
            names,
            [
                ("counter-0", true, 2),
                ("counter-1", true, 1),
                ("data-counter-0", false, 1),
                ("data-counter-1", false, 1)
            ]
        );
        assert_eq!(
            spans(&lanes[0].lives[0]),
            [
                (Phase::Pending, 900, 1800),
                (Phase::Running, 1800, 2300),
                (Phase::Ready, 2300, 5200),
                (Phase::Terminating, 5200, 5900)
            ]
        );
        assert_eq!(lanes[0].lives[1].until_ms(), 11_000);
        assert_eq!(lanes[1].lives[0].restarts, [3400]);
    }

    #[test]
    fn a_pod_that_loses_its_readiness_runs_until_it_has_it_again() {
        let (_, record) = fixture::passing();
        let lanes = lanes(&record.experiments[1].timeline, 11_000);
        let second = &lanes[1].lives[1];
        assert_eq!(second.revision.as_deref(), Some("counter-5c9f7b8d4f"));
        assert_eq!(
            spans(second)[1..],
            [
                (Phase::Running, 7400, 8100),
                (Phase::Ready, 8100, 9000),
                (Phase::Running, 9000, 9600),
                (Phase::Ready, 9600, 11_000)
            ]
        );
    }

    #[test]
    fn news_of_a_ready_or_leaving_pod_does_not_set_it_back() {
        let (_, record) = fixture::passing();
        let mut timeline = record.experiments[1].timeline.clone();
        let before = lanes(&timeline, 11_000);
        let first = timeline[0].clone();
        let told = |what: Change, at_ms: u64| Transition { what, at_ms, ..first.clone() };
        timeline.extend([
            told(Change::Running, 3_000),
            told(Change::Unready, 8_300),
            told(Change::Ready, 8_400),
        ]);
        timeline.sort_by_key(|transition| transition.at_ms);
        assert_eq!(lanes(&timeline, 11_000), before);
    }

    #[test]
    fn a_pod_that_did_its_work_ends_though_its_object_stays() {
        let (_, record) = fixture::passing();
        let mut timeline = record.experiments[1].timeline[..4].to_vec();
        let told = |what: Change, at_ms: u64| Transition { what, at_ms, ..timeline[0].clone() };
        let more =
            [told(Change::Succeeded, 2_500), told(Change::Unready, 2_600), told(Change::Deleted, 9_000)];
        timeline.extend(more);
        assert_eq!(lanes(&timeline, 11_000)[0].lives[0].until_ms(), 2_500);
    }

    #[test]
    fn a_watch_taken_up_again_is_no_pod() {
        let (_, record) = fixture::passing();
        let mut timeline = record.experiments[1].timeline.clone();
        let before = lanes(&timeline, 11_000);
        let resumed =
            |it: &Transition| Transition { kind: Kind::Watch, name: "Pod".to_owned(), ..it.clone() };
        timeline.push(resumed(&timeline[0]));
        assert_eq!(lanes(&timeline, 11_000), before);
    }

    #[test]
    fn ordinals_stand_in_the_order_of_numbers() {
        let (_, record) = fixture::passing();
        let mut timeline = record.experiments[1].timeline.clone();
        timeline
            .iter_mut()
            .filter(|it| it.name == "counter-0")
            .for_each(|it| it.name = "counter-10".to_owned());
        let names: Vec<_> = lanes(&timeline, 0).into_iter().map(|lane| lane.name).collect();
        assert_eq!(names, ["counter-1", "counter-10"]);
    }
}
