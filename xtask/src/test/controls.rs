//! Negative controls: the lab against charts that are broken in exactly one way, as a user would run it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::Deserialize;

use crate::checks::Outcome;
use crate::evidence::record::{Record, Verdict};
use crate::lab::Lab;
use crate::lab::spec::Values;
use crate::lab::target::write_values;
use crate::workspace::{Workspace, copy_folder};

const FILE: &str = "docs/labs/controls/statefulset.yaml";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Controls {
    /// Id of the lab they belong to.
    lab: String,
    controls: Vec<Control>,
}

/// A chart or values broken in exactly one way.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Control {
    /// Its name.
    pub(super) id: String,
    /// What is wrong with it, for the reader.
    #[serde(rename = "wrong")]
    _wrong: String,
    /// Values over the lab's.
    #[serde(default)]
    values: Values,
    /// Changes of the chart's files.
    #[serde(default)]
    edits: Vec<Edit>,
    /// The experiments that are run.
    only: Vec<String>,
    /// The claims that must not hold; all others of these experiments must.
    breaks: BTreeSet<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Edit {
    file: PathBuf,
    /// Stands in the file exactly once.
    find: String,
    replace: String,
}

/// Reads the controls.
pub(super) fn load(workspace: &Workspace) -> Result<Vec<Control>> {
    let text =
        std::fs::read_to_string(workspace.root.join(FILE)).with_context(|| format!("cannot read {FILE}"))?;
    let controls: Controls = serde_saphyr::from_str(&text).map_err(|error| anyhow!("{FILE}: {error}"))?;
    ensure!(controls.lab == "statefulset", "{FILE} belongs to lab {}", controls.lab);
    Ok(controls.controls)
}

/// Runs the lab against the broken chart: exactly the claims it breaks turn red, the exit status is 1, and what was
/// printed names each of them with what was expected and what was seen.
pub(super) async fn run(
    workspace: &Workspace,
    program: &Path,
    lab: &Lab,
    control: &Control,
) -> Result<Outcome> {
    let folder = workspace.lab.join("controls").join(&control.id);
    let chart = broken_chart(&lab.chart(), &folder, &control.edits)?;
    let values = folder.join(write_values(&folder, "values", &control.values)?);
    let (chart, values) = (chart.to_string_lossy(), values.to_string_lossy());
    let only = control.only.join(",");
    let args = ["--keep", "--chart", &chart, "--values", &values, "--only", &only];
    let (status, text) = super::lab(program, &args).await?;
    ensure!(status == 1, "exit status {status} where 1 was expected\n{text}");
    let record = workspace.root.join("target/lab/run.json");
    let record =
        std::fs::read_to_string(&record).with_context(|| format!("cannot read {}", record.display()))?;
    let record: Record = serde_json::from_str(&record)?;
    let claims: Vec<_> = record.experiments.iter().flat_map(|experiment| &experiment.claims).collect();
    let red: BTreeSet<String> =
        claims.iter().filter(|claim| claim.verdict != Verdict::Holds).map(|claim| claim.id.clone()).collect();
    if red != control.breaks {
        let green: Vec<&String> = control.breaks.difference(&red).collect();
        let beside: Vec<&String> = red.difference(&control.breaks).collect();
        bail!("should have turned red: {green:?}\nshould have stayed green: {beside:?}\n{text}");
    }
    for claim in claims.iter().filter(|claim| claim.verdict == Verdict::Fails) {
        let told = text.split_once(&format!("· {}: ", claim.id)).map(|(_, rest)| rest).unwrap_or_default();
        let block = told.split("\n\n").next().unwrap_or_default();
        ensure!(
            block.contains("expected  "),
            "claim {} is not named with what was expected\n{text}",
            claim.id
        );
        ensure!(
            block.contains("seen      ") || block.contains("because   "),
            "claim {} is not told with what was seen\n{text}",
            claim.id
        );
    }
    Ok(Outcome::Passed(format!("{} of {} claims turn red", red.len(), claims.len())))
}

/// A copy of the chart with the edits made.
fn broken_chart(chart: &Path, folder: &Path, edits: &[Edit]) -> Result<PathBuf> {
    let copy = folder.join("chart");
    if copy.exists() {
        std::fs::remove_dir_all(&copy).with_context(|| format!("cannot remove {}", copy.display()))?;
    }
    copy_folder(chart, &copy).with_context(|| format!("cannot copy {}", chart.display()))?;
    for edit in edits {
        let file = copy.join(&edit.file);
        let text =
            std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let times = text.matches(&edit.find).count();
        ensure!(times == 1, "{:?} stands {times} times in {}, not once", edit.find, edit.file.display());
        std::fs::write(&file, text.replace(&edit.find, &edit.replace))?;
    }
    Ok(copy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_control_names_claims_and_experiments_of_the_lab_and_still_fits_the_chart() {
        let workspace = Workspace::discover().unwrap();
        let lab = Lab::shipped(&workspace).unwrap();
        let dir = tempfile::tempdir().unwrap();
        for control in load(&workspace).unwrap() {
            let chosen = lab.choose(&control.only).unwrap();
            let claims: Vec<&str> = chosen
                .iter()
                .flat_map(|experiment| &experiment.claims)
                .map(|claim| claim.id.as_str())
                .collect();
            for broken in &control.breaks {
                assert!(claims.contains(&broken.as_str()), "{}: {broken}", control.id);
            }
            broken_chart(&lab.chart(), &dir.path().join(&control.id), &control.edits).unwrap();
        }
    }
}
