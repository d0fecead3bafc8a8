//! `explain`: what the rules say of the namespace, asked again until it is what is expected.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::{Value as Json, json};

use ::explain::Trouble;

use crate::look;
use crate::run::bench::Bench;
use machine::paint::Paint;
use model::record::{CommandRecord, millis};
use model::spec::Explain;

/// How long nothing may happen until it is asked again all the same: not all that rules look at is watched.
const PAUSE: Duration = Duration::from_secs(2);
/// Time for what belongs together to happen.
const CALM: Duration = Duration::from_millis(300);

pub(super) async fn explain(step: &Explain, bench: &mut Bench<'_>) -> Result<Json> {
    let end = tokio::time::Instant::now() + Duration::from_secs(step.timeout_s);
    let mut changes = bench.timeline.subscribe();
    loop {
        changes.borrow_and_update();
        let asked = Instant::now();
        let (objects, looked_at) = look::at(&bench.access.client, &bench.namespace).await?;
        let troubles = ::explain::explain(&objects);
        bench.timeline.ledger.cluster(asked, Instant::now());
        if named(&troubles, &step.names) || tokio::time::Instant::now() >= end {
            return Ok(record(bench, &troubles, &looked_at, asked));
        }
        let waited = Instant::now();
        let pause = (tokio::time::Instant::now() + PAUSE).min(end);
        let _ = tokio::time::timeout_at(pause, changes.changed()).await;
        tokio::time::sleep(CALM).await;
        bench.timeline.ledger.cluster(waited, Instant::now());
    }
}

/// Whether just these rules found something.
fn named(troubles: &[Trouble], names: &[String]) -> bool {
    let found = |name: &String| troubles.iter().any(|trouble| trouble.rule == name);
    names.iter().all(found) && troubles.iter().all(|trouble| names.iter().any(|name| name == trouble.rule))
}

/// What expressions see of it; and the command that would have said so, for the page.
fn record(bench: &mut Bench<'_>, troubles: &[Trouble], looked_at: &str, asked: Instant) -> Json {
    let (status, stdout) =
        (i32::from(!troubles.is_empty()), look::told(troubles, looked_at, Paint::none()) + "\n");
    let argv = ["cargo", "xtask", "explain", "--namespace", &bench.namespace].map(str::to_owned);
    bench.commands.push(CommandRecord {
        argv: argv.to_vec(),
        status,
        duration_ms: millis(asked.elapsed()),
        stdout: stdout.clone(),
        stderr: String::new(),
        before: Vec::new(),
    });
    let mut rules: Vec<&str> = troubles.iter().map(|trouble| trouble.rule).collect();
    rules.dedup();
    let says: Vec<&String> = troubles.iter().map(|trouble| &trouble.case.says).collect();
    let mend: Vec<&String> = troubles.iter().flat_map(|trouble| &trouble.case.mend).collect();
    json!({"troubles": rules, "says": says, "mend": mend, "stdout": stdout, "status": status})
}
