//! What the process writes on standard output.

mod support;

use rustix::process::Signal;
use support::Server;
use support::client::get;
use tempfile::TempDir;

/// The log of a process that was asked three questions, and ended.
fn log_of_three_requests(level: &str) -> Vec<serde_json::Value> {
    let volume = TempDir::new().unwrap();
    let mut server = Server::with(volume.path(), &[("LOG", level)]);
    for path in ["/", "/visits", "/made-up"] {
        get(server.address, path);
    }
    server.signal(Signal::TERM);
    server.logged("the last visit is on disk");
    let lines = server.lines();
    lines.iter().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

#[test]
fn every_request_is_one_line_at_debug() {
    let log = log_of_three_requests("debug");
    let requests: Vec<_> = log.iter().filter(|line| line["message"] == "answered").collect();
    let told = requests.iter().map(|line| {
        assert_eq!((&line["level"], &line["method"]), (&"DEBUG".into(), &"GET".into()), "{line}");
        assert!(line["timestamp"].is_string() && line["took_us"].is_u64(), "{line}");
        (line["route"].as_str().unwrap(), line["status"].as_u64().unwrap())
    });
    // A stranger's path is not repeated.
    assert_eq!(told.collect::<Vec<_>>(), [("/", 200), ("/visits", 200), ("other", 404)]);
}

#[test]
fn requests_are_not_logged_at_info() {
    let log = log_of_three_requests("info");
    let messages: Vec<_> = log.iter().map(|line| line["message"].as_str().unwrap()).collect();
    assert_eq!(messages, ["listening", "shutting down: no longer ready", "the last visit is on disk"]);
}
