//! What a run says when it ends: a line per experiment, and a last screen with what failed and why, the verdict, the
//! points, the slowest steps, and where things lie.

use std::time::Duration;

use crate::evidence::grade::Outcome;
use crate::evidence::summary::{Failure, Summary};
use machine::paint::Paint;
use machine::progress::seconds;
use model::record::{ExperimentRecord, Record, Verdict, written};
use model::text::{on_one_line, shortened};

/// A value in a failure is shown up to this many characters; the report has all of it.
const SHOWN_CHARS: usize = 300;

/// The line of an experiment that ended: its verdict and points, or what failed.
///
/// # Errors
/// The line, when not all of it holds.
pub(super) fn ended(record: &ExperimentRecord) -> Result<String, String> {
    if let Some(failure) = &record.failure {
        let at: String = failure.step.iter().map(|step| format!(" at {step}")).collect();
        return Err(format!("broke{at}: {}", failure.headline().lines().next().unwrap_or_default()));
    }
    if let Some(why) = &record.skipped {
        return Ok(format!("skipped: {why}"));
    }
    let judged = || record.claims.iter().filter(|claim| claim.verdict != Verdict::Skipped);
    let holding = || judged().filter(|claim| claim.verdict == Verdict::Holds);
    let (holds, all) = (holding().count(), judged().count());
    let points = |earned: f64, of: f64| match of {
        0.0 => String::new(),
        _ => format!(", {} of {} points", written(earned), written(of)),
    };
    let points = points(holding().map(|claim| claim.points).sum(), judged().map(|claim| claim.points).sum());
    let hold = if all == 1 { "claim holds" } else { "claims hold" };
    match record.claims.len() - all {
        _ if holds < all => Err(format!("{holds} of {all} {hold}{points}")),
        0 => Ok(format!("{all} {hold}{points}")),
        skipped => Ok(format!("{all} {hold}{points}, {skipped} skipped")),
    }
}

/// The last screen.
pub(super) fn text(record: &Record, summary: &Summary, places: &[(&str, String)], paint: Paint) -> String {
    let mut out = String::new();
    for (at, told) in summary.failures.iter().enumerate() {
        let cause = summary.causes.iter().find(|cause| cause.what == told.cause());
        let (head, others) =
            cause.and_then(|cause| cause.experiments.split_first()).unwrap_or((&told.experiment, &[]));
        // What broke many experiments is told where it broke the first.
        if *head == told.experiment {
            let first = at == 0 || summary.failures[at - 1].experiment != told.experiment;
            out += &failure(told, first, others, paint);
            out.push('\n');
        }
    }
    for skip in &summary.skipped {
        out += &format!("– {}: skipped: {}\n", paint.strong(&skip.experiment), skip.why);
    }
    let (holding, judged) = summary.claims_hold;
    let took = seconds(Duration::from_millis(record.duration_ms));
    let claims = match judged {
        0 => took,
        _ => format!("{holding} of {judged} claims, {took}"),
    };
    out += &match summary.grade.outcome {
        Outcome::Holds => format!("{} every claim holds: {claims}\n", paint.good("✓")),
        Outcome::Fails => format!("{} not every claim holds: {claims}\n", paint.bad("✗")),
        Outcome::Broke => format!("{} the run broke: {claims}\n", paint.bad("✗")),
    };
    if !record.experiments.is_empty() {
        out += &points(summary, paint);
    }
    out.push('\n');
    let slowest = summary.slowest.iter().map(|step| {
        format!("{:>10}  {} {}", seconds(Duration::from_millis(step.duration_ms)), step.experiment, step.step)
    });
    let stages = record
        .stages
        .iter()
        .map(|stage| format!("{:>10}  {}", seconds(Duration::from_millis(stage.duration_ms)), stage.name));
    let lists = [("slowest steps", slowest.collect::<Vec<_>>()), ("stages", stages.collect())];
    for (title, lines) in &lists {
        for (at, line) in lines.iter().enumerate() {
            let title = if at == 0 { title } else { "" };
            out += &format!("{}{line}\n", paint.dim(&format!("{title:<15}")));
        }
    }
    out += &format!("{}{}\n", paint.dim(&format!("{:<15}", "engine")), summary.engine_sentence());
    for (title, place) in places {
        out += &format!("{}{place}\n", paint.dim(&format!("{title:<15}")));
    }
    out
}

/// What does not hold: expected, seen, why, and with the first of an experiment what the cluster said meanwhile.
fn failure(failure: &Failure, first: bool, others: &[String], paint: Paint) -> String {
    let name = failure.claim.as_deref().unwrap_or("broke");
    let head = format!("{} · {name}", failure.experiment);
    let says = failure.says.trim_end().replace('\n', "\n    ");
    let mut out = format!("{} {}: {says}\n", paint.bad("✗"), paint.strong(&head));
    let mut line =
        |title: &str, text: &str| out += &format!("    {}{text}\n", paint.dim(&format!("{title:<10}")));
    if let Some(expected) = &failure.expected {
        line("expected", &on_one_line(expected));
    }
    for seen in &failure.seen {
        line(
            "seen",
            &format!("{} = {}", on_one_line(&seen.part), shortened(&seen.value.to_string(), SHOWN_CHARS)),
        );
    }
    if let Some(message) = &failure.message {
        line("because", message);
    }
    for trouble in failure.troubles.iter().filter(|trouble| first && !failure.says.contains(*trouble)) {
        line("explain", trouble);
    }
    for warning in failure.warnings.iter().filter(|warning| first && !failure.says.contains(*warning)) {
        line("event", warning);
    }
    if !others.is_empty() {
        line("so also", &others.join(", "));
    }
    out
}

/// The points of each criterion, and in all.
fn points(summary: &Summary, paint: Paint) -> String {
    let grade = &summary.grade;
    let width = grade.criteria.iter().map(|criterion| criterion.title.chars().count()).max().unwrap_or(0);
    let mut out = String::new();
    for criterion in &grade.criteria {
        let points = format!("{:>5} of {}", written(criterion.points), written(criterion.of));
        let lost = criterion.of - criterion.points - criterion.not_run;
        let points = match lost {
            0.005.. => paint.bad(&points),
            _ if criterion.not_run > 0.0 => paint.dim(&points),
            _ => paint.good(&points),
        };
        out += &format!("  {:<width$}  {points}\n", criterion.title);
    }
    let total = format!("{:>5} of {}", written(grade.points), written(grade.of));
    out += &format!("  {:<width$}  {}\n", "", paint.strong(&total));
    if grade.not_run > 0.0 {
        out += &format!("  {} points were not part of this run\n", written(grade.not_run));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::{fixture, grade};
    use model::failure::{Failure as Broken, Why};
    use model::spec::LabSpec;

    fn screen((lab, record): (LabSpec, Record)) -> String {
        let grade = grade::grade(&lab, &record, &grade::Headings::new());
        let summary = Summary::of(&lab, &record, &grade);
        text(&record, &summary, &[("report", "target/lab/report.html".to_owned())], Paint::none())
    }

    #[test]
    fn a_run_in_which_all_holds_is_quiet() {
        insta::assert_snapshot!(screen(fixture::passing()));
    }

    #[test]
    fn a_run_with_failures_shows_everything_about_them_first() {
        insta::assert_snapshot!(screen(fixture::failing()));
    }

    #[test]
    fn what_broke_many_experiments_is_told_where_it_broke_the_first() {
        let (lab, mut record) = fixture::passing();
        for experiment in &mut record.experiments {
            experiment.failure = Some(Broken::other("no answer\nfrom anybody"));
        }
        let screen = screen((lab, record));
        assert_eq!(screen.matches("no answer").count(), 1, "{screen}");
        assert!(screen.contains("so also   rolling-update, dns"), "{screen}");
    }

    #[test]
    fn an_experiment_ends_with_its_verdict_and_points_on_one_line() {
        let (_, mut record) = fixture::passing();
        let mut experiment = record.experiments.remove(0);
        let holds = ended(&experiment).unwrap();
        experiment.claims[0].verdict = Verdict::Skipped;
        let skipped = ended(&experiment).unwrap();
        experiment.claims[0].verdict = Verdict::Fails;
        let fails = ended(&experiment).unwrap_err();
        experiment.failure = Some(Why::Deadline { limit_s: 600 }.into());
        let late = ended(&experiment).unwrap_err();
        let failure = Broken::other("no pods\nanywhere");
        experiment.failure = Some(Broken { step: Some("before".to_owned()), ..failure });
        let broke = ended(&experiment).unwrap_err();
        insta::assert_snapshot!([holds, skipped, fails, late, broke].join("\n"));
    }
}
