//! The run as JUnit XML: experiments as suites, claims as cases, for CI systems to show.

use std::time::Duration;

use anyhow::{Context, Result};
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::block::console_text;
use model::record::{ClaimRecord, CommandRecord, ExperimentRecord, Record, Verdict};
use model::text::value;

/// The document.
pub(super) fn document(record: &Record) -> Result<String> {
    let mut report = Report::new(&record.lab);
    report.set_time(Duration::from_millis(record.duration_ms));
    report.add_test_suites(record.experiments.iter().map(suite));
    if let Some(broke) = &record.broke {
        let mut suite = TestSuite::new("run");
        suite.add_test_case(error("the run reaches its end", &broke.to_string()));
        report.add_test_suite(suite);
    }
    report.to_string().context("cannot write the run as JUnit XML")
}

fn suite(experiment: &ExperimentRecord) -> TestSuite {
    let mut suite = TestSuite::new(&experiment.id);
    suite.set_time(Duration::from_millis(experiment.duration_ms));
    suite.add_property(("question", experiment.question.as_str()));
    suite.add_property(("namespace", experiment.namespace.as_str()));
    if let Some(failure) = &experiment.failure {
        suite.add_test_case(error("every step succeeds", &failure.to_string()));
    }
    suite.add_test_cases(experiment.claims.iter().map(case));
    suite.set_system_out(transcript(experiment.steps.iter().flat_map(|step| &step.commands)));
    if !experiment.diagnostics.is_empty() {
        suite.set_system_err(transcript(&experiment.diagnostics));
    }
    for case in &mut suite.test_cases {
        case.set_classname(&experiment.id);
    }
    suite
}

fn case(claim: &ClaimRecord) -> TestCase {
    let message = claim.message.as_deref();
    let mut status = match claim.verdict {
        Verdict::Holds => TestCaseStatus::success(),
        Verdict::Skipped => TestCaseStatus::skipped(),
        Verdict::Fails => TestCaseStatus::non_success(NonSuccessKind::Failure),
        Verdict::NotJudged => TestCaseStatus::non_success(NonSuccessKind::Error),
    };
    if claim.verdict != Verdict::Holds {
        status.set_message(message.unwrap_or(&claim.says));
    }
    let mut seen = format!("expected: {}\n", claim.expect);
    for part in &claim.values {
        seen += &format!("seen:     {} = {}\n", part.part, value(&part.value));
    }
    if claim.verdict.is_red() {
        status.set_description(format!("{}\n{seen}{}", claim.says, message.unwrap_or_default()));
    }
    let mut case = TestCase::new(&claim.id, status);
    case.add_property(("says", claim.says.as_str()));
    case.set_system_out(seen);
    case
}

fn error(name: &str, why: &str) -> TestCase {
    let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
    status.set_message(why.lines().next().unwrap_or_default()).set_description(why);
    TestCase::new(name, status)
}

fn transcript<'a>(commands: impl IntoIterator<Item = &'a CommandRecord>) -> String {
    commands.into_iter().map(console_text).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;
    use model::failure::Failure;

    #[test]
    fn a_run_with_a_failed_a_skipped_and_an_unjudged_claim() {
        let (_, record) = fixture::failing();
        insta::assert_snapshot!(document(&record).unwrap());
    }

    #[test]
    fn a_run_that_broke_is_an_error_of_its_own() {
        let (_, mut record) = fixture::passing();
        record.broke = Some(Failure::other("the cluster went away\nlast seen: \u{1b}refused"));
        let document = document(&record).unwrap();
        assert!(document.contains("errors=\"1\""), "{document}");
        assert!(document.contains("the cluster went away") && !document.contains('\u{1b}'));
    }
}
