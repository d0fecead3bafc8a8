//! A `visit` from inside the node that a pod was on: it needs neither a network between nodes nor the API server, which
//! may think that the pod is gone.

use anyhow::{Context, Result};
use serde_json::{Map, Value as Json, json};

use crate::run::bench::Bench;
use crate::transient;
use model::condition::text;
use model::spec::Visit;

/// `seen` is the observation that tells where the pods were.
pub(super) async fn visit(
    step: &Visit,
    seen: &str,
    bench: &mut Bench<'_>,
    number: impl Fn(&Json) -> Json,
) -> Result<Json> {
    let nodes = bench.access.nodes.clone().context("nodes are looked into on the lab's own cluster alone")?;
    let port = bench.target.roles.port.context("the chart names no port that could be visited")?;
    let (pods, path) = (bench.pods(&step.pods)?, bench.text(&step.path)?);
    let mut recorded = Map::new();
    for (position, name) in pods.into_iter().enumerate() {
        let pod = &bench.recorded[seen]["pods"][&name];
        let (node, address) = (text(pod, "/spec/nodeName"), text(pod, "/status/podIP"));
        let url = format!("http://{address}:{port}{path}");
        let command = nodes.inside(node).with_context(|| format!("pod {name} as {seen} saw it"))?;
        let command = command.args(["curl", "--silent", "--show-error", "--fail", "--max-time", "5"]).args([
            "--header",
            "accept: application/json",
            &url,
        ]);
        let mut answers = Vec::new();
        for _ in 0..step.times_of(position) {
            let output = bench.run(command.clone()).await?;
            let outputs = transient::ended(std::slice::from_ref(&command), vec![output], 0)?;
            let said = outputs[0].stdout.clone();
            answers.push(serde_json::from_str(&said).unwrap_or(Json::String(said)));
        }
        let last = answers.last().map_or(Json::Null, &number);
        recorded.insert(name, json!({"answers": answers, "last": last}));
    }
    Ok(Json::Object(recorded))
}
