//! How long the builds that are left will take: from what they took elsewhere, corrected by what this machine has shown.

use std::time::{Duration, Instant};

use machine::tools::gomod::Module;

/// For so long the table of build times is believed as much as what is seen.
const BELIEVED: f64 = 15.0;

/// Builds that wait, go on and are done. Those that go on share the processors.
#[derive(Debug)]
pub(crate) struct Pace {
    builds: Vec<Build>,
    /// Seconds of the table that this machine should do in a second.
    expected: f64,
    seen: Instant,
}

#[derive(Debug)]
struct Build {
    name: &'static str,
    /// What the table says.
    cold_s: f64,
    /// Seconds of the whole machine that it has had.
    had_s: f64,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waits,
    GoesOn,
    Done,
}

impl Pace {
    /// All of them wait.
    pub(crate) fn of(modules: &[&'static Module], cores: usize, now: Instant) -> Self {
        let build = |module: &&'static Module| Build {
            name: module.name,
            cold_s: module.cold_s as f64,
            had_s: 0.0,
            state: State::Waits,
        };
        // Compiling spreads over the cores, linking does not: about a tenth stays.
        let expected = 1.0 / (0.9 * 2.0 / cores.max(1) as f64 + 0.1);
        Self { builds: modules.iter().map(build).collect(), expected, seen: now }
    }

    /// It begins.
    pub(crate) fn begin(&mut self, module: &Module, now: Instant) {
        self.change(module, State::GoesOn, now);
    }

    /// It is done.
    pub(crate) fn end(&mut self, module: &Module, now: Instant) {
        self.change(module, State::Done, now);
    }

    /// Until the last of them is done.
    pub(crate) fn left(&mut self, now: Instant) -> Duration {
        self.share_out(now);
        let speed = self.speed();
        let of = |build: &Build| match build.state {
            State::Waits => build.cold_s,
            // The table may be wrong about one of them: it is not over before it is.
            State::GoesOn => (build.cold_s - build.had_s * speed).max(build.cold_s / 20.0),
            State::Done => 0.0,
        };
        Duration::from_secs_f64(self.builds.iter().map(of).sum::<f64>() / speed)
    }

    /// The same, for people.
    pub(crate) fn told(&mut self, now: Instant) -> String {
        match self.left(now).as_secs() {
            s @ ..90 => format!("about {} s left", s.div_ceil(10) * 10),
            s => format!("about {} min left", s.div_ceil(60)),
        }
    }

    fn change(&mut self, module: &Module, state: State, now: Instant) {
        self.share_out(now);
        if let Some(build) = self.builds.iter_mut().find(|build| build.name == module.name) {
            build.state = state;
        }
    }

    fn share_out(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.seen).as_secs_f64();
        self.seen = now;
        let at_work = self.builds.iter().filter(|build| build.state == State::GoesOn).count();
        for build in self.builds.iter_mut().filter(|build| build.state == State::GoesOn) {
            build.had_s += passed / at_work as f64;
        }
    }

    /// Seconds of the table that are done in a second here.
    fn speed(&self) -> f64 {
        let (mut done, mut took) = (BELIEVED * self.expected, BELIEVED);
        // Those that are done tell most; of the others those that should be.
        for state in [State::Done, State::GoesOn] {
            for build in self.builds.iter().filter(|build| build.state == state) {
                if state == State::Done || build.had_s * done / took > build.cold_s {
                    done += build.cold_s;
                    took += build.had_s;
                }
            }
        }
        done / took
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use machine::tools::gomod::{CONTAINERD, COREDNS, HELM, KUBERNETES};

    const MODULES: [&Module; 4] = [&KUBERNETES, &CONTAINERD, &COREDNS, &HELM];

    /// Two at once on a machine that does so many of the table's seconds in a second: what is left as it is told when
    /// the first of them is done, and what was left in truth.
    fn told_and_true(speed: f64) -> (f64, f64) {
        let start = Instant::now();
        let mut pace = Pace::of(&MODULES, 2, start);
        pace.begin(&KUBERNETES, start);
        pace.begin(&CONTAINERD, start);
        // Each has half of the machine.
        let done = start + Duration::from_secs_f64(2.0 * 55.0 / speed);
        pace.end(&CONTAINERD, done);
        pace.begin(&COREDNS, done);
        (pace.left(done).as_secs_f64(), (420.0 - 55.0 + 60.0 + 95.0) / speed)
    }

    #[test]
    fn what_is_left_follows_the_machine_and_not_the_table() {
        for speed in [0.4, 0.5, 1.0, 2.0] {
            let (told, left) = told_and_true(speed);
            assert!((told / left - 1.0).abs() < 0.3, "{told} s were told, {left} s were left at {speed}");
        }
    }

    #[test]
    fn a_build_that_should_be_done_slows_the_others_down_before_it_is() {
        let start = Instant::now();
        let mut pace = Pace::of(&[&CONTAINERD, &HELM], 2, start);
        pace.begin(&CONTAINERD, start);
        let first = pace.left(start);
        assert_eq!(first.as_secs(), 150);
        assert!(pace.left(start + Duration::from_secs(200)) > first);
        assert_eq!(pace.told(start), "about 5 min left");
    }

    #[test]
    fn more_cores_are_expected_to_take_less() {
        let now = Instant::now();
        let left = |cores| Pace::of(&MODULES, cores, now).told(now);
        assert_eq!((left(2), left(8)), ("about 11 min left".to_owned(), "about 4 min left".to_owned()));
    }
}
