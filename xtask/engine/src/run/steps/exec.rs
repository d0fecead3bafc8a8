//! `exec`: a command inside pods, side by side, recorded by pod.

use anyhow::Result;
use serde_json::{Map, Value as Json};

use crate::run::bench::{Bench, seen};
use model::spec::Exec;

pub(super) async fn exec(step: &Exec, bench: &mut Bench<'_>) -> Result<Json> {
    let words = bench.words(&step.command)?;
    let pods = bench.pods(&step.pods)?;
    let commands = pods.iter().map(|pod| bench.exec(pod).args(&words)).collect();
    let outputs = bench.run_all_to(commands, step.status).await?;
    let recorded: Map<String, Json> = pods.into_iter().zip(outputs.iter().map(seen)).collect();
    Ok(Json::Object(recorded))
}
