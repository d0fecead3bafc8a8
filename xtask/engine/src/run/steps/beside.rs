//! A shell of ours beside an app whose image has none: an ephemeral container in its pod, which has the pod's network.
//! <https://kubernetes.io/docs/concepts/workloads/pods/ephemeral-containers/>

use anyhow::Result;
use serde_json::Value as Json;

use crate::run::bench::Bench;
use machine::command::{Command, Output};
use model::kinds::Kind;

/// What it is called in the pod.
const CONTAINER: &str = "statefulset-lab";
/// How long it may take to start: its image is in the node.
const STARTS_S: u64 = 30;

/// Whether a command could not begin because the container has no such program.
pub(super) fn is_missing(output: &Output) -> bool {
    let told = |words: &str| output.stderr.contains(words);
    [126, 127].contains(&output.status)
        || output.status != 0 && (told("executable file not found") || told("no such file or directory"))
}

/// Puts the shell into pods of somebody else's chart. False where there is none to be had.
///
/// # Errors
/// It does not start.
pub(super) async fn put(pods: &[String], bench: &mut Bench<'_>) -> Result<bool> {
    let Some(image) = bench.target.release.adapt.as_ref().and_then(|adapt| adapt.shell.clone()) else {
        return Ok(false);
    };
    let debug = |pod: &String| {
        let debug = bench.kubectl().args(["debug", pod.as_str(), "--profile=restricted", "--quiet"]);
        debug
            .arg(format!("--image={image}"))
            .arg("--image-pull-policy=IfNotPresent")
            .arg(format!("--container={CONTAINER}"))
            .args(["--", "tail", "-f", "/dev/null"])
    };
    let runs = |pod: &String| {
        bench.kubectl().arg("wait").arg(format!("pod/{pod}")).args([
            "--for=jsonpath={.status.ephemeralContainerStatuses[0].state.running.startedAt}".to_owned(),
            format!("--timeout={STARTS_S}s"),
        ])
    };
    let known = bench.timeline.objects(Kind::Pod);
    let has = |pod: &Json| {
        let mut beside = pod["spec"]["ephemeralContainers"].as_array().into_iter().flatten();
        beside.any(|container| container["name"] == CONTAINER)
    };
    let lack = pods.iter().filter(|pod| !known.get(*pod).is_some_and(has));
    let (put, runs): (Vec<Command>, Vec<Command>) = lack.map(|pod| (debug(pod), runs(pod))).unzip();
    for commands in [put, runs] {
        bench.run_all_to(commands, 0).await?;
    }
    bench.adapted([
        "the image of the app has no nslookup: names are asked for in a container of the lab's beside it"
            .to_owned(),
    ]);
    Ok(true)
}

/// `kubectl exec` in that container.
pub(super) fn exec(pod: &str, bench: &Bench<'_>) -> Command {
    bench.kubectl().args(["exec", pod, "--container", CONTAINER, "--"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_not_there_is_told_from_one_that_fails() {
        let output = |status: i32, stderr: &str| Output {
            status,
            stdout: String::new(),
            stderr: stderr.to_owned(),
            duration: std::time::Duration::ZERO,
        };
        let missing =
            "error: Internal error occurred: exec: \"nslookup\": executable file not found in $PATH";
        assert!(is_missing(&output(1, missing)) && is_missing(&output(127, "")));
        assert!(
            !is_missing(&output(1, "** server can't find web-1: NXDOMAIN"))
                && !is_missing(&output(0, missing))
        );
    }
}
