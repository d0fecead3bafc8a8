//! `await`: until an expression over the watched objects is true.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use serde_json::{Value as Json, json};

use crate::run::bench::Bench;
use crate::run::wait::Wait;
use model::spec::Await;

pub(super) async fn await_(step: &Await, bench: &Bench<'_>) -> Result<Json> {
    let expression = step.until.get().map_err(|fault| anyhow!("`{}`: {fault}", step.until.text()))?;
    let last_seen = || {
        let parts = expression.parts(&bench.scope(expression));
        parts.iter().map(|seen| format!("{} = {}", seen.part, seen.value)).collect::<Vec<_>>().join("; ")
    };
    let condition = || expression.is_true(&bench.scope(expression));
    let deadline = Duration::from_secs(step.timeout_s);
    let what = format!("`{}`", step.until.text().trim());
    let (timeline, since, act) = (&bench.timeline, Instant::now(), Some(bench.act));
    Wait { timeline, what: &what, since, deadline, act }.until(condition, last_seen).await?;
    Ok(json!({}))
}
