//! What was done in an experiment that may change what its timeline shows.

use model::kinds::StepKind;
use model::record::{ExperimentRecord, StepRecord};
use model::text::command_line;
use model::verbs;

/// Reading and waiting change nothing; lines for them would hide those that matter.
pub(super) fn acts(experiment: &ExperimentRecord) -> Vec<Act> {
    experiment.steps.iter().filter(|step| step.error.is_some() || is_act(step)).map(act).collect()
}

/// Something done that may change what the lanes show.
pub(super) struct Act {
    /// When, in milliseconds.
    pub at_ms: u64,
    /// When it ended, in milliseconds.
    pub ended_ms: u64,
    /// Whether it is a time of watching.
    pub holds: bool,
    /// Whether it failed.
    pub failed: bool,
    /// Its command.
    pub says: String,
}

fn is_act(step: &StepRecord) -> bool {
    let words: Vec<&str> =
        step.commands.first().map(|it| it.argv.iter().map(String::as_str).collect()).unwrap_or_default();
    step.kind.acts().unwrap_or_else(|| !verbs::only_reads(&words))
}

fn act(step: &StepRecord) -> Act {
    let says = match step.commands.as_slice() {
        _ if step.kind == StepKind::Hold => {
            format!("watch for {:.1} s", (step.ended_ms - step.started_ms.min(step.ended_ms)) as f64 / 1000.0)
        }
        [] => format!("{} {}", step.kind, step.name),
        [only] => told(&only.argv, &asked(step)),
        [first, others @ ..] => format!("{} (and {} more)", told(&first.argv, &asked(step)), others.len()),
    };
    Act {
        at_ms: step.started_ms,
        ended_ms: step.ended_ms,
        holds: step.kind == StepKind::Hold,
        failed: step.error.is_some(),
        says,
    }
}

/// The values a step gives, and what it wants of objects.
fn asked(step: &StepRecord) -> Vec<String> {
    step.values.iter().cloned().chain(step.set.iter().map(ToString::to_string)).collect()
}

/// The command without what is the same for all commands of an experiment, and the values its file of values holds.
fn told(argv: &[String], values: &[String]) -> String {
    let mut words = Vec::new();
    let mut argv = argv.iter();
    while let Some(word) = argv.next() {
        match word.as_str() {
            "--namespace" | "--values" | "--post-renderer" | "--post-renderer-args" => _ = argv.next(),
            option if option.starts_with("--timeout=") => {}
            _ => words.push(word.clone()),
        }
    }
    let comment = if values.is_empty() { String::new() } else { format!("  # {}", values.join(", ")) };
    command_line(&words) + &comment
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;

    #[test]
    fn only_what_can_change_something_becomes_a_line() {
        let (_, record) = fixture::passing();
        let says = |place: usize| -> Vec<String> {
            acts(&record.experiments[place]).into_iter().map(|act| act.says).collect()
        };
        assert_eq!(says(0), ["helm upgrade --install counter chart", "kubectl delete pod counter-0"]);
        assert!(says(1)[1].ends_with("# podAnnotations.round: 2"));
        assert_eq!(says(1).last().unwrap(), "watch for 1.2 s");
    }
}
