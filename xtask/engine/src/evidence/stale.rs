//! Whether a record is one of this lab: the same rubric, experiments, steps and claims.

use serde_json::Value;

use machine::digest::sha256;
use model::record::{ExperimentRecord, FORMAT, Record};
use model::spec::{Experiment, LabSpec, Step};

/// Where a record and a lab part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stale {
    /// What is different.
    pub what: String,
    /// Where to look.
    pub place: Place,
}

/// A line of one of the two files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the lab file.
    Lab(Mark),
    /// In the record.
    Record(Mark),
}

/// What a line begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Mark {
    /// A key.
    Key(&'static str),
    /// The id of an experiment.
    Experiment(String),
    /// An entry of a list.
    Entry(String),
}

impl Mark {
    /// Its line in YAML or indented JSON, counted from one: good enough to lead an author there.
    pub(crate) fn line(&self, text: &str) -> Option<usize> {
        let (after, wanted) = match self {
            Self::Key(key) => ("", format!("{key}:")),
            Self::Experiment(id) => ("experiments:", format!("id: {id}")),
            Self::Entry(entry) => ("", entry.clone()),
        };
        let ends = |rest: &str| rest.is_empty() || rest.starts_with([',', ' ', '}']);
        let mut lines = text
            .lines()
            .enumerate()
            .map(|(at, line)| (at + 1, line.trim_start_matches([' ', '-', '{']).replace(['"', '\''], "")));
        if !after.is_empty() {
            lines.find(|(_, line)| line.starts_with(after))?;
        }
        lines.find(|(_, line)| line.strip_prefix(&*wanted).is_some_and(ends)).map(|(at, _)| at)
    }
}

/// What the record lacks or has too much, a sentence each; none when the record is a run of the whole lab as it
/// stands. A record like that is mended by a run, not by hand.
pub(crate) fn differences(lab: &LabSpec, record: &Record) -> Vec<Stale> {
    let mut found = Vec::new();
    let top = |key| Place::Lab(Mark::Key(key));
    let mut tell = |what: String, place: Place| found.push(Stale { what, place });
    if record.format != FORMAT {
        let place = Place::Record(Mark::Key("format"));
        tell(format!("the record has format {}, this program writes {FORMAT}", record.format), place);
    }
    if record.lab != lab.lab {
        tell(format!("the record is a run of lab `{}`, this is lab `{}`", record.lab, lab.lab), top("lab"));
    }
    if record.title != lab.title {
        tell(format!("the title was `{}` and is `{}`", record.title, lab.title), top("title"));
    }
    if serde_json::to_value(&record.rubric).ok() != serde_json::to_value(&lab.rubric).ok() {
        tell("the rubric changed since the run".to_owned(), top("rubric"));
    }
    for gone in record.experiments.iter().filter(|old| lab.experiments.iter().all(|new| new.id != old.id)) {
        let place = Place::Record(Mark::Experiment(gone.id.clone()));
        tell(format!("experiment `{}` was run and is no longer in the lab", gone.id), place);
    }
    for experiment in &lab.experiments {
        let place = || Place::Lab(Mark::Experiment(experiment.id.clone()));
        match record.experiments.iter().find(|recorded| recorded.id == experiment.id) {
            None => tell(format!("experiment `{}` was not part of the run", experiment.id), place()),
            Some(recorded) => {
                let mut parts = Vec::new();
                experiment_differences(experiment, recorded, &mut parts);
                parts.into_iter().for_each(|what| tell(what, place()));
            }
        }
    }
    found
}

/// SHA-256 of the experiment as the lab file declares it, in hexadecimal. Comments and layout don't count.
pub(crate) fn digest(experiment: &Experiment) -> String {
    let declared = serde_json::to_vec(experiment).expect("an experiment is plain data");
    sha256(&declared)
}

/// The values a step of the lab asks for, each with its path: `updateStrategy.partition: 1`.
pub(crate) fn values(step: &Step) -> Vec<String> {
    let (Step::Install(install) | Step::Upgrade(install)) = step else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for (name, value) in &install.values {
        flatten(name, value, &mut found);
    }
    found
}

fn flatten(path: &str, value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(entries) if !entries.is_empty() => {
            for (name, value) in entries {
                flatten(&format!("{path}.{name}"), value, found);
            }
        }
        Value::String(text) => found.push(format!("{path}: {text}")),
        other => found.push(format!("{path}: {other}")),
    }
}

fn experiment_differences(experiment: &Experiment, recorded: &ExperimentRecord, found: &mut Vec<String>) {
    let id = &experiment.id;
    let before = found.len();
    if recorded.question != experiment.question {
        found.push(format!("the question of experiment `{id}` changed since the run"));
    }
    if recorded.skipped.is_some() {
        // It has no steps; its claims say why.
    } else if recorded.steps.len() < experiment.steps.len() && recorded.failure.is_some() {
        found.push(format!("experiment `{id}` ended early in the recorded run"));
    } else if recorded.steps.len() != experiment.steps.len() {
        let (old, new) = (recorded.steps.len(), experiment.steps.len());
        found.push(format!("experiment `{id}` had {old} steps and has {new}"));
    }
    for (place, (old, new)) in recorded.steps.iter().zip(&experiment.steps).enumerate() {
        if old.kind != new.kind() || new.name().is_some_and(|name| name != old.name) {
            let new = format!("{} `{}`", new.kind(), new.name().unwrap_or("unnamed"));
            let place = place + 1;
            found.push(format!(
                "step {place} of experiment `{id}` was {} `{}` and is {new}",
                old.kind, old.name
            ));
        }
    }
    for claim in &experiment.claims {
        match recorded.claims.iter().find(|judged| judged.id == claim.id) {
            None => found.push(format!("claim `{}` of experiment `{id}` was never judged", claim.id)),
            Some(judged) => {
                let old =
                    (&judged.says, &judged.criterion, judged.points, &judged.source, judged.expect.as_str());
                if old != (&claim.says, &claim.criterion, claim.points, &claim.source, claim.expect.text()) {
                    found.push(format!("claim `{}` of experiment `{id}` changed since the run", claim.id));
                }
            }
        }
    }
    for judged in recorded.claims.iter().filter(|old| experiment.claims.iter().all(|new| new.id != old.id)) {
        found.push(format!("claim `{}` of experiment `{id}` is no longer in the lab", judged.id));
    }
    // What the sentences above don't name: a step's command or values, a deadline, the order of claims.
    if found.len() == before && !recorded.declared.is_empty() && recorded.declared != digest(experiment) {
        found.push(format!("experiment `{id}` is declared otherwise than when it was run"));
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;

    fn told(lab: &LabSpec, record: &Record) -> Vec<String> {
        differences(lab, record).into_iter().map(|stale| stale.what).collect()
    }

    #[test]
    fn a_line_is_found_in_both_files_however_they_quote() {
        let lab = "lab: x\nrubric:\n  - { id: dns, title: x }\n    sections:\n      - Overview\nexperiments:\n  - id: 'dns'\n";
        let record = "{\n\"rubric\": [{\n\"id\": \"dns\",\n\"experiments\": [\n{\n\"id\": \"dns-two\",\n\"id\": \"dns\",\n";
        let dns = Mark::Experiment("dns".to_owned());
        assert_eq!((dns.line(lab), dns.line(record)), (Some(7), Some(7)));
        assert_eq!(Mark::Key("rubric").line(lab), Some(2));
        assert_eq!(Mark::Entry("Overview".to_owned()).line(lab), Some(5));
        assert_eq!(Mark::Experiment("probes".to_owned()).line(record), None);
    }

    #[test]
    fn a_run_of_the_lab_as_it_stands_is_not_stale() {
        let (lab, record) = fixture::passing();
        assert_eq!(told(&lab, &record), Vec::<String>::new());
    }

    #[test]
    fn a_step_with_another_command_is_told() {
        let (mut lab, record) = fixture::passing();
        let Step::Run(run) = &mut lab.experiments[0].steps[2] else {
            panic!("the fixture's third step runs")
        };
        run.command = format!("{} --show-labels", run.command.text()).into();
        assert_eq!(
            told(&lab, &record),
            ["experiment `persistence` is declared otherwise than when it was run"]
        );
    }

    #[test]
    fn values_are_told_with_their_path() {
        let (lab, _) = fixture::passing();
        assert_eq!(values(&lab.experiments[1].steps[1]), ["podAnnotations.round: 2"]);
        assert_eq!(values(&lab.experiments[0].steps[2]), [""; 0]);
    }

    #[test]
    fn a_renamed_experiment_is_told_by_both_names() {
        let (mut lab, record) = fixture::passing();
        lab.experiments[0].id = "storage".to_owned();
        assert_eq!(
            told(&lab, &record),
            [
                "experiment `persistence` was run and is no longer in the lab",
                "experiment `storage` was not part of the run"
            ]
        );
    }

    #[test]
    fn a_changed_claim_step_or_rubric_is_named() {
        let (mut lab, record) = fixture::passing();
        let claim = &mut lab.experiments[0].claims[0];
        claim.expect = format!("{} && true", claim.expect.text()).into();
        lab.experiments[0].question.push('?');
        lab.experiments[1].steps.pop();
        lab.experiments[2].steps.swap(0, 1);
        lab.rubric[0].points = 4.0;
        assert_eq!(
            told(&lab, &record),
            [
                "the rubric changed since the run",
                "the question of experiment `persistence` changed since the run",
                "claim `count-survives` of experiment `persistence` changed since the run",
                "experiment `rolling-update` had 4 steps and has 3",
                "step 1 of experiment `dns` was install `install-1` and is resolve `lookups`",
                "step 2 of experiment `dns` was resolve `lookups` and is install `unnamed`",
            ]
        );
    }
}
