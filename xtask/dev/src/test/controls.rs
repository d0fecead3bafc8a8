//! Negative controls: the lab against charts that are broken in exactly one way, side by side, as `grade` runs them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::Deserialize;

use crate::checks::Outcome;
use cli::{ImageOf, RunArgs};
use engine::Finding;
use engine::Lab;
use engine::Outcome as Graded;
use engine::Subject;
use machine::exit::BadInput;
use machine::files::copy_folder;
use machine::progress::Progress;
use machine::workspace::Workspace;
use model::failure::Failure;
use model::record::Verdict;
use model::settings::Settings;
use model::spec::{Step, Values};

/// Holds a file for each lab, called as the lab is.
const FOLDER: &str = "docs/labs/controls";

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
struct Control {
    /// Its name.
    id: String,
    /// What is wrong with it, for the reader.
    #[serde(rename = "wrong")]
    _wrong: String,
    /// A chart of another hand in the place of the lab's: a folder beside the lab. It is adapted, as in `grade`.
    #[serde(default)]
    chart: Option<PathBuf>,
    /// Words of what is told to be adapted, a piece of each.
    #[serde(default)]
    adapted: Vec<String>,
    /// Values over the lab's.
    #[serde(default)]
    values: Values,
    /// What is wanted of the chart's objects, whatever the lab wants.
    #[serde(default)]
    set: Settings,
    /// Changes of the chart's files.
    #[serde(default)]
    edits: Vec<Edit>,
    /// The experiments that are run; all of them when left out.
    #[serde(default)]
    only: Vec<String>,
    /// The claims that fail, seen to be otherwise; all others of these experiments hold.
    #[serde(default)]
    breaks: BTreeSet<String>,
    /// Claims that nobody can judge when this chart breaks their experiment before its last step.
    #[serde(default)]
    unjudged: BTreeSet<String>,
    /// What the cluster says when it refuses the chart, before anything can be judged.
    #[serde(default)]
    refused: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Edit {
    file: PathBuf,
    /// Stands in the file exactly once.
    find: String,
    replace: String,
}

/// Which of them are run.
pub(super) enum Which {
    /// Those whose lab does with one node. The others have the nodes to themselves, one after the other.
    OfOneNode,
    /// Those of these names, all of these labs, or `all`.
    Named(Vec<String>),
}

/// Runs the labs against broken charts and judges each by its name: those that need one node first, and of each number of
/// nodes all on one cluster. The last one is kept.
///
/// # Errors
/// The controls can't be read, a claim has none, a name is nobody's, or the lab could not run.
pub(super) async fn run(
    workspace: &Workspace,
    which: &Which,
    setup: bool,
    progress: &Progress,
) -> Result<Vec<(String, Result<Outcome>)>> {
    let mut controls = all(workspace)?;
    match which {
        Which::OfOneNode => controls.retain(|(lab, _)| lab.spec.needs.nodes == 1),
        Which::Named(named) if *named == ["all"] => {}
        Which::Named(named) => {
            let is =
                |(lab, control): &(Lab, Control), name: &String| control.id == *name || lab.spec.lab == *name;
            if let Some(name) = named.iter().find(|name| !controls.iter().any(|control| is(control, name))) {
                let ids: Vec<&str> = controls.iter().map(|(_, control)| control.id.as_str()).collect();
                return Err(BadInput(format!(
                    "no control and no lab is called `{name}`\nthere are: {}",
                    ids.join(", ")
                ))
                .into());
            }
            controls.retain(|control| named.iter().any(|name| is(control, name)));
        }
    }
    let folder = workspace.lab.join("controls");
    let args = RunArgs { keep: true, setup, ..RunArgs::default() };
    let nodes = |(lab, _): &(Lab, Control)| lab.spec.needs.nodes;
    controls.sort_by_key(nodes);
    let mut judged = Vec::new();
    for alike in controls.chunk_by(|one, other| nodes(one) == nodes(other)) {
        let subjects = alike.iter().map(|(lab, control)| subject(lab, control, &folder));
        let subjects: Vec<Subject> = subjects.collect::<Result<_>>()?;
        let findings =
            engine::run(workspace, &args, &subjects, &[], progress, |_, findings| Ok(findings)).await?;
        let pairs = alike.iter().zip(&findings);
        judged.extend(pairs.map(|((_, control), finding)| (control.id.clone(), judge(control, finding))));
    }
    Ok(judged)
}

/// The controls of every lab, each with its lab.
fn all(workspace: &Workspace) -> Result<Vec<(Lab, Control)>> {
    let mut labs = vec![Lab::shipped(workspace)?];
    for file in engine::others(workspace) {
        labs.push(Lab::of(workspace, Some(&file))?);
    }
    let mut all: Vec<(Lab, Control)> = vec![];
    // A lab that breaks things itself, and asks again when they are mended, is its own control.
    let asks = |step: &Step| matches!(step, Step::Explain(_));
    labs.retain(|lab| !lab.spec.experiments.iter().all(|experiment| experiment.steps.iter().any(asks)));
    for lab in labs {
        for control in load(workspace, &lab)? {
            ensure!(all.iter().all(|(_, it)| it.id != control.id), "two controls are called {}", control.id);
            all.push((lab.clone(), control));
        }
    }
    Ok(all)
}

/// Reads the controls of a lab.
fn load(workspace: &Workspace, lab: &Lab) -> Result<Vec<Control>> {
    let file = format!("{FOLDER}/{}.yaml", lab.spec.lab);
    let text =
        std::fs::read_to_string(workspace.root.join(&file)).with_context(|| format!("cannot read {file}"))?;
    let Controls { lab: of, controls } =
        serde_saphyr::from_str(&text).map_err(|error| anyhow!("{file}: {error}"))?;
    ensure!(of == lab.spec.lab, "{file} belongs to lab {of}");
    let broken: BTreeSet<&String> = controls.iter().flat_map(|control| &control.breaks).collect();
    let claims = lab.spec.experiments.iter().flat_map(|experiment| &experiment.claims);
    let unproven: Vec<&str> =
        claims.filter(|claim| !broken.contains(&claim.id)).map(|claim| claim.id.as_str()).collect();
    ensure!(unproven.is_empty(), "{file}: no control breaks {}", unproven.join(", "));
    Ok(controls)
}

/// The broken chart, and what it is asked.
fn subject(lab: &Lab, control: &Control, folder: &Path) -> Result<Subject> {
    let chart = match &control.chart {
        Some(chart) => lab.path.parent().unwrap_or(Path::new(".")).join(chart),
        None => lab.chart(),
    };
    let chart = broken_chart(&chart, &folder.join(&control.id), &control.edits)
        .with_context(|| format!("control {}", control.id))?;
    let lab = lab.with_chart(&chart)?;
    let subject = Subject::named(&control.id, lab, &control.only, control.values.clone(), folder);
    let adapts = control.chart.is_some().then_some(ImageOf::Auto);
    Ok(Subject { always: control.set.clone(), adapts, ..subject })
}

/// Exactly the claims that the control breaks turn red, and each is told with what was expected and what was seen.
fn judge(control: &Control, finding: &Finding) -> Result<Outcome> {
    let Finding { record, written } = finding;
    let told = written.summary.failures.iter().map(|failure| failure.text()).collect::<Vec<_>>().join("\n\n");
    if let Some(words) = &control.refused {
        let refused =
            |failure: &Option<Failure>| failure.as_ref().is_some_and(|it| it.to_string().contains(words));
        let all = record.experiments.iter().all(|experiment| refused(&experiment.failure));
        ensure!(all, "should have been refused: {words}\n{told}");
        return Ok(Outcome::Passed(format!("refused: {words}")));
    }
    let claims = || record.experiments.iter().flat_map(|experiment| &experiment.claims);
    let with = |verdict: Verdict| -> BTreeSet<String> {
        claims().filter(|claim| claim.verdict == verdict).map(|claim| claim.id.clone()).collect()
    };
    let (red, unjudged, skipped) = (with(Verdict::Fails), with(Verdict::NotJudged), with(Verdict::Skipped));
    let unjudged: BTreeSet<&String> = unjudged.difference(&control.unjudged).collect();
    let breaks: BTreeSet<String> = control.breaks.difference(&skipped).cloned().collect();
    for words in &control.adapted {
        let told = written.summary.adapted.iter().any(|says| says.contains(words));
        ensure!(told, "should have been adapted: {words}\n{:#?}", written.summary.adapted);
    }
    if breaks.is_empty() && !control.breaks.is_empty() {
        return Ok(Outcome::Skipped("this cluster has not what its experiments need".to_owned()));
    }
    if red != breaks || !unjudged.is_empty() {
        let green: Vec<&String> = breaks.difference(&red).collect();
        let beside: Vec<&String> = red.difference(&breaks).collect();
        bail!(
            "should have failed: {green:?}\nshould have held: {beside:?}\nshould have been judged: {unjudged:?}\n{told}"
        );
    }
    let fails = written.grade.outcome == Graded::Fails;
    ensure!(fails != red.is_empty(), "the run is not told to have ended so\n{told}");
    for claim in &red {
        let mut failures = written.summary.failures.iter();
        let failure = failures.find(|failure| failure.claim.as_ref() == Some(claim));
        let failure = failure.with_context(|| format!("claim {claim} is not told\n{told}"))?;
        let seen = !failure.seen.is_empty() || failure.message.is_some();
        ensure!(failure.expected.is_some() && seen, "claim {claim} is told without what was seen\n{told}");
    }
    Ok(Outcome::Passed(format!("{} of {} claims fail", red.len(), claims().count())))
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
    fn every_claim_has_a_control_that_still_fits_lab_and_chart() {
        let workspace = Workspace::discover().unwrap();
        let dir = tempfile::tempdir().unwrap();
        for (lab, control) in all(&workspace).unwrap() {
            let subject = subject(&lab, &control, dir.path()).unwrap();
            // The pods of all of them together are more than a node holds.
            assert!(!subject.stays, "the namespaces of {} would stay", control.id);
            let chosen = subject.chosen().unwrap();
            let right = control.chart.is_some() && control.refused.is_none() && control.breaks.is_empty();
            assert!(right || control.breaks.is_empty() != control.refused.is_none(), "{}", control.id);
            for experiment in &chosen {
                let namespace = subject.namespace(experiment, None);
                assert!(namespace.len() <= 63, "{namespace}");
                let broken = experiment.claims.iter().any(|claim| control.breaks.contains(&claim.id));
                let expected = broken || control.refused.is_some() || control.chart.is_some();
                assert!(expected, "{}: nothing of {}", control.id, experiment.id);
            }
            let claims = chosen.iter().flat_map(|experiment| &experiment.claims);
            let claims: Vec<&str> = claims.map(|claim| claim.id.as_str()).collect();
            for broken in &control.breaks {
                assert!(claims.contains(&broken.as_str()), "{}: {broken}", control.id);
            }
        }
    }
}
