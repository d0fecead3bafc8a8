//! `visit`: HTTP requests to pods through port-forwards, each pod by itself, side by side.

use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, anyhow};
use futures::FutureExt;
use futures::future::try_join_all;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::api::Api;
use serde_json::{Map, Value as Json, json};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::lab::app::{files_below, number_in_files, whole};
use crate::run::bench::Bench;
use crate::run::steps::inside;
use crate::transient::{self, Pauses};
use machine::advice::advised;
use machine::command::Output;
use model::record::{CommandRecord, millis};
use model::spec::Visit;

/// How long it may take until all requests to a pod are answered.
const DEADLINE: Duration = Duration::from_secs(15);
/// The path that counts, where an app has no other.
const COUNTING: &str = "/";
/// The only path that is known to read.
const READING: &str = "/visits";
/// What is read of an answer.
const BODY_LIMIT: usize = 1 << 20;

pub(super) async fn visit(step: &Visit, bench: &mut Bench<'_>) -> Result<Json> {
    let pods = bench.pods(&step.pods)?;
    let path = bench.text(&step.path)?;
    let app = bench.target.app.clone();
    let (path, counts) = match &app {
        // The lab's words for the page that counts and the one that reads, in those of the app.
        Some(app) if path == COUNTING => (app.counts.clone(), true),
        Some(app) if path == READING => match (&app.reads, &app.file) {
            (Some(reads), _) => (reads.clone(), false),
            (None, Some(file)) => return in_files(&pods, &["cat".to_owned(), file.clone()], bench).await,
            (None, None) => (path, false),
        },
        _ => (path.clone(), counts(step, &path)),
    };
    let number = |answer: &Json| match &app {
        Some(app) => app.number(answer).map_or(Json::Null, Json::from),
        None => count(answer),
    };
    if let Some(seen) = &step.inside {
        return inside::visit(step, seen, bench, number).await;
    }
    let port = bench.target.roles.port.context("the chart names no port that could be visited")?;
    let api: Api<Pod> = Api::namespaced(bench.access.client.clone(), &bench.namespace);
    let timeline = &bench.timeline;
    let visits = pods.iter().enumerate().map(|(position, pod)| {
        let times = step.times_of(position);
        let visits = Visits { api: &api, pod, port, path: &path, counts, times };
        async move {
            let began = Instant::now();
            let answered = visits.answered().await;
            timeline.ledger.cluster(began, Instant::now());
            answered.with_context(|| format!("cannot visit pod {pod}"))
        }
    });
    let visited = try_join_all(visits).await;
    let reads_nothing = |answers: &Answers| answers.0.last().is_none_or(|answer| number(answer).is_null());
    let nothing = visited.as_ref().map_or(true, |visited| visited.iter().any(reads_nothing));
    if !counts && nothing && app.as_ref().is_some_and(|app| app.reads.is_none()) {
        // No page of the app is known to read the number: the file that holds it does.
        let files = files_below(&bench.target.roles.data);
        return in_files(&pods, &files, bench).await;
    }
    let visited = visited?;
    let mut recorded = Map::new();
    for (pod, (answers, commands)) in pods.into_iter().zip(visited) {
        bench.commands.extend(commands);
        let last = answers.last().map_or(Json::Null, number);
        recorded.insert(pod, json!({"answers": answers, "last": last}));
    }
    Ok(Json::Object(recorded))
}

/// The number that lies in a file of each pod, as a command prints it.
async fn in_files(pods: &[String], command: &[String], bench: &mut Bench<'_>) -> Result<Json> {
    let commands: Vec<_> = pods.iter().map(|pod| bench.exec(pod).args(command)).collect();
    let outputs = bench.run_all(commands.clone()).await?;
    let outputs = transient::ended(&commands, outputs, 0).with_context(|| {
        advised(
            "no page and no file is known in which the app tells the number of visits",
            "say it in hand-in.yaml beside the chart, or with --app FILE: README.md, Grade charts",
        )
    })?;
    let read = outputs.into_iter().map(|Output { stdout, .. }| {
        let last = whole(&json!(stdout)).or_else(|| number_in_files(&stdout));
        json!({"answers": [stdout], "last": last})
    });
    let recorded: Map<String, Json> = pods.iter().cloned().zip(read).collect();
    Ok(Json::Object(recorded))
}

/// Requests to one pod.
struct Visits<'a> {
    api: &'a Api<Pod>,
    pod: &'a str,
    port: u16,
    path: &'a str,
    /// Whether a request changes something.
    counts: bool,
    times: u32,
}

type Answers = (Vec<Json>, Vec<CommandRecord>);

/// Why the requests were not all answered.
enum Unanswered {
    /// The connection broke; `sent` when a request was under way that may have been counted.
    Broke { sent: bool, error: Error },
    /// Another attempt would end in the same way.
    Failed(Error),
}

impl Visits<'_> {
    /// Sends them until they are answered. A connection that breaks is opened again as long as no request was under
    /// way: one that was may have been counted, and is sent again only when it merely reads.
    async fn answered(&self) -> Result<Answers> {
        let (mut pauses, mut last, mut before) = (Pauses::default(), None, Vec::new());
        let attempts = async {
            loop {
                match self.attempt().await {
                    Ok((answers, mut commands)) => {
                        if let Some(first) = commands.first_mut() {
                            first.before = before;
                        }
                        return Ok((answers, commands));
                    }
                    Err(Unanswered::Failed(error)) => return Err(error),
                    Err(Unanswered::Broke { sent: true, error }) if self.counts => {
                        return Err(error.context("the connection broke under a request: whether it was counted is not known, and it is not sent again"));
                    }
                    Err(Unanswered::Broke { error, .. }) => {
                        before.push(format!("{error:#}"));
                        last = Some(error);
                    }
                }
                pauses.pause().await;
            }
        };
        let in_time = tokio::time::timeout(DEADLINE, attempts).await;
        in_time.unwrap_or_else(|_| {
            let late = format!("no answer within {} s", DEADLINE.as_secs());
            Err(match last {
                Some(error) => error.context(late),
                None => anyhow!(late),
            })
        })
    }

    /// Opens a port-forward, sends the requests through it, and closes it.
    async fn attempt(&self) -> Result<Answers, Unanswered> {
        let broke = |sent: bool| move |error: Error| Unanswered::Broke { sent, error };
        let mut forward = self.api.portforward(self.pod, &[self.port]).await.map_err(|error| {
            let told = anyhow!("no port-forward to port {}: {}", self.port, transient::told(&error));
            if transient::passes(&error) { broke(false)(told) } else { Unanswered::Failed(told) }
        })?;
        let stream = forward.take_stream(self.port).ok_or_else(|| broke(false)(anyhow!("no stream")))?;
        let complaint = forward.take_error(self.port);
        let answered = self.through(stream).await;
        forward.abort();
        // What the kubelet says about the port tells more than that the stream ended.
        let complaint = complaint.and_then(|complaint| complaint.now_or_never().flatten());
        answered.map_err(|unanswered| match (unanswered, complaint) {
            (Unanswered::Broke { sent, error }, Some(complaint)) => {
                Unanswered::Broke { sent, error: error.context(complaint) }
            }
            (unanswered, _) => unanswered,
        })
    }

    /// Sends the requests one after the other over one connection.
    async fn through(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> Result<Answers, Unanswered> {
        let broke = |sent: bool| move |error: Error| Unanswered::Broke { sent, error };
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| broke(false)(error.into()))?;
        let connection = tokio::spawn(connection);
        let url = format!("http://{}:{}{}", self.pod, self.port, self.path);
        let (mut answers, mut commands) = (Vec::new(), Vec::new());
        for position in 0..self.times {
            let asked = Instant::now();
            let request = hyper::Request::get(self.path)
                .header("host", format!("{}:{}", self.pod, self.port))
                .header("accept", "application/json")
                .body(Empty::<Bytes>::new())
                .map_err(|error| Unanswered::Failed(error.into()))?;
            // After an answer the connection takes a moment until it takes the next request.
            sender.ready().await.map_err(|error| broke(position > 0)(error.into()))?;
            let response = sender.send_request(request).await.map_err(|error| broke(true)(error.into()))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), BODY_LIMIT).collect().await;
            let body = body.map_err(|error| broke(true)(anyhow!("{error}")))?.to_bytes();
            let body = String::from_utf8_lossy(&body).into_owned();
            if !status.is_success() {
                let told = anyhow!("GET {} was answered with {status}: {}", self.path, body.trim_end());
                return Err(Unanswered::Failed(told));
            }
            answers.push(serde_json::from_str(&body).unwrap_or(Json::String(body.clone())));
            commands.push(CommandRecord {
                argv: vec!["GET".to_owned(), url.clone()],
                status: 0,
                duration_ms: millis(asked.elapsed()),
                stdout: body,
                stderr: String::new(),
                before: Vec::new(),
            });
        }
        connection.abort();
        Ok((answers, commands))
    }
}

/// Whether a request of this step changes something. What is not known to read does.
fn counts(step: &Visit, path: &str) -> bool {
    step.counts.unwrap_or(path != READING)
}

/// The count in an answer: a whole number that is all of it, or the `visits` of a JSON object.
fn count(answer: &Json) -> Json {
    whole(answer.get("visits").unwrap_or(answer)).map_or(Json::Null, Json::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_a_whole_answer_or_the_visits_of_one() {
        for (answer, expected) in [
            (json!({"visits": 24, "pod": "counter-0"}), json!(24)),
            (json!(28), json!(28)),
            (json!("007\n"), json!(7)),
            (json!("<h1>Visits: 21</h1>"), Json::Null),
            (json!("<meta charset=utf-8><h1>3</h1>"), Json::Null),
            (json!({"port": 8000}), Json::Null),
            (json!({"visits": "many"}), Json::Null),
            (json!([7]), Json::Null),
            (json!(1.5), Json::Null),
            (json!(-1), Json::Null),
            (json!("+1"), Json::Null),
            (json!(""), Json::Null),
        ] {
            assert_eq!(count(&answer), expected, "{answer}");
        }
    }

    #[test]
    fn what_is_not_known_to_read_counts() {
        let step = |counts: Json| -> Visit { serde_json::from_value(json!({"counts": counts})).unwrap() };
        for path in ["/", "/index.html", "/?again", "/visit", "/visits/new"] {
            assert!(counts(&step(Json::Null), path), "{path}");
        }
        assert!(!counts(&step(Json::Null), "/visits"));
        assert!(!counts(&step(json!(false)), "/count"));
        assert!(counts(&step(json!(true)), "/visits"));
    }
}
