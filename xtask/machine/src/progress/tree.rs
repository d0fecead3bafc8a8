//! The tasks under way as lines that fit a terminal: what runs with its step below it, and what waits.

use std::time::{Duration, Instant};

use console::{measure_text_width, strip_ansi_codes, truncate_str};

use super::seconds;
use crate::paint::Paint;

/// Pictures of a spinner, one after the other.
const SPINNER: [&str; 10] = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];
/// How long each of them stands.
pub(super) const TICK: Duration = Duration::from_millis(120);

/// Tasks that have not ended, in the order they were announced.
#[derive(Debug, Default)]
pub(super) struct Tree {
    rows: Vec<Row>,
    announced: usize,
}

/// A task in the tree.
#[derive(Debug)]
struct Row {
    id: usize,
    name: String,
    /// None while it waits for its turn.
    began: Option<Instant>,
    note: String,
    step: Option<Step>,
}

/// What a task is busy with.
#[derive(Debug)]
struct Step {
    what: String,
    began: Instant,
    limit: Option<Duration>,
}

/// Rows and columns of a terminal.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub columns: usize,
}

impl Tree {
    /// Announces a task that waits, and returns what it is known by.
    pub(super) fn add(&mut self, name: &str) -> usize {
        self.announced += 1;
        let (id, name) = (self.announced, name.to_owned());
        self.rows.push(Row { id, name, began: None, note: String::new(), step: None });
        id
    }

    /// The task begins.
    pub(super) fn begin(&mut self, id: usize, now: Instant) {
        self.change(id, |row| row.began = Some(now));
    }

    /// The task is busy with something.
    pub(super) fn note(&mut self, id: usize, note: &str) {
        self.change(id, |row| row.note = on_one_line(note));
    }

    /// The task begins a step, which may take so long.
    pub(super) fn step(&mut self, id: usize, what: &str, limit: Option<Duration>, now: Instant) {
        self.change(id, |row| row.step = Some(Step { what: on_one_line(what), began: now, limit }));
    }

    /// The task is over, however it ended.
    pub(super) fn remove(&mut self, id: usize) {
        self.rows.retain(|row| row.id != id);
    }

    /// The lines: as much as fits, and what does not is counted.
    pub(super) fn lines(&self, now: Instant, size: Size, paint: Paint) -> Vec<String> {
        // The last row stays free, for the cursor.
        let room = size.rows.saturating_sub(1).max(1);
        let (running, waiting): (Vec<&Row>, Vec<&Row>) =
            self.rows.iter().partition(|row| row.began.is_some());
        let steps = running.iter().filter(|row| row.step.is_some()).count();
        let folded = usize::from(!waiting.is_empty());
        let told = |row: &&Row, below: bool| row.running(now, size.columns, below, paint);
        let mut lines: Vec<String> = if running.len() + steps + folded <= room {
            running.iter().flat_map(|row| told(row, true)).collect()
        } else {
            running.iter().flat_map(|row| told(row, false)).collect()
        };
        if lines.len() + folded > room {
            lines.truncate(room - 1);
            let left = running.len() - lines.len();
            let waits = if waiting.is_empty() { String::new() } else { format!(", {} wait", waiting.len()) };
            lines.push(paint.dim(&format!("  … {left} more at work{waits}")));
        } else if lines.len() + waiting.len() <= room {
            lines.extend(waiting.iter().map(|row| paint.dim(&format!("  · {}", row.name))));
        } else {
            let names: Vec<&str> = waiting.iter().map(|row| row.name.as_str()).collect();
            lines.push(paint.dim(&format!("  · {} wait: {}", names.len(), names.join(", "))));
        }
        lines.iter().map(|line| fitted(line, size.columns)).collect()
    }

    fn change(&mut self, id: usize, change: impl FnOnce(&mut Row)) {
        if let Some(row) = self.rows.iter_mut().find(|row| row.id == id) {
            change(row);
        }
    }
}

impl Row {
    /// Its line, and its step on a line below or in the place of the note.
    fn running(&self, now: Instant, columns: usize, below: bool, paint: Paint) -> Vec<String> {
        let elapsed = now.saturating_duration_since(self.began.unwrap_or(now));
        let turn = elapsed.as_millis() / TICK.as_millis();
        let spinner = SPINNER[(turn % SPINNER.len() as u128) as usize];
        let head = head(&paint.busy(spinner), &self.name, elapsed, Some(columns), paint);
        let Some(step) = &self.step else {
            return vec![format!("{head}  {}", paint.dim(&self.note))];
        };
        if !below {
            let left = columns.saturating_sub(measure_text_width(&head) + 2);
            return vec![format!("{head}  {}", paint.dim(&step.told(now, left)))];
        }
        let step = format!("      {}", paint.dim(&step.told(now, columns.saturating_sub(6))));
        vec![format!("{head}  {}", paint.dim(&self.note)), step]
    }
}

impl Step {
    /// What is done or awaited, and since when; the time is told also where the rest has no room.
    fn told(&self, now: Instant, columns: usize) -> String {
        let elapsed = now.saturating_duration_since(self.began).as_secs();
        let time = match self.limit {
            Some(limit) => format!(" ({elapsed} s of {} s)", limit.as_secs()),
            None => format!(" ({elapsed} s)"),
        };
        match columns.saturating_sub(time.len()) {
            // What it does is worth more than for how long.
            ..12 => fitted(&self.what, columns),
            room => fitted(&self.what, room) + &time,
        }
    }
}

/// The beginning of a task's line: mark, name and time in columns of their own. `None`: not on a terminal.
pub(super) fn head(
    mark: &str,
    name: &str,
    elapsed: Duration,
    columns: Option<usize>,
    paint: Paint,
) -> String {
    let width = columns.map_or(28, |columns| (columns / 3).clamp(14, 28));
    // Only a terminal has too few columns: who reads a file looks for the whole name.
    let name = columns.map_or_else(|| name.to_owned(), |_| fitted(name, width));
    let blanks = " ".repeat(width.saturating_sub(measure_text_width(&name)));
    format!("  {mark} {name}{blanks} {}", paint.dim(&format!("{:>7}", seconds(elapsed))))
}

/// The text, cut to so many columns as a terminal shows it.
pub(super) fn fitted(text: &str, columns: usize) -> String {
    truncate_str(text, columns, "…").into_owned()
}

/// What a tool printed, without its colours and tabs.
fn on_one_line(text: &str) -> String {
    let text = strip_ansi_codes(text);
    let printable: String = text.chars().map(|it| if it.is_control() { ' ' } else { it }).collect();
    printable.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Experiments of a run: so many at work, so many that wait.
    fn tree(running: usize, waiting: usize) -> (Tree, Instant) {
        let names =
            ["persistence", "rolling-update", "ordering", "partition", "retention", "dns", "isolation"];
        let (mut tree, now) = (Tree::default(), Instant::now());
        let name =
            |at: usize| names.get(at).map_or_else(|| format!("experiment-{at}"), |name| (*name).to_owned());
        for at in 0..running {
            let id = tree.add(&name(at));
            tree.begin(id, now);
            tree.note(id, &format!("step {} of 9", at + 1));
            let limit = Some(Duration::from_secs(180));
            tree.step(id, "await pods.all(p, ready(pods[p])) && größe(数え) == 3", limit, now);
        }
        for at in running..running + waiting {
            tree.add(&name(at));
        }
        (tree, now + Duration::from_millis(3200))
    }

    fn drawn((tree, now): &(Tree, Instant), rows: usize, columns: usize) -> String {
        tree.lines(*now, Size { rows, columns }, Paint::none()).join("\n")
    }

    #[test]
    fn what_runs_has_its_step_below_it_and_what_waits_is_named() {
        insta::assert_snapshot!(drawn(&tree(3, 2), 40, 100));
    }

    #[test]
    fn on_a_narrow_terminal_the_time_of_a_step_is_still_told() {
        insta::assert_snapshot!(drawn(&tree(2, 1), 24, 40));
    }

    #[test]
    fn where_rows_lack_steps_move_up_what_waits_is_folded_and_the_rest_is_counted() {
        let tree = tree(8, 4);
        let told: Vec<String> = [24, 21, 17, 10, 6, 2, 1]
            .iter()
            .map(|rows| format!("{rows} rows\n{}", drawn(&tree, *rows, 80)))
            .collect();
        insta::assert_snapshot!(told.join("\n\n"));
    }

    #[test]
    fn no_line_is_wider_than_the_terminal_and_no_screen_higher() {
        for (running, waiting) in [(0, 0), (1, 0), (0, 3), (8, 4), (30, 30)] {
            let (tree, now) = tree(running, waiting);
            for rows in [1, 2, 3, 5, 15, 24, 60] {
                for columns in [1, 10, 20, 40, 60, 80, 200] {
                    let lines = tree.lines(now, Size { rows, columns }, Paint::none());
                    let what = format!("{running} and {waiting} on {rows} x {columns}: {lines:#?}");
                    assert!(lines.len() <= rows.saturating_sub(1).max(1), "{what}");
                    assert!(lines.iter().all(|line| measure_text_width(line) <= columns), "{what}");
                }
            }
        }
    }

    #[test]
    fn what_a_tool_printed_takes_one_line_and_brings_no_colours() {
        assert_eq!(on_one_line("\x1b[32m   Compiling\x1b[0m\tserde\r\nnext"), "Compiling serde next");
    }
}
