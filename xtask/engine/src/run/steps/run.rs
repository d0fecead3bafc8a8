//! `run`: a `kubectl` or `helm` command line, captured.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde_json::Value as Json;

use crate::run::bench::{Bench, seen};
use crate::run::wait::Act;
use crate::transient;
use model::spec::Run;
use model::verbs;

pub(super) async fn run(step: &Run, bench: &mut Bench<'_>) -> Result<Json> {
    let words = bench.words(&step.command)?;
    let command = match words.split_first() {
        Some((tool, args)) if tool == "kubectl" => bench.kubectl().args(args),
        Some((tool, args)) if tool == "helm" => bench.helm().args(args),
        _ => bail!("`{}`: only kubectl and helm can be run", step.command.text()),
    };
    let command = command.deadline(Duration::from_secs(step.timeout_s));
    let began = Instant::now();
    let output = bench.run(command.clone()).await?;
    let ended = Instant::now();
    if output.status != step.status && !step.may_fail {
        return Err(transient::failed(&command, output));
    }
    if !verbs::only_reads(&command.argv()) {
        // It may have changed what the next condition looks at.
        bench.act = Act { began, ended };
        bench.settle().await?;
    }
    Ok(seen(&output))
}
