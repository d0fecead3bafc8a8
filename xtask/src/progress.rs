//! What a person sees while long work goes on: a line per task with its elapsed time on a terminal,
//! plain lines elsewhere. All of it goes to stderr; stdout is for results.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// The screen. Cheap to clone; all clones share it.
#[derive(Debug, Clone)]
pub struct Progress {
    screen: Option<MultiProgress>,
    colour: bool,
}

/// One task under way. Dropping it without an end says that it was interrupted.
#[derive(Debug)]
pub struct Task {
    progress: Progress,
    bar: Option<ProgressBar>,
    name: String,
    started: Instant,
    ended: bool,
}

impl Progress {
    /// Live lines on a terminal, plain ones in CI, in a pipe, and on a dumb terminal.
    pub fn new() -> Self {
        let terminal = std::io::stderr().is_terminal()
            && std::env::var_os("CI").is_none()
            && std::env::var_os("TERM").is_some_and(|term| term != "dumb");
        Self {
            screen: terminal.then(MultiProgress::new),
            colour: terminal && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()),
        }
    }

    /// Starts a task.
    pub fn start(&self, name: impl Into<String>) -> Task {
        let name = name.into();
        let bar = self.screen.as_ref().map(|screen| {
            let bar = screen.add(ProgressBar::new_spinner());
            let template = if self.colour {
                "{spinner:.cyan} {prefix} {elapsed:.dim} {wide_msg:.dim}"
            } else {
                "{spinner} {prefix} {elapsed} {wide_msg}"
            };
            bar.set_style(
                ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner()),
            );
            bar.set_prefix(format!("{name:<28}"));
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        if bar.is_none() {
            eprintln!("  … {name}");
        }
        Task { progress: self.clone(), bar, name, started: Instant::now(), ended: false }
    }

    /// Prints a line above the live ones.
    pub fn say(&self, line: &str) {
        match &self.screen {
            Some(screen) => drop(screen.println(line)),
            None => eprintln!("{line}"),
        }
    }

    /// `text` in an ANSI colour where colours are wanted.
    pub fn paint(&self, colour: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

impl Task {
    /// Says what the task is busy with; on a terminal only, where it replaces what was said before.
    pub fn note(&self, note: impl Into<String>) {
        if let Some(bar) = &self.bar {
            bar.set_message(note.into());
        }
    }

    /// How long it has been going on.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// It is done; `detail` says what came of it.
    pub fn done(self, detail: &str) {
        self.end("✓", "32", detail);
    }

    /// It failed; the error itself is told elsewhere.
    pub fn fail(self, detail: &str) {
        self.end("✗", "31", detail);
    }

    fn end(mut self, mark: &str, colour: &str, detail: &str) {
        self.ended = true;
        let mark = self.progress.paint(colour, mark);
        let time = self.progress.paint("2", &format!("{:>7}", seconds(self.elapsed())));
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        self.progress.say(format!("  {mark} {:<28} {time}  {detail}", self.name).trim_end());
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let mark = self.progress.paint("33", "-");
        self.progress.say(&format!(
            "  {mark} {:<28} {:>7}  not finished",
            self.name,
            seconds(self.elapsed())
        ));
    }
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
