//! The last screen of a run: what failed and why, the points, and the slowest steps.

use std::fmt::Write;
use std::time::Duration;

use crate::evidence::Written;
use crate::evidence::grade::written;
use crate::evidence::record::Record;
use crate::progress::{Progress, seconds};

/// A value in a failure is shown up to this many characters; the report has all of it.
const SHOWN_CHARS: usize = 300;

/// The screen as text.
pub fn text(record: &Record, evidence: &Written, progress: &Progress) -> String {
    let mut out = String::new();
    for failure in &evidence.summary.failures {
        let name = failure.claim.as_deref().unwrap_or("broke");
        let head = format!("{} · {name}", failure.experiment);
        let _ =
            writeln!(out, "{} {}: {}", progress.paint("31", "✗"), progress.paint("1", &head), failure.says);
        if let Some(expected) = &failure.expected {
            let _ = writeln!(out, "    expected  {}", words(expected));
        }
        for seen in &failure.seen {
            let _ = writeln!(out, "    seen      {} = {}", words(&seen.part), short(&seen.value.to_string()));
        }
        if let Some(message) = &failure.message {
            let _ = writeln!(out, "    because   {message}");
        }
        out.push('\n');
    }
    let grade = &evidence.grade;
    let width = grade.criteria.iter().map(|criterion| criterion.title.chars().count()).max().unwrap_or(0);
    for criterion in &grade.criteria {
        let points = format!("{:>5} of {}", written(criterion.points), written(criterion.of));
        let colour = if (criterion.points - criterion.of).abs() < 0.005 { "32" } else { "31" };
        let _ = writeln!(out, "  {:<width$}  {}", criterion.title, progress.paint(colour, &points));
    }
    let total = format!("{:>5} of {}", written(grade.points), written(grade.of));
    let _ = writeln!(out, "  {:<width$}  {}", "", progress.paint("1", &total));
    let slowest = evidence.summary.slowest.iter().map(|step| {
        format!("{}/{} {}", step.experiment, step.step, seconds(Duration::from_millis(step.duration_ms)))
    });
    let _ = writeln!(out, "\nslowest steps: {}", slowest.collect::<Vec<_>>().join(", "));
    let stages = record
        .stages
        .iter()
        .map(|stage| format!("{} {}", stage.name, seconds(Duration::from_millis(stage.duration_ms))));
    let _ = writeln!(out, "stages: {}", stages.collect::<Vec<_>>().join(", "));
    out
}

/// An expression on one line.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn short(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
