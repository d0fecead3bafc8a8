//! `resolve`: names asked for with `nslookup` inside pods, with the addresses read off the answers.

use anyhow::Result;
use serde_json::{Map, Value as Json, json};

use super::beside;
use crate::run::bench::Bench;
use machine::command::Command;
use model::spec::Resolve;

pub(super) async fn resolve(step: &Resolve, bench: &mut Bench<'_>) -> Result<Json> {
    let pods = bench.pods(&step.pods)?;
    let names = step.names.iter().map(|name| bench.text(name)).collect::<Result<Vec<_>>>()?;
    let record = step.record.iter().map(|record| format!("-type={record}"));
    let lookups: Vec<(&String, &String)> =
        pods.iter().flat_map(|pod| names.iter().map(move |name| (pod, name))).collect();
    let asked = |exec: &dyn Fn(&str) -> Command| {
        let ask = |(pod, name): &(&String, &String)| exec(pod).arg("nslookup").args(record.clone()).arg(name);
        lookups.iter().map(ask).collect::<Vec<_>>()
    };
    let mut outputs = bench.run_all(asked(&|pod| bench.exec(pod))).await?;
    if outputs.iter().any(beside::is_missing) && beside::put(&pods, bench).await? {
        outputs = bench.run_all(asked(&|pod| beside::exec(pod, bench))).await?;
    }
    let mut recorded = Map::new();
    for ((pod, name), output) in lookups.into_iter().zip(outputs) {
        let by_name = recorded.entry(pod.clone()).or_insert_with(|| json!({}));
        by_name[name.as_str()] = json!({
            "addresses": addresses(&output.stdout),
            "status": output.status,
            "stdout": output.stdout,
        });
    }
    Ok(Json::Object(recorded))
}

/// The addresses of an answer, sorted: those after the first `Name:`, for the server's own stands before it.
fn addresses(answer: &str) -> Vec<String> {
    let lines = answer.lines().skip_while(|line| !line.starts_with("Name:"));
    let mut found: Vec<String> = lines
        .filter_map(|line| line.strip_prefix("Address"))
        .filter_map(|line| line.split_once(':'))
        // busybox of older days numbers them: `Address 1: 10.244.0.5 counter-0…`
        .filter_map(|(_, rest)| rest.split_whitespace().next().map(str::to_owned))
        .collect();
    found.sort();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_own_address_is_no_answer() {
        let answer = "Server:\t\t10.96.0.10\nAddress:\t10.96.0.10:53\n\nName:\tcounter-1.counter-headless\nAddress: 10.244.0.7\n\n";
        assert_eq!(addresses(answer), ["10.244.0.7"]);
        assert!(
            addresses("Server:\t10.96.0.10\nAddress:\t10.96.0.10:53\n\n** server can't find x: NXDOMAIN\n")
                .is_empty()
        );
    }

    #[test]
    fn several_addresses_are_sorted_and_counted_once() {
        let answer = "Server:\t1.1.1.1\n\nName:\tx\nAddress: 10.0.0.9\nName:\tx\nAddress: 10.0.0.2\nName:\tx\nAddress: 10.0.0.2\n";
        assert_eq!(addresses(answer), ["10.0.0.2", "10.0.0.9"]);
    }
}
