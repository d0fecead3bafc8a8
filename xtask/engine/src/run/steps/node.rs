//! `node`: a node of the lab's own cluster is broken, or mended.

use anyhow::{Context, Result, ensure};
use serde_json::Value as Json;

use crate::run::bench::{Bench, seen};
use crate::transient;
use model::spec::NodeStep;

pub(super) async fn node(step: &NodeStep, bench: &mut Bench<'_>) -> Result<Json> {
    let nodes = bench.access.nodes.clone().context("nodes are broken on the lab's own cluster alone")?;
    let (act, _, node) = step.acts().next().context("nothing is to be done to a node")?;
    let node = bench.text(node)?;
    ensure!(!node.is_empty(), "the pod has no node");
    let command = nodes.command(act, &node)?;
    let output = bench.run(command.clone()).await?;
    let outputs = transient::ended(&[command], vec![output], 0)?;
    Ok(seen(&outputs[0]))
}
