//! What passes by itself: after which failures a read is asked again. The one place that does it.
//!
//! What changes something is done once. When its connection breaks nobody on this side knows whether it was done,
//! and doing it twice would show something else than the lab is there to show.

use std::future::Future;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use tokio::time::{Instant, sleep};

use machine::command::{Command, Output};
use model::verbs;

/// How long a read is asked again until its last error counts.
const PATIENCE: Duration = Duration::from_secs(30);
/// The first pause between two attempts; each is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Pauses between attempts, each twice as long as the one before.
#[derive(Debug)]
pub(crate) struct Pauses {
    next: Duration,
}

impl Default for Pauses {
    fn default() -> Self {
        Self { next: FIRST_PAUSE }
    }
}

impl Pauses {
    /// Lets the next pause pass.
    pub(crate) async fn pause(&mut self) {
        sleep(self.next).await;
        self.next = (self.next * 2).min(LONGEST_PAUSE);
    }

    /// Begins with the shortest again: something went well.
    pub(crate) fn reset(&mut self) {
        *self = Self::default();
    }
}

/// A client that asks once: what is asked again, and when, is decided below.
///
/// # Errors
/// The configuration can't be used.
pub(crate) fn client(mut config: kube::Config) -> kube::Result<kube::Client> {
    config.default_retry = false;
    kube::Client::try_from(config)
}

/// Asks the API server until it answers.
///
/// # Errors
/// What does not pass, at once; what does, when it has not passed in time: then with the error seen last.
pub(crate) async fn read<T, F>(what: &str, ask: impl Fn() -> F) -> Result<T>
where
    F: Future<Output = kube::Result<T>>,
{
    until_answered(what, passes, ask).await
}

/// Asks the API server to change something. Asked again is only what it says it did not take.
///
/// # Errors
/// As [`read`].
pub(crate) async fn once<T, F>(what: &str, ask: impl Fn() -> F) -> Result<T>
where
    F: Future<Output = kube::Result<T>>,
{
    let not_taken = |error: &kube::Error| matches!(error, kube::Error::Api(status) if status.code == 429);
    until_answered(what, not_taken, ask).await
}

/// Whether an error of the API server, or of the way to it, is one that passes by itself: it has too much to do,
/// it failed in itself, or it can't be reached.
pub(crate) fn passes(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => status.code == 429 || status.code >= 500,
        kube::Error::Service(_) | kube::Error::HyperError(_) | kube::Error::ReadEvents(_) => true,
        _ => false,
    }
}

/// Runs a tool. Where its connection broke and it only reads, it is run again; returned are its output and what it
/// complained each time before.
///
/// # Errors
/// When it can't be started or does not end by its deadline.
pub(crate) async fn output(command: &Command) -> Result<(Output, Vec<String>)> {
    let (mut pauses, end) = (Pauses::default(), Instant::now() + PATIENCE);
    let mut before = Vec::new();
    loop {
        let output = command.output().await?;
        if !broke(&output) || !verbs::only_reads(&command.argv()) || Instant::now() >= end {
            return Ok((output, before));
        }
        before.push(output.stderr.trim_end().to_owned());
        pauses.pause().await;
    }
}

/// The error of a tool that ended with a status it should not have. Where the connection broke under one that
/// changes something, it says that nobody knows what came of it.
pub(crate) fn failed(command: &Command, output: Output) -> anyhow::Error {
    let unknown = broke(&output) && !verbs::only_reads(&command.argv());
    let error = anyhow::Error::new(command.failed(output));
    match unknown {
        true => error.context("the connection to the API server broke: whether it was done is not known, and it is not done again"),
        false => error,
    }
}

/// What commands printed, when all of them ended with a status.
///
/// # Errors
/// The first that ended with another.
pub(crate) fn ended(commands: &[Command], outputs: Vec<Output>, status: i32) -> Result<Vec<Output>> {
    match commands.iter().zip(&outputs).find(|(_, output)| output.status != status) {
        Some((command, output)) => Err(failed(command, output.clone())),
        None => Ok(outputs),
    }
}

/// Whether a tool failed because of its connection to the API server, or because that had too much to do.
fn broke(output: &Output) -> bool {
    /// In the words of `kubectl` and of the libraries below it and Helm.
    const COMPLAINTS: [&str; 18] = [
        "connection refused",
        "was refused - did you specify the right host or port?",
        "connection reset by peer",
        "broken pipe",
        "use of closed network connection",
        "connection lost",
        "lost connection to pod",
        "server sent GOAWAY",
        "EOF",
        "i/o timeout",
        "TLS handshake timeout",
        "Unable to connect to the server",
        "error dialing backend",
        "(TooManyRequests)",
        "(InternalError)",
        "(ServiceUnavailable)",
        "(ServerTimeout)",
        "(Timeout)",
    ];
    // Said by `kubectl exec` when the program inside the pod came to its own end.
    let ended_inside = output.stderr.contains("command terminated with exit code");
    output.status != 0
        && !ended_inside
        && COMPLAINTS.iter().any(|complaint| output.stderr.contains(complaint))
}

async fn until_answered<T, F>(
    what: &str,
    again: impl Fn(&kube::Error) -> bool,
    ask: impl Fn() -> F,
) -> Result<T>
where
    F: Future<Output = kube::Result<T>>,
{
    let (mut pauses, end) = (Pauses::default(), Instant::now() + PATIENCE);
    loop {
        match ask().await {
            Err(error) if again(&error) && Instant::now() < end => pauses.pause().await,
            Err(error) if again(&error) => {
                bail!("cannot {what}, asked for {} s: {}", PATIENCE.as_secs(), told(&error))
            }
            answer => return answer.map_err(|error| anyhow!("cannot {what}: {}", told(&error))),
        }
    }
}

/// An error in the API server's own words, or with all the causes that its sentence leaves out.
pub(crate) fn told(error: &kube::Error) -> String {
    if let kube::Error::Api(status) = error {
        return format!("{} {}", status.code, status.message).trim_end().to_owned();
    }
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        let says = next.to_string();
        if !text.contains(&says) {
            text = format!("{text}: {says}");
        }
        cause = next.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::api::{Api, ListParams, ObjectMeta, PostParams};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    const TOO_MANY: &str = "429 Too Many Requests";
    const LIST: &str = r#"{"kind":"ConfigMapList","apiVersion":"v1","metadata":{},"items":[]}"#;
    const MADE: &str = r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"made"}}"#;

    /// A server that gives one answer after the other, each on a connection of its own, and the last for ever; an
    /// empty one drops the connection. Beside it how many requests there were.
    async fn server(answers: &[(&'static str, &'static str)]) -> (kube::Client, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let (asked, answers) = (Arc::new(AtomicUsize::new(0)), answers.to_vec());
        let count = Arc::clone(&asked);
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).await;
                let place = count.fetch_add(1, Ordering::SeqCst).min(answers.len() - 1);
                let (status, body) = answers[place];
                if !status.is_empty() {
                    let head = format!(
                        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                        body.len()
                    );
                    let _ = stream.write_all((head + body).as_bytes()).await;
                }
            }
        });
        (super::client(kube::Config::new(url)).unwrap(), asked)
    }

    fn config_maps(client: &kube::Client) -> Api<ConfigMap> {
        Api::namespaced(client.clone(), "lab")
    }

    #[tokio::test]
    async fn a_read_survives_refusals_faults_and_a_dropped_connection() {
        let (client, asked) =
            server(&[(TOO_MANY, ""), ("500 Internal Server Error", ""), ("", ""), ("200 OK", LIST)]).await;
        let (maps, all) = (config_maps(&client), ListParams::default());
        assert!(read("list", || maps.list(&all)).await.unwrap().items.is_empty());
        assert_eq!(asked.load(Ordering::SeqCst), 4);
    }

    #[tokio::test]
    async fn a_read_that_is_refused_for_good_is_asked_once() {
        let (client, asked) = server(&[("403 Forbidden", "")]).await;
        let (maps, all) = (config_maps(&client), ListParams::default());
        let error = read("list config maps", || maps.list(&all)).await.unwrap_err();
        assert!(format!("{error:#}").starts_with("cannot list config maps: "), "{error:#}");
        assert_eq!(asked.load(Ordering::SeqCst), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_that_never_succeeds_ends_with_the_error_seen_last() {
        let answers = || async { Err::<(), _>(kube::Error::ReadEvents(std::io::Error::other("no route"))) };
        let error = read("list pods", answers).await.unwrap_err();
        assert_eq!(
            format!("{error:#}"),
            "cannot list pods, asked for 30 s: Error reading events stream: no route"
        );
    }

    #[tokio::test]
    async fn a_change_is_asked_for_again_only_when_it_was_not_taken() {
        let (client, asked) = server(&[(TOO_MANY, ""), ("201 Created", MADE)]).await;
        let made = ConfigMap {
            metadata: ObjectMeta { name: Some("made".into()), ..Default::default() },
            ..Default::default()
        };
        let (maps, params) = (config_maps(&client), PostParams::default());
        once("make it", || maps.create(&params, &made)).await.unwrap();
        assert_eq!(asked.load(Ordering::SeqCst), 2);

        for broken in [("503 Service Unavailable", ""), ("", "")] {
            let (client, asked) = server(&[broken, ("201 Created", MADE)]).await;
            let maps = config_maps(&client);
            once("make it", || maps.create(&params, &made)).await.unwrap_err();
            assert_eq!(asked.load(Ordering::SeqCst), 1);
        }
    }

    fn tool(folder: &std::path::Path, script: &str) -> Command {
        use std::os::unix::fs::PermissionsExt;
        let program = folder.join("kubectl");
        // Complains as often as there are files to take away.
        let text = format!("#!/bin/sh\ncd {}\n{script}\n", folder.display());
        std::fs::write(&program, text).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        Command::new(program)
    }

    const REFUSED_ONCE: &str = "echo asked >> asked; test $(wc -l < asked) -gt 1 || { echo 'dial tcp: connection refused' >&2; exit 1; }; echo done";

    #[tokio::test]
    async fn a_tool_that_reads_is_run_again_and_what_it_complained_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let command = tool(folder.path(), REFUSED_ONCE).args(["get", "pods"]);
        let (output, before) = output(&command).await.unwrap();
        assert_eq!((output.status, output.stdout.as_str()), (0, "done\n"));
        assert_eq!(before, ["dial tcp: connection refused"]);
    }

    #[tokio::test]
    async fn a_tool_that_changes_something_is_run_once_and_its_broken_connection_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let command = tool(folder.path(), REFUSED_ONCE).args(["delete", "pod", "counter-0"]);
        let (output, before) = output(&command).await.unwrap();
        assert_eq!((output.status, before.len()), (1, 0));
        let error = format!("{:#}", failed(&command, output));
        assert!(
            error.starts_with("the connection to the API server broke: whether it was done is not known"),
            "{error}"
        );
        assert!(error.contains("connection refused"), "{error}");
    }

    #[test]
    fn what_failed_inside_a_pod_is_no_broken_connection() {
        let output = |stderr: &str| Output {
            status: 1,
            stdout: String::new(),
            stderr: stderr.to_owned(),
            duration: Duration::ZERO,
        };
        assert!(broke(&output("error: websocket: close 1006 (abnormal closure): unexpected EOF")));
        assert!(!broke(&output("wget: connection refused\ncommand terminated with exit code 1")));
        assert!(!broke(&output("Error from server (NotFound): pods \"counter-9\" not found")));
    }
}
