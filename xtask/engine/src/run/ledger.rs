//! Whose time it was: how long the cluster took in an experiment, and how much the engine added to that.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The spans in which somebody other than the engine was at work for one experiment.
///
/// The cluster's are: a `kubectl` or `helm` from its start to its end, a request to a pod or to the API server
/// until its answer, a window that a `hold` asked for, and a wait from the act before it to the watch event that
/// made its condition true. Everything else is the engine's: the time from that event, from the end of the last
/// tool, or from the last answer to the next action, texts and values written for it, a turn that had to be waited
/// for because as many tools were running as the machine bears, and what lies between two steps.
///
/// When several watch events arrive while a condition is being judged, the first of them counts as the one that
/// made it true: the engine is charged too much rather than too little. What can't be seen from here is how long
/// an event was on its way from the API server to us, decoding included: that is part of the cluster's time.
#[derive(Debug, Default)]
pub struct Ledger {
    spans: Mutex<Vec<(Instant, Instant)>>,
}

impl Ledger {
    /// Notes a span that was not the engine's.
    pub fn cluster(&self, from: Instant, to: Instant) {
        if from < to {
            self.spans.lock().unwrap_or_else(PoisonError::into_inner).push((from, to));
        }
    }

    /// What the engine took of the time between two moments: all that no noted span covers.
    pub fn engine(&self, from: Instant, to: Instant) -> Duration {
        let mut spans = self.spans.lock().unwrap_or_else(PoisonError::into_inner).clone();
        spans.sort_unstable();
        let (mut engine, mut at) = (Duration::ZERO, from);
        for (began, ended) in spans {
            engine += began.min(to).saturating_duration_since(at);
            at = at.max(ended);
        }
        engine + to.saturating_duration_since(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(origin: Instant, ms: u64) -> Instant {
        origin + Duration::from_millis(ms)
    }

    #[test]
    fn the_engine_took_what_nobody_else_did() {
        let (ledger, origin) = (Ledger::default(), Instant::now());
        // Two tools side by side, then one after a gap of 10 ms.
        for (from, to) in [(30, 60), (10, 40), (70, 90)] {
            ledger.cluster(at(origin, from), at(origin, to));
        }
        let engine = |from, to| ledger.engine(at(origin, from), at(origin, to)).as_millis();
        assert_eq!(engine(0, 100), 10 + 10 + 10);
        assert_eq!(engine(10, 60), 0);
        assert_eq!(engine(50, 80), 10, "spans are cut at both ends");
        assert_eq!(engine(90, 100), 10);
    }

    #[test]
    fn nothing_noted_is_all_the_engines() {
        let origin = Instant::now();
        assert_eq!(Ledger::default().engine(origin, at(origin, 7)).as_millis(), 7);
    }
}
