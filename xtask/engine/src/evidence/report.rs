//! The report: one self-contained HTML file for people, failures first.

use anyhow::{Context, Result};
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, Value, context};
use serde::{Deserialize, Serialize};

use super::grade::{Outcome, PageSeen};
use super::summary::{self, Summary};
use super::timeline_svg;
use machine::digest::sha256;
use model::failure::Failure;
use model::record::written;
use model::record::{ExperimentRecord, Record, Verdict};
use model::text::{command_line, printable, value};

/// The document.
pub(super) fn document(record: &Record, summary: &Summary) -> Result<String> {
    let experiments: Vec<_> = record.experiments.iter().map(|it| Told::of(it, summary)).collect();
    let failed: Vec<_> = experiments.iter().filter(|told| !told.failures.is_empty()).collect();
    let (mark, verdict) = match summary.grade.outcome {
        Outcome::Holds => ("✔", "Every claim holds"),
        Outcome::Fails => ("✘", "Not every claim holds"),
        Outcome::Broke => ("✘", "The run broke"),
    };
    environment()
        .get_template(TEMPLATE)
        .and_then(|template| {
            template.render(context! {
                css => include_str!("report.css"),
                js => include_str!("report.js"),
                nonce => nonce(record),
                record => Value::from(Serde(&record)),
                summary => Value::from(Serde(&summary)),
                page => page_lines(summary),
                experiments => Value::from(Serde(&experiments)),
                failed => Value::from(Serde(&failed)),
                picture => timeline_svg::run(record),
                engine => summary.engine_sentence().trim_start(),
                mark => mark,
                verdict => verdict,
            })
        })
        .map(|document| printable(&document))
        .context("cannot render the report")
}

/// Which page was handed in, and what its points come to.
fn page_lines(summary: &Summary) -> Vec<String> {
    let checked = matches!(summary.page, Some(PageSeen::Judged(_))).then(|| PageSeen::CHECKED.to_owned());
    summary.page.iter().map(PageSeen::says).chain(checked).collect()
}

const TEMPLATE: &str = "report.html.jinja";

/// An experiment as the report tells it.
#[derive(Serialize)]
struct Told<'a> {
    record: &'a ExperimentRecord,
    failures: Vec<&'a summary::Failure>,
    warnings: Vec<String>,
    state: &'static str,
    mark: &'static str,
    commands: usize,
    not_judged: usize,
    /// Told where the first experiment broke of the same cause.
    told_before: bool,
    picture: String,
    /// The same picture among the failures: ids are unique in a document.
    failed_picture: String,
}

impl<'a> Told<'a> {
    fn of(record: &'a ExperimentRecord, summary: &'a Summary) -> Self {
        let failures: Vec<_> = summary.failures.iter().filter(|it| it.experiment == record.id).collect();
        let (state, mark) = match (&failures[..], &record.claims[..]) {
            ([], []) => ("holds", "✔"),
            ([], claims) if claims.iter().all(|claim| claim.verdict == Verdict::Skipped) => ("skipped", "–"),
            ([], _) => ("holds", "✔"),
            _ => ("fails", "✘"),
        };
        let picture = timeline_svg::experiment(record);
        let failed_picture = match failures.is_empty() {
            true => String::new(),
            false => timeline_svg::experiment(&ExperimentRecord {
                id: format!("failed-{}", record.id),
                ..record.clone()
            }),
        };
        Self {
            warnings: failures.first().map(|failure| failure.warnings.clone()).unwrap_or_default(),
            told_before: failures.iter().all(|failure| {
                let cause = summary.causes.iter().find(|cause| cause.what == failure.cause());
                cause.is_some_and(|cause| cause.experiments[0] != record.id)
            }),
            failures,
            state,
            mark,
            commands: record.steps.iter().map(|step| step.commands.len()).sum(),
            not_judged: record.claims.iter().filter(|claim| claim.verdict == Verdict::NotJudged).count(),
            picture,
            failed_picture,
            record,
        }
    }
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment.add_filter("points", |points: f64| written(points));
    environment.add_filter("seconds", |ms: u64| format!("{:.1}", ms as f64 / 1000.0));
    environment.add_filter("moment", |at: String| at.replace('T', " ").replace('Z', " UTC"));
    environment.add_filter("command_line", |argv: Vec<String>| command_line(&argv));
    environment.add_filter("value", |seen: Value| {
        serde_json::to_value(&seen).map_or_else(|_| seen.to_string(), |seen| value(&seen))
    });
    environment.add_filter("words", |failure: Value| {
        Failure::deserialize(failure).map_or_else(|error| error.to_string(), |failure| failure.to_string())
    });
    environment.add_filter("verdict_mark", |verdict: String| mark(&verdict));
    environment.add_filter("standing_mark", |standing: String| mark(&standing));
    environment.add_template(TEMPLATE, include_str!("report.html.jinja")).expect("the template is one");
    environment
}

/// Sign and word for a verdict or a standing.
fn mark(word: &str) -> &'static str {
    match word {
        "holds" => "✔ holds",
        "fails" => "✘ fails",
        "not-judged" => "✘ not judged",
        "skipped" => "– skipped",
        "earned" => "✔",
        "lost" => "✘",
        "not-run" => "– not run",
        _ => "",
    }
}

/// What the cluster printed stands in this file, escaped. Should an escape ever be missing, the script of an
/// intruder would have to name the digest of a record that holds it.
fn nonce(record: &Record) -> String {
    let record = serde_json::to_vec(record).expect("a record is plain data");
    sha256(&record)[..32].to_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::{fixture, grade};
    use super::*;
    use model::spec::LabSpec;

    fn report((lab, record): (LabSpec, Record)) -> String {
        let grade = grade::grade(&lab, &record, &grade::Headings::new());
        document(&record, &Summary::of(&lab, &record, &grade)).unwrap()
    }

    #[test]
    fn failures_stand_before_everything_else_with_what_explains_them() {
        let report = report(fixture::failing());
        let place = |text: &str| report.find(text).unwrap_or_else(|| panic!("the report lacks {text}"));
        let order = [
            place("Not every claim holds"),
            place(">What does not hold</h2>"),
            place("counts_after[&quot;counter-0&quot;]"),
            place("FailedMount"),
            place("ErrImagePull"),
            place(">Rubric</h2>"),
            place(">Experiments</h2>"),
        ];
        assert!(order.is_sorted(), "{order:?}");
    }

    #[test]
    fn a_run_in_which_all_holds_has_no_word_of_failure() {
        let report = report(fixture::passing());
        assert!(report.contains("Every claim holds"));
        assert!(!report.contains("What does not hold"));
    }

    #[test]
    fn nothing_from_the_cluster_or_the_lab_becomes_markup() {
        const EVIL: &str =
            "</code></script><script>alert(1)</script><img src=x onerror=alert(1)>\"'\u{1b}[31mred";
        let (mut lab, mut record) = fixture::failing();
        lab.title = EVIL.to_owned();
        lab.rubric[0].title = EVIL.to_owned();
        record.title = EVIL.to_owned();
        record.broke = Some(Failure::other(EVIL));
        record.versions.insert(EVIL.to_owned(), EVIL.to_owned());
        record.stages[0].name = EVIL.to_owned();
        for experiment in &mut record.experiments {
            for text in [&mut experiment.id, &mut experiment.question, &mut experiment.namespace] {
                EVIL.clone_into(text);
            }
            experiment.failure = Some(Failure::other(EVIL));
            for step in &mut experiment.steps {
                EVIL.clone_into(&mut step.name);
                step.error = Some(Failure::other(EVIL));
                step.commands = vec![fixture::command("kubectl get", EVIL)];
                step.commands[0].argv.push(EVIL.to_owned());
                EVIL.clone_into(&mut step.commands[0].stderr);
            }
            for claim in &mut experiment.claims {
                claim.verdict = Verdict::Fails;
                for text in [&mut claim.id, &mut claim.says, &mut claim.expect] {
                    EVIL.clone_into(text);
                }
                claim.source = Some(format!("https://example.com/{EVIL}"));
                claim.message = Some(EVIL.to_owned());
                claim.values = vec![model::record::Seen { part: EVIL.to_owned(), value: EVIL.into() }];
            }
            for transition in &mut experiment.timeline {
                EVIL.clone_into(&mut transition.name);
                transition.what = model::kinds::Change::Reason(EVIL.to_owned());
                transition.revision = Some(EVIL.to_owned());
                transition.detail = Some(EVIL.to_owned());
            }
        }
        let report = report((lab, record));
        assert_eq!(report.matches("<script").count(), 1);
        assert!(!report.contains("<img"));
        assert!(!report.contains('\u{1b}'));
    }

    #[test]
    fn a_link_is_made_of_https_alone() {
        let (lab, mut record) = fixture::passing();
        record.experiments[0].claims[0].source = Some("javascript:alert(1)".to_owned());
        assert!(!report((lab, record)).contains("href=\"javascript:"));
    }

    #[test]
    fn the_file_asks_for_nothing_outside_itself() {
        let report = report(fixture::failing());
        let outside = ["src=", "@import", "url(http", "<link"];
        assert_eq!(outside.map(|needle| report.matches(needle).count()), [0; 4]);
    }

    #[test]
    fn every_id_stands_once_and_every_fragment_leads_somewhere() {
        let report = report(fixture::failing());
        let ids = |attribute: &str| -> BTreeMap<String, usize> {
            let mut found = BTreeMap::new();
            for part in report.split(attribute).skip(1) {
                *found.entry(part.split('"').next().unwrap().to_owned()).or_default() += 1;
            }
            found
        };
        let known = ids(" id=\"");
        assert_eq!(known.iter().filter(|(_, times)| **times > 1).collect::<Vec<_>>(), []);
        assert_eq!(
            ids("href=\"#").into_keys().filter(|id| !known.contains_key(id)).collect::<Vec<_>>(),
            [""; 0]
        );
    }
}
