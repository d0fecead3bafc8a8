//! The declared lab: its file as types, its expressions, its conditions, and the chart it is about.

pub(crate) mod schema;
pub(crate) mod stranger;
pub(crate) mod adapt;
pub(crate) mod changes;
pub(crate) mod post_render;
pub(crate) mod release;
pub(crate) mod app;
pub(crate) mod places;
pub(crate) mod beyond;
pub(crate) mod target;

use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use machine::exit::BadInput;
use machine::workspace::Workspace;
use model::load;
use model::record::written;
use model::spec::{Experiment, LabSpec};

/// The lab that is run when none is named.
pub(crate) const SHIPPED: &str = "docs/labs/statefulset.yaml";

/// The lab that charts of others are graded by: what the assignment asks for.
pub(crate) const HAND_IN: &str = "docs/labs/hand-in.yaml";

/// A lab that was loaded and found sound.
#[derive(Debug, Clone)]
pub struct Lab {
    /// The file it was read from.
    pub path: PathBuf,
    /// What the file says.
    pub spec: LabSpec,
    /// Whether its evidence is committed: it is one of ours, and has a page.
    pub kept: bool,
    /// Whether it is put to another chart than its own.
    pub foreign: bool,
}

impl Lab {
    /// The lab of this file, or the shipped one.
    ///
    /// # Errors
    /// A lab file that can't be read or makes no sense.
    pub fn of(workspace: &Workspace, file: Option<&Path>) -> Result<Self> {
        let shipped = workspace.root.join(SHIPPED);
        let path = file.unwrap_or(&shipped);
        let spec = load::load(path).map_err(|unsound| BadInput(unsound.0))?;
        let ours = path.parent().zip(shipped.parent()).is_some_and(|(one, other)| same_file(one, other));
        let kept = ours && page(workspace, &spec).is_file();
        Ok(Self { kept, path: path.to_owned(), spec, foreign: false })
    }

    /// The same lab, put to another chart.
    ///
    /// # Errors
    /// The folder we are in is gone.
    pub fn with_chart(&self, chart: &Path) -> Result<Self> {
        let absolute = std::path::absolute(chart).with_context(|| format!("chart {}", chart.display()))?;
        let mut lab = Self { foreign: true, ..self.clone() };
        lab.spec.target.chart = absolute.to_string_lossy().into_owned();
        Ok(lab)
    }

    /// The shipped lab.
    ///
    /// # Errors
    /// As [`Lab::of`].
    pub fn shipped(workspace: &Workspace) -> Result<Self> {
        Self::of(workspace, None)
    }

    /// The labs whose evidence is committed.
    ///
    /// # Errors
    /// As [`Lab::of`].
    pub fn all_kept(workspace: &Workspace) -> Result<Vec<Self>> {
        let files = std::iter::once(workspace.root.join(SHIPPED)).chain(others(workspace));
        let labs = files.map(|file| Self::of(workspace, Some(&file))).collect::<Result<Vec<_>>>()?;
        Ok(labs.into_iter().filter(|lab| lab.kept).collect())
    }

    /// The chart's folder or archive, without the detours of a relative path.
    pub fn chart(&self) -> PathBuf {
        let folder = self.path.parent().unwrap_or(Path::new(".")).join(&self.spec.target.chart);
        folder.canonicalize().unwrap_or(folder)
    }

    /// The experiments with these ids, or all of them when none is named.
    ///
    /// # Errors
    /// A name that no experiment has.
    pub fn choose(&self, only: &[String]) -> Result<Vec<&Experiment>> {
        let all = &self.spec.experiments;
        let ids: Vec<&str> = all.iter().map(|experiment| experiment.id.as_str()).collect();
        if let Some(name) = only.iter().find(|name| !ids.contains(&name.as_str())) {
            let hint = load::nearest(name, &ids)
                .map(|near| format!(" (did you mean `{near}`?)"))
                .unwrap_or_default();
            return Err(BadInput(format!(
                "no experiment is called `{name}`{hint}\nthere are: {}",
                ids.join(", ")
            ))
            .into());
        }
        Ok(all.iter().filter(|experiment| only.is_empty() || only.contains(&experiment.id)).collect())
    }

    /// The fields of `target` that its expressions read.
    pub fn target_fields(&self) -> Vec<String> {
        load::target_fields(&self.spec)
    }

    /// Experiments, claims and points, to be read.
    pub fn list(&self) -> String {
        let mut text = format!("{}\n", self.spec.title);
        for experiment in &self.spec.experiments {
            let _ = writeln!(text, "\n{} · {}", experiment.id, experiment.question);
            for claim in &experiment.claims {
                let points = written(claim.points);
                let _ = writeln!(text, "  {points:>5}  {}: {}", claim.id, claim.says);
            }
        }
        let _ = writeln!(text, "\n{}", self.summary().trim_end());
        text
    }

    /// One line: what the lab holds.
    pub fn summary(&self) -> String {
        let claims: usize = self.spec.experiments.iter().map(|experiment| experiment.claims.len()).sum();
        let points: f64 = self.spec.rubric.iter().map(|criterion| criterion.points).sum();
        let experiments = self.spec.experiments.len();
        format!(
            "{}: {experiments} experiments, {claims} claims, {} points\n",
            self.path.display(),
            written(points)
        )
    }
}

/// The page of a lab, whether or not there is one.
pub(crate) fn page(workspace: &Workspace, spec: &LabSpec) -> PathBuf {
    workspace.root.join("docs").join(format!("{}.md", spec.lab.to_uppercase()))
}

/// The labs beside the shipped one.
pub fn others(workspace: &Workspace) -> Vec<PathBuf> {
    let shipped = workspace.root.join(SHIPPED);
    let entries = shipped.parent().and_then(|folder| std::fs::read_dir(folder).ok()).into_iter().flatten();
    let files = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut labs: Vec<PathBuf> =
        files.filter(|file| file.extension().is_some_and(|e| e == "yaml") && *file != shipped).collect();
    labs.sort();
    labs
}

fn same_file(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn experiments_are_listed_with_their_claims_and_chosen_by_name_only() {
        let lab = Lab::shipped(&Workspace::discover().unwrap()).unwrap();
        assert!(lab.summary().contains("14 experiments, 44 claims, 12.5 points"), "{}", lab.summary());
        assert_eq!(lab.list().lines().filter(|line| line.starts_with("dns · ")).count(), 1);
        assert_eq!(lab.choose(&[]).unwrap().len(), lab.spec.experiments.len());
        assert_eq!(lab.choose(&["dns".to_owned()]).unwrap().len(), 1);
        let error = lab.choose(&["dnss".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("did you mean `dns`?"), "{error}");
    }
}
