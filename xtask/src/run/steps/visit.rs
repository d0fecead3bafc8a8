//! `visit`: HTTP requests to pods through real `kubectl port-forward`s, each pod by itself, side by side.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures::future::try_join_all;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde_json::{Map, Value as Json, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::TcpStream;

use crate::command::Command;
use crate::evidence::record::CommandRecord;
use crate::lab::spec::Visit;
use crate::run::bench::Bench;

/// How long a port-forward may take to stand, and a request to be answered.
const DEADLINE: Duration = Duration::from_secs(15);
/// What is read of an answer.
const BODY_LIMIT: usize = 1 << 20;

pub(super) async fn visit(step: &Visit, bench: &mut Bench<'_>) -> Result<Json> {
    let pods = bench.pods(&step.pods)?;
    let path = bench.text(&step.path)?;
    let (tools, timeline) = (&bench.access.tools, &bench.timeline);
    let visits = pods.iter().enumerate().map(|(position, pod)| {
        let times = step.times.get(position).or(step.times.last()).copied().unwrap_or(1);
        let port = bench.target.port;
        let command = bench.kubectl().args(["port-forward", &format!("pod/{pod}"), &format!(":{port}")]);
        let path = &path;
        async move {
            let _turn = tools.acquire().await?;
            let began = Instant::now();
            let visited = tokio::time::timeout(DEADLINE, through(command, path, times)).await;
            timeline.ledger.cluster(began, Instant::now());
            visited
                .map_err(|_| anyhow::anyhow!("no answer within {} s", DEADLINE.as_secs()))
                .and_then(|result| result)
                .with_context(|| format!("cannot visit pod {pod}"))
        }
    });
    let visited = try_join_all(visits).await?;
    let mut recorded = Map::new();
    for (pod, (answers, commands)) in pods.into_iter().zip(visited) {
        bench.commands.extend(commands);
        let last = answers.last().map_or(Json::Null, count);
        recorded.insert(pod, json!({"answers": answers, "last": last}));
    }
    Ok(Json::Object(recorded))
}

/// Opens a port-forward, sends the requests one after the other over one connection, and closes it.
async fn through(command: Command, path: &str, times: u32) -> Result<(Vec<Json>, Vec<CommandRecord>)> {
    let started = Instant::now();
    let mut forward = command.spawn(Stdio::piped(), Stdio::piped())?;
    let mut stdout = BufReader::new(forward.child.stdout.take().context("no stdout pipe")?);
    let mut line = String::new();
    stdout.read_line(&mut line).await?;
    let Some(address) = line.strip_prefix("Forwarding from ").and_then(|rest| rest.split(' ').next()) else {
        let mut complaint = String::new();
        if let Some(stderr) = forward.child.stderr.take() {
            stderr.take(4096).read_to_string(&mut complaint).await?;
        }
        bail!("`{command}` did not stand: {}{}", line.trim_end(), complaint.trim_end());
    };
    let mut commands = vec![CommandRecord {
        argv: command.argv(),
        status: 0,
        duration_ms: millis(started),
        stdout: line.clone(),
        stderr: String::new(),
    }];
    let stream = TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let mut answers = Vec::new();
    for _ in 0..times {
        let asked = Instant::now();
        let request = hyper::Request::get(path)
            .header("host", address)
            .header("accept", "application/json")
            .body(Empty::<Bytes>::new())?;
        // After an answer the connection takes a moment until it takes the next request.
        sender.ready().await.with_context(|| format!("GET {path}"))?;
        let response = sender.send_request(request).await.with_context(|| format!("GET {path}"))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), BODY_LIMIT).collect().await;
        let body = body.map_err(|error| anyhow::anyhow!("GET {path}: {error}"))?.to_bytes();
        let body = String::from_utf8_lossy(&body).into_owned();
        if !status.is_success() {
            bail!("GET {path} was answered with {status}: {}", body.trim_end());
        }
        answers.push(serde_json::from_str(&body).unwrap_or(Json::String(body.clone())));
        commands.push(CommandRecord {
            argv: vec!["GET".to_owned(), format!("http://{address}{path}")],
            status: 0,
            duration_ms: millis(asked),
            stdout: body,
            stderr: String::new(),
        });
    }
    connection.abort();
    Ok((answers, commands))
}

/// The count in an answer: the `visits` of a JSON object, or the first number in a text.
fn count(answer: &Json) -> Json {
    if let Some(visits) = answer.get("visits") {
        return visits.clone();
    }
    let text = answer.as_str().map_or_else(|| answer.to_string(), str::to_owned);
    let digits: String =
        text.chars().skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit).collect();
    digits.parse::<u64>().map_or(Json::Null, Json::from)
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_found_in_json_and_in_text() {
        assert_eq!(count(&json!({"visits": 24, "pod": "counter-0"})), json!(24));
        assert_eq!(count(&json!("<p>Visits: 21</p>")), json!(21));
        assert_eq!(count(&json!(28)), json!(28));
        assert_eq!(count(&json!("none")), Json::Null);
    }
}
