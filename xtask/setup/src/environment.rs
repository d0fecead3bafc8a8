//! Everything the lab needs of the machine, found and fit.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use machine::cache;
use machine::command::Command;
use machine::container::Engine;
use machine::tools::Tool;
use machine::workspace::Workspace;
use node_image::NodeImage;

use crate::requirement::Need;
use crate::survey::Survey;

/// What makes the lab's own cluster.
#[derive(Debug, Clone)]
pub struct Kind {
    /// kind itself.
    pub tool: Tool,
    /// What runs the node.
    pub engine: Engine,
    /// What the node is.
    pub node_image: NodeImage,
}

impl Kind {
    /// kind, told to use this engine.
    pub fn command(&self) -> Command {
        self.engine.settings(Command::new(&self.tool.path))
    }
}

/// Everything the lab needs of the machine, found and fit.
#[derive(Debug, Clone)]
pub struct Environment {
    /// Talks to the cluster.
    pub kubectl: Tool,
    /// Installs the chart.
    pub helm: Tool,
    kind: Option<Kind>,
}

impl Environment {
    /// What makes the lab's own cluster.
    ///
    /// # Errors
    /// The environment was made for a cluster that is there.
    pub fn kind(&self) -> Result<&Kind> {
        self.kind.as_ref().context("no cluster of our own was asked for")
    }

    /// Marks all of it that lies in the cache as used now.
    pub(crate) fn mark_used(&self, workspace: &Workspace) {
        let tools = workspace.cache.join("tools");
        let kind = self.kind.as_ref();
        let named = [
            ("kubectl", Some(&self.kubectl)),
            ("helm", Some(&self.helm)),
            ("kind", kind.map(|kind| &kind.tool)),
        ];
        for (name, tool) in named {
            let inside = tool.and_then(|tool| tool.path.strip_prefix(&tools).ok()?.iter().next());
            if let Some(folder) = inside {
                cache::used(&tools.join(folder), name);
            }
        }
        if let Some(kind) = kind {
            kind.node_image.mark_used(workspace);
        }
    }

    /// What a survey found, when that is all.
    pub(crate) fn of(survey: &Survey, need: Need) -> Option<Self> {
        let kind = match need {
            Need::Tools => None,
            Need::OwnCluster => Some(Kind {
                tool: survey.kind.tool.clone()?,
                engine: survey.engine.as_ref().ok()?.clone()?,
                node_image: survey.node_image.clone()?,
            }),
        };
        Some(Self { kubectl: survey.kubectl.tool.clone()?, helm: survey.helm.tool.clone()?, kind })
    }

    /// Versions of the tools and of the node image, for the record of a run.
    pub fn versions(&self) -> BTreeMap<String, String> {
        let mut versions = BTreeMap::from([
            ("kubectl".to_owned(), self.kubectl.version.to_string()),
            ("helm".to_owned(), self.helm.version.to_string()),
        ]);
        if let Some(kind) = &self.kind {
            versions.insert("kind".to_owned(), kind.tool.version.to_string());
            versions.insert("engine".to_owned(), format!("{} {}", kind.engine.name(), kind.engine.version));
            versions.insert("node-image".to_owned(), kind.node_image.reference.clone());
        }
        versions
    }

    pub(crate) fn describe(&self) -> String {
        let mut text = format!("kubectl {}, helm {}", self.kubectl.version, self.helm.version);
        if let Some(kind) = &self.kind {
            text =
                format!("{} {}, kind {}, {text}", kind.engine.name(), kind.engine.version, kind.tool.version);
        }
        text
    }
}
