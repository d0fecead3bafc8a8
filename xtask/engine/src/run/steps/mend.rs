//! `mend`: the commands that `explain` printed, run as it printed them.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value as Json, json};

use crate::run::bench::Bench;
use crate::run::wait::Act;
use crate::transient;
use machine::command::Command;
use model::expression::Template;
use model::spec::Mend;
use model::verbs;

/// Hands a command the word behind it to read, as a shell does.
const HERE: &str = "<<<";

pub(super) async fn mend(step: &Mend, bench: &mut Bench<'_>) -> Result<Json> {
    let printed = bench.recorded[&step.from]["mend"].as_array().cloned().unwrap_or_default();
    ensure!(!printed.is_empty(), "`{}` printed no command that mends anything", step.from);
    let (mut stdout, mut stderr) = (String::new(), String::new());
    let began = Instant::now();
    for line in printed {
        let line = line.as_str().unwrap_or_default();
        let (words, input) = parts(line, &bench.namespace)?;
        let tool = if words[0] == "helm" { bench.helm() } else { bench.kubectl() };
        let command = tool.args(&words[1..]).deadline(Duration::from_secs(step.timeout_s));
        let command = input.into_iter().fold(command, Command::input);
        let output = bench.run(command.clone()).await?;
        if let Some(entered) = bench.commands.last_mut() {
            // As it was printed, with what it reads.
            entered.argv = shell_words::split(line).context("a quote is never closed")?;
        }
        if output.status != 0 {
            return Err(transient::failed(&command, output));
        }
        stdout += &output.stdout;
        stderr += &output.stderr;
    }
    bench.act = Act { began, ended: Instant::now() };
    bench.settle().await?;
    Ok(json!({"status": 0, "stdout": stdout, "stderr": stderr}))
}

/// The words of a printed command without its namespace, which is ours, and what it reads. What a lab may not run it
/// may not run because a rule says so either.
fn parts(line: &str, namespace: &str) -> Result<(Vec<String>, Option<String>)> {
    let mut words = shell_words::split(line).context("a quote is never closed")?;
    let mut input = None;
    if words.len() > 2 && words[words.len() - 2] == HERE {
        input = words.pop();
        words.pop();
    }
    let ours = words.get(1).is_some_and(|word| word == "--namespace")
        && words.get(2).is_some_and(|it| it == namespace);
    ensure!(ours, "`{line}` is not about the experiment's namespace");
    words.drain(1..3);
    let templates: Vec<Template> = words.iter().map(|word| Template::plain(word)).collect();
    if let Some(refusal) = verbs::refusal(&templates, false) {
        bail!("`{line}`: {}", refusal.says);
    }
    Ok((words, input))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_printed_command_is_run_where_the_experiment_is_and_nowhere_else() {
        let (words, input) =
            parts("kubectl --namespace shop apply --filename - <<< '{\"a\": 1}'", "shop").unwrap();
        assert_eq!(
            (words.join(" "), input.as_deref()),
            ("kubectl apply --filename -".to_owned(), Some("{\"a\": 1}"))
        );
        for (line, says) in [
            ("kubectl --namespace other delete pod web-0", "is not about the experiment's namespace"),
            ("kubectl delete pod web-0", "is not about the experiment's namespace"),
            ("kubectl --namespace shop delete pod web-0 --namespace other", "no lab may say `--namespace`"),
            (
                "kubectl --namespace shop patch persistentvolume pv --patch '{}'",
                "belongs to the whole cluster",
            ),
            ("sh --namespace shop -c id", "only kubectl and helm can be run"),
        ] {
            let error = parts(line, "shop").unwrap_err().to_string();
            assert!(error.contains(says), "{line}: {error}");
        }
    }
}
