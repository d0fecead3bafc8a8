//! The declared lab: its file as types, its expressions, its conditions, and the chart it is about.

pub mod spec;
pub mod load;
pub mod schema;
pub mod expression;
pub mod condition;
pub mod target;

use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::cli::LabArgs;
use crate::evidence::Paths;
use crate::evidence::grade::written;
use crate::exit::BadInput;
use crate::lab::spec::{Experiment, LabSpec};
use crate::workspace::Workspace;

/// The lab that is run when none is named, and whose evidence is committed.
pub const SHIPPED: &str = "docs/labs/statefulset.yaml";

/// A lab that was loaded and found sound.
#[derive(Debug, Clone)]
pub struct Lab {
    /// The file it was read from.
    pub path: PathBuf,
    /// What the file says.
    pub spec: LabSpec,
    /// Whether it is the one whose evidence is committed.
    pub shipped: bool,
}

impl Lab {
    /// The lab that the command line names, with the chart it names.
    ///
    /// # Errors
    /// A lab file that can't be read or makes no sense, a chart that isn't there.
    pub fn of(workspace: &Workspace, args: &LabArgs) -> Result<Self> {
        let shipped = workspace.root.join(SHIPPED);
        let path = args.lab.clone().unwrap_or_else(|| shipped.clone());
        let mut lab = load::load(&path)?;
        lab.shipped = same_file(&path, &shipped);
        if let Some(chart) = &args.chart {
            let chart = std::path::absolute(chart).with_context(|| format!("chart {}", chart.display()))?;
            lab.spec.target.chart = chart.to_string_lossy().into_owned();
        }
        if !lab.chart().join("Chart.yaml").is_file() {
            return Err(
                BadInput(format!("{} is no chart: it has no Chart.yaml", lab.chart().display())).into()
            );
        }
        Ok(lab)
    }

    /// The shipped lab.
    ///
    /// # Errors
    /// As [`load::load`].
    pub fn shipped(workspace: &Workspace) -> Result<Self> {
        let lab = load::load(&workspace.root.join(SHIPPED))?;
        Ok(Self { shipped: true, ..lab })
    }

    /// The namespace of an experiment.
    pub fn namespace(&self, experiment: &Experiment) -> String {
        format!("{}-{}", self.spec.lab, experiment.id)
    }

    /// The chart's folder, without the detours of a relative path.
    pub fn chart(&self) -> PathBuf {
        let folder = self.path.parent().unwrap_or(Path::new(".")).join(&self.spec.target.chart);
        folder.canonicalize().unwrap_or(folder)
    }

    /// Where its evidence goes. Its page is `docs/<LAB>.md`, where there is one.
    pub fn paths(&self, workspace: &Workspace) -> Paths {
        let page = workspace.root.join("docs").join(format!("{}.md", self.spec.lab.to_uppercase()));
        Paths::of(&workspace.root, &self.spec, page.is_file().then_some(page))
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

fn same_file(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}
