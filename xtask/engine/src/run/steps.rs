//! One file per kind of step, all of the same shape: do it, return what expressions shall see of it.

mod install;
mod run;
mod exec;
mod beside;
mod resolve;
mod inside;
mod visit;
mod observe;
mod explain;
mod mend;
mod await_;
mod node;

use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::{Value as Json, json};

use crate::run::bench::Bench;
use model::expression::{CommandLine, Compiled, Template};
use model::spec::Step;
use model::text::command_line;

/// Does one step and returns what it recorded.
///
/// # Errors
/// What failed, on which object, and what was seen last.
pub(crate) async fn perform(step: &Step, bench: &mut Bench<'_>) -> Result<Json> {
    match step {
        Step::Install(step) => install::install(step, bench).await,
        Step::Upgrade(step) => install::install(step, bench).await,
        Step::Uninstall(step) => install::uninstall(step, bench).await,
        Step::Run(step) => run::run(step, bench).await,
        Step::Exec(step) => exec::exec(step, bench).await,
        Step::Resolve(step) => resolve::resolve(step, bench).await,
        Step::Visit(step) => visit::visit(step, bench).await,
        Step::Observe(_) => observe::observe(bench).await,
        Step::Explain(step) => explain::explain(step, bench).await,
        Step::Mend(step) => mend::mend(step, bench).await,
        Step::Await(step) => await_::await_(step, bench).await,
        Step::Hold(step) => hold(step.seconds, bench).await,
        Step::Node(step) => node::node(step, bench).await,
    }
}

/// What a person who watches is told of a step, and how long it may take: `await ready(pods["counter-0"])`.
///
/// A text that can't be filled in yet is told as it stands: the step itself will say what is wrong with it.
pub(crate) fn told(step: &Step, bench: &Bench<'_>) -> (String, Option<Duration>) {
    let text = |text: &Compiled<Template>| bench.text(text).unwrap_or_else(|_| text.text().to_owned());
    let line = |line: &Compiled<CommandLine>| {
        bench.words(line).map_or_else(|_| line.text().to_owned(), |words| command_line(&words))
    };
    let release = |named: &Option<String>| named.clone().unwrap_or_else(|| bench.target.release.name.clone());
    let pods = |named: &[Compiled<Template>]| match named {
        [] => "every pod".to_owned(),
        named => named.iter().map(text).collect::<Vec<_>>().join(", "),
    };
    let (what, limit_s) = match step {
        Step::Install(step) | Step::Upgrade(step) => (release(&step.release), Some(step.timeout_s)),
        Step::Uninstall(step) => (release(&step.release), Some(step.timeout_s)),
        Step::Run(step) => (line(&step.command), Some(step.timeout_s)),
        Step::Exec(step) => (format!("in {}: {}", pods(&step.pods), line(&step.command)), None),
        Step::Resolve(step) => (format!("{} names in {}", step.names.len(), pods(&step.pods)), None),
        Step::Visit(step) => (format!("{} of {}", text(&step.path), pods(&step.pods)), None),
        Step::Observe(step) => (step.name.clone(), None),
        Step::Explain(step) => (step.name.clone(), Some(step.timeout_s)),
        Step::Mend(step) => (format!("as {} says", step.from), None),
        Step::Await(step) => (step.until.text().to_owned(), Some(step.timeout_s)),
        Step::Hold(step) => (step.name.clone(), Some(step.seconds)),
        Step::Node(step) => {
            let acts: Vec<String> =
                step.acts().map(|(_, key, node)| format!("{key} {}", text(node))).collect();
            (acts.join(", "), None)
        }
    };
    (format!("{} {what}", step.kind()), limit_s.map(Duration::from_secs))
}

/// Lets a window of time pass: what happened in it is judged afterwards, on the timeline.
async fn hold(seconds: u64, bench: &Bench<'_>) -> Result<Json> {
    let (began, from_ms) = (Instant::now(), bench.timeline.now_ms());
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    bench.timeline.ledger.cluster(began, Instant::now());
    let all = bench.timeline.transitions();
    let events: Vec<_> = all.into_iter().filter(|transition| transition.at_ms >= from_ms).collect();
    Ok(json!({"events": events}))
}
