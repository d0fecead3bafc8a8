//! One file per kind of step, all of the same shape: do it, return what expressions shall see of it.

mod install;
mod run;
mod exec;
mod resolve;
mod visit;
mod observe;
mod await_;

use anyhow::Result;
use serde_json::{Value as Json, json};

use crate::lab::spec::Step;
use crate::run::bench::Bench;

/// Does one step and returns what it recorded.
///
/// # Errors
/// What failed, on which object, and what was seen last.
pub async fn perform(step: &Step, bench: &mut Bench<'_>) -> Result<Json> {
    match step {
        Step::Install(step) => install::install(step, bench).await,
        Step::Upgrade(step) => install::install(step, bench).await,
        Step::Uninstall(step) => install::uninstall(step, bench).await,
        Step::Run(step) => run::run(step, bench).await,
        Step::Exec(step) => exec::exec(step, bench).await,
        Step::Resolve(step) => resolve::resolve(step, bench).await,
        Step::Visit(step) => visit::visit(step, bench).await,
        Step::Observe(_) => observe::observe(bench).await,
        Step::Await(step) => await_::await_(step, bench).await,
        Step::Hold(step) => hold(step.seconds, bench).await,
    }
}

/// Lets a window of time pass: what happened in it is judged afterwards, on the timeline.
async fn hold(seconds: u64, bench: &Bench<'_>) -> Result<Json> {
    let from_ms = bench.timeline.now_ms();
    tokio::time::sleep(std::time::Duration::from_secs(seconds)).await;
    let all = bench.timeline.transitions();
    let events: Vec<_> = all.into_iter().filter(|transition| transition.at_ms >= from_ms).collect();
    Ok(json!({"events": events}))
}
