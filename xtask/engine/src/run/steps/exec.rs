//! `exec`: a command inside pods, side by side, recorded by pod.

use anyhow::Result;
use serde_json::{Map, Value as Json};

use crate::run::bench::{Bench, seen};
use crate::transient;
use model::spec::Exec;

pub(super) async fn exec(step: &Exec, bench: &mut Bench<'_>) -> Result<Json> {
    let words = bench.words(&step.command)?;
    let pods = bench.pods(&step.pods)?;
    let commands: Vec<_> = pods.iter().map(|pod| bench.exec(pod).args(&words)).collect();
    let outputs = bench.run_all(commands.clone()).await?;
    let mut recorded = Map::new();
    for ((pod, command), output) in pods.into_iter().zip(commands).zip(outputs) {
        if output.status != step.status {
            return Err(transient::failed(&command, output));
        }
        recorded.insert(pod, seen(&output));
    }
    Ok(Json::Object(recorded))
}
