//! What a person sees while long work goes on: a live tree on a terminal, plain lines elsewhere. All of it goes to
//! stderr; stdout is for results.

mod tree;
mod terminal;

use std::fmt::Write;
use std::io::IsTerminal;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use console::Term;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle, TermLike};

use crate::print;

use self::terminal::{ECHO, Typed};
use self::tree::{Size, Tree};
use crate::paint::{Paint, variable};

/// How often a second lines are drawn anew at most.
const DRAWN_HZ: u8 = 20;

/// The screen. Cheap to clone; all clones share it.
#[derive(Debug, Clone)]
pub struct Progress {
    tree: Arc<Mutex<Tree>>,
    /// Draws the tree, where it can be drawn.
    screen: Option<ProgressBar>,
    paint: Paint,
}

/// One task under way. Dropping it without an end says that it was interrupted.
#[derive(Debug)]
pub struct Task {
    progress: Progress,
    id: usize,
    name: String,
    /// None while it waits for its turn.
    began: Option<Instant>,
    ended: bool,
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

impl Progress {
    /// A live tree on a terminal; plain lines in CI, in a pipe, and on a dumb terminal.
    pub fn new() -> Self {
        let live = live(std::io::stderr().is_terminal(), variable);
        let size = || {
            let (rows, columns) = Term::stderr().size();
            Size { rows: rows.into(), columns: columns.into() }
        };
        Self::on(live.then(Term::buffered_stderr), size, Paint::stderr())
    }

    fn on(
        terminal: Option<impl TermLike + 'static>,
        size: impl Fn() -> Size + Clone + Send + Sync + 'static,
        paint: Paint,
    ) -> Self {
        let tree: Arc<Mutex<Tree>> = Arc::default();
        let shown = Arc::clone(&tree);
        let lines = move |_: &ProgressState, out: &mut dyn Write| {
            let Size { rows, columns } = size();
            let size = Size { rows, columns: columns.saturating_sub(ECHO).max(1) };
            let _ = out.write_str(&lock(&shown).lines(Instant::now(), size, paint).join("\n"));
        };
        let screen = terminal.map(|terminal| {
            let target = ProgressDrawTarget::term_like_with_hz(Box::new(Typed::on(terminal)), DRAWN_HZ);
            let style = ProgressStyle::with_template("{tree}").expect("the template is one");
            let bar = ProgressBar::with_draw_target(None, target).with_style(style.with_key("tree", lines));
            bar.enable_steady_tick(tree::TICK);
            bar
        });
        Self { tree, screen, paint }
    }

    /// Whether notes are seen.
    pub fn is_live(&self) -> bool {
        self.screen.is_some()
    }

    /// Starts a task.
    pub fn start(&self, name: impl Into<String>) -> Task {
        let mut task = self.queue(name);
        task.begin();
        task
    }

    /// Announces a task that waits for its turn.
    pub fn queue(&self, name: impl Into<String>) -> Task {
        let name = name.into();
        let id = lock(&self.tree).add(&name);
        Task { progress: self.clone(), id, name, began: None, ended: false }
    }

    /// Prints a line above the live ones.
    pub fn say(&self, line: &str) {
        self.beside(|| print::message(line));
    }

    /// Prints a result: a line on stdout, which may be the same terminal.
    pub fn result(&self, line: &str) {
        self.beside(|| print::result(line));
    }

    /// Does something with the live lines out of its way.
    fn beside(&self, print: impl FnOnce()) {
        match &self.screen {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }
}

impl Task {
    /// Its turn has come.
    pub fn begin(&mut self) {
        let now = Instant::now();
        self.began = Some(now);
        lock(&self.progress.tree).begin(self.id, now);
        if self.progress.screen.is_none() {
            print::message(format!("  … {}", self.name));
        }
    }

    /// Says what the task is busy with; on a terminal only, where it replaces what was said before.
    pub fn note(&self, note: impl AsRef<str>) {
        lock(&self.progress.tree).note(self.id, note.as_ref());
    }

    /// Says which step the task is at, and how long that may take; on a terminal only.
    pub fn step(&self, what: &str, limit: Option<Duration>) {
        lock(&self.progress.tree).step(self.id, what, limit, Instant::now());
    }

    /// How long it has been going on.
    pub fn elapsed(&self) -> Duration {
        self.began.map(|began| began.elapsed()).unwrap_or_default()
    }

    /// It is done; `detail` says what came of it.
    pub fn done(mut self, detail: &str) {
        self.end(self.progress.paint.good("✓"), detail);
    }

    /// It failed; the error itself is told elsewhere.
    pub fn fail(mut self, detail: &str) {
        self.end(self.progress.paint.bad("✗"), detail);
    }

    fn end(&mut self, mark: String, detail: &str) {
        self.ended = true;
        let Progress { tree, screen, paint } = &self.progress;
        lock(tree).remove(self.id);
        let columns = screen.is_some().then(|| usize::from(Term::stderr().size().1));
        let line = format!("{}  {detail}", tree::head(&mark, &self.name, self.elapsed(), columns, *paint));
        let line = line.trim_end();
        match columns.filter(|_| !line.contains('\n')) {
            Some(columns) => self.progress.say(&tree::fitted(line, columns)),
            None => self.progress.say(line),
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        match self.began {
            Some(_) => self.end(self.progress.paint.doubtful("-"), "not finished"),
            None => lock(&self.progress.tree).remove(self.id),
        }
    }
}

/// Whether lines can be drawn anew. In CI a terminal is pretended, and all of it is kept.
fn live(terminal: bool, variable: impl Fn(&str) -> Option<String>) -> bool {
    let in_ci = variable("CI").is_some_and(|ci| ci != "false" && ci != "0");
    terminal && !in_ci && variable("TERM").is_some_and(|term| term != "dumb")
}

fn lock(tree: &Mutex<Tree>) -> MutexGuard<'_, Tree> {
    tree.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A duration as people read it: `0.4 s`, `12.3 s`, `2 min 05 s`.
pub fn seconds(duration: Duration) -> String {
    let s = duration.as_secs();
    if s < 100 {
        format!("{:.1} s", duration.as_secs_f64())
    } else {
        format!("{} min {:02} s", s / 60, s % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use indicatif::{InMemoryTerm, TermLike};

    #[test]
    fn durations_read_naturally() {
        assert_eq!(seconds(Duration::from_millis(400)), "0.4 s");
        assert_eq!(seconds(Duration::from_millis(12_340)), "12.3 s");
        assert_eq!(seconds(Duration::from_secs(125)), "2 min 05 s");
    }

    #[test]
    fn lines_are_drawn_anew_only_where_somebody_looks() {
        type Variables = &'static [(&'static str, &'static str)];
        let cases: [(bool, Variables, bool); 6] = [
            (true, &[("TERM", "xterm-256color")], true),
            (true, &[("TERM", "xterm"), ("CI", "false")], true),
            (true, &[("TERM", "xterm"), ("CI", "true")], false),
            (true, &[("TERM", "dumb")], false),
            (true, &[], false),
            (false, &[("TERM", "xterm")], false),
        ];
        for (terminal, set, expected) in cases {
            let variable = |name: &str| {
                set.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
            };
            assert_eq!(live(terminal, variable), expected, "{set:?} on a terminal: {terminal}");
        }
    }

    /// What a terminal of that size shows after `work`, and after all of its tasks ended; before that Ctrl-C is typed so
    /// many times.
    fn shown(
        rows: u16,
        columns: u16,
        typed: usize,
        work: impl FnOnce(&Progress) -> Vec<Task>,
    ) -> (String, String) {
        let term = InMemoryTerm::new(rows, columns);
        let size = Size { rows: rows.into(), columns: columns.into() };
        let progress = Progress::on(Some(term.clone()), move || size, Paint::none());
        let tasks = work(&progress);
        let bar = progress.screen.as_ref().unwrap();
        bar.suspend(|| ());
        let during = term.contents();
        for _ in 0..typed {
            term.write_str("^C").unwrap();
            bar.suspend(|| ());
        }
        drop(tasks);
        bar.suspend(|| term.write_line("after").unwrap());
        (during, term.contents())
    }

    fn experiments(progress: &Progress) -> Vec<Task> {
        let tasks: Vec<Task> = (0..14)
            .map(|at| {
                let mut task = progress.queue(format!("experiment-{at}"));
                if at < 8 {
                    task.begin();
                    task.note(format!("step {at} of 9"));
                    task.step(
                        "await pods.all(p, ready(pods[p])) && size(pods) == 3",
                        Some(Duration::from_secs(180)),
                    );
                }
                task
            })
            .collect();
        tasks
    }

    #[test]
    fn more_experiments_than_rows_fit_and_leave_nothing_behind() {
        for (rows, columns) in [(40, 120), (24, 80), (20, 60), (15, 40), (5, 40), (3, 40)] {
            let (during, after) = shown(rows, columns, 0, experiments);
            assert!(during.lines().count() < usize::from(rows), "{rows} x {columns}\n{during}");
            assert!(during.contains("experiment-0"), "{rows} x {columns}\n{during}");
            assert!(during.contains("experiment-13") || during.contains("6 wait"), "{during}");
            assert_eq!(after, "after", "{rows} x {columns}");
        }
    }

    #[test]
    fn the_echo_of_ctrl_c_leaves_no_line_behind() {
        for (rows, columns) in [(40, 120), (24, 80), (15, 40)] {
            let (_, after) = shown(rows, columns, 2, experiments);
            assert_eq!(after, "after", "{rows} x {columns}");
        }
    }

    #[test]
    fn a_task_that_never_began_leaves_no_line() {
        let (during, _) = shown(24, 80, 0, |progress| {
            drop(progress.queue("never"));
            vec![progress.start("build")]
        });
        assert!(during.contains("build") && !during.contains("never"), "{during}");
    }
}
