//! No false alarm: at the end of an experiment in which all holds the rules of `explain` have nothing to say.

use anyhow::{Result, ensure};

use machine::workspace::Workspace;
use model::record::Record;

/// Looks at the run that was recorded last.
///
/// # Errors
/// The rules spoke of what is well.
pub(super) fn none(workspace: &Workspace) -> Result<()> {
    let text = std::fs::read_to_string(workspace.lab.join("run.json"))?;
    let told = alarms(&serde_json::from_str(&text)?);
    ensure!(told.is_empty(), "explain speaks of what is well:\n  {}", told.join("\n  "));
    Ok(())
}

/// What the rules said at the end of each experiment.
fn alarms(record: &Record) -> Vec<String> {
    let said = record.experiments.iter().flat_map(|experiment| {
        experiment
            .troubles
            .iter()
            .map(|trouble| format!("{}: {}: {}", experiment.id, trouble.rule, trouble.says))
    });
    said.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_says_something_at_the_end_of_an_experiment_is_heard() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
        let text = std::fs::read_to_string(root.join("docs/evidence/troubles/run.json")).unwrap();
        let mut record: Record = serde_json::from_str(&text).unwrap();
        assert_eq!(alarms(&record), Vec::<String>::new());
        record.experiments[0].troubles.push(model::failure::TroubleSeen {
            rule: "quota-used-up".to_owned(),
            says: "there is no room".to_owned(),
            seen: Vec::new(),
            mend: Vec::new(),
            change: String::new(),
        });
        assert_eq!(
            alarms(&record),
            [format!("{}: quota-used-up: there is no room", record.experiments[0].id)]
        );
    }
}
