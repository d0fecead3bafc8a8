//! The declared lab: its file as types, its expressions, its conditions, and the chart it is about.

pub mod spec;
pub mod load;
pub mod expression;
pub mod condition;
pub mod target;

use std::path::PathBuf;

use anyhow::Result;

use crate::exit::BadInput;
use crate::lab::spec::{Experiment, LabSpec};

/// A lab that was loaded and found sound.
#[derive(Debug, Clone)]
pub struct Lab {
    /// The file it was read from.
    pub path: PathBuf,
    /// What the file says.
    pub spec: LabSpec,
}

impl Lab {
    /// The namespace of an experiment.
    pub fn namespace(&self, experiment: &Experiment) -> String {
        format!("{}-{}", self.spec.lab, experiment.id)
    }

    /// The chart's folder.
    pub fn chart(&self) -> PathBuf {
        self.path
            .parent()
            .unwrap_or(std::path::Path::new("."))
            .join(&self.spec.target.chart)
    }

    /// The experiments with these ids, or all of them when none is named.
    ///
    /// # Errors
    /// A name that no experiment has.
    pub fn choose(&self, only: &[String]) -> Result<Vec<&Experiment>> {
        let all = &self.spec.experiments;
        for name in only {
            if !all.iter().any(|experiment| experiment.id == *name) {
                let ids: Vec<&str> = all.iter().map(|experiment| experiment.id.as_str()).collect();
                let hint = load::nearest(name, &ids)
                    .map(|near| format!(" (did you mean `{near}`?)"))
                    .unwrap_or_default();
                let known = ids.join(", ");
                return Err(BadInput(format!(
                    "no experiment is called `{name}`{hint}\n  there are: {known}"
                ))
                .into());
            }
        }
        Ok(all
            .iter()
            .filter(|experiment| only.is_empty() || only.contains(&experiment.id))
            .collect())
    }
}
