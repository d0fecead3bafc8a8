//! Clients that are slow, silent, greedy or too many: memory is bounded, and others are served.

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use support::client::{Client, get};
use support::{PATIENCE, Server, until};
use tempfile::TempDir;

const MIB: u64 = 1024;

#[test]
fn ten_thousand_idle_connections_cost_little_and_others_are_served() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap();
    let files = limit.maximum.unwrap_or(u64::MAX);
    let many = 10_000.min(files.saturating_sub(500)) as usize;
    if many < 10_000 {
        eprintln!("only {many} connections: the limit on open files is {files}");
    }
    let volume = TempDir::new().unwrap();
    let server = Server::with(volume.path(), &[("HEADER_TIMEOUT_MS", "60000")]);
    let idle: Vec<TcpStream> = (0..many).map(|_| TcpStream::connect(server.address).unwrap()).collect();
    until("all are accepted", || connections(server.address) > many as u64);
    served_promptly(server.address);
    let silent = server.resident_kib();
    assert!(silent < 32 * MIB, "{silent} KiB for {many} silent connections");

    // Idle after a first question is what browsers and proxies leave behind. In a crowd this large, most are
    // not kept.
    for mut stream in &idle {
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: t\r\n\r\n").unwrap();
    }
    for mut stream in &idle {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut answer = [0; 512];
        assert!(stream.read(&mut answer).unwrap() > 0);
    }
    served_promptly(server.address);
    let idle_kib = server.resident_kib();
    eprintln!("{many} connections: {silent} KiB silent, {idle_kib} KiB idle after an answer");
    assert!(idle_kib < 64 * MIB, "{idle_kib} KiB for {many} idle connections");
}

fn connections(address: SocketAddr) -> u64 {
    let metrics = get(address, "/metrics").body;
    let line = metrics.lines().find(|line| line.starts_with("counter_connections ")).unwrap();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

fn served_promptly(address: SocketAddr) {
    let started = Instant::now();
    assert_eq!(get(address, "/").status, 200);
    assert!(started.elapsed() < Duration::from_secs(2), "a visit took {:?}", started.elapsed());
}

#[test]
fn silent_slow_and_idle_connections_are_closed_in_time() {
    let volume = TempDir::new().unwrap();
    let server = Server::with(volume.path(), &[("HEADER_TIMEOUT_MS", "300")]);
    let silent = TcpStream::connect(server.address).unwrap();
    let mut half = TcpStream::connect(server.address).unwrap();
    half.write_all(b"GET / HTTP/1.1\r\nHost: half").unwrap();
    let mut idle = TcpStream::connect(server.address).unwrap();
    idle.write_all(b"GET /visits HTTP/1.1\r\nHost: idle\r\n\r\n").unwrap();
    // One byte at a time never ends, and never times out if every byte starts the clock again.
    let mut dripping = TcpStream::connect(server.address).unwrap();
    let address = server.address;
    let drip = std::thread::spawn(move || {
        let started = Instant::now();
        dripping.write_all(b"GET / HTTP/1.1\r\nX: ").unwrap();
        while dripping.write_all(b"x").is_ok() {
            assert!(started.elapsed() < PATIENCE, "still listening to a client that drips");
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    for (name, stream) in [("silent", silent), ("half", half), ("idle", idle)] {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut rest = Vec::new();
        (&stream).read_to_end(&mut rest).unwrap_or_else(|error| panic!("{name} is still open: {error}"));
    }
    drip.join().unwrap();
    assert_eq!(get(address, "/visits").visits(), 0, "half a question is no visit");
}

#[test]
fn a_client_that_does_not_read_is_cut_off() {
    let volume = TempDir::new().unwrap();
    let server = Server::with(volume.path(), &[("WRITE_TIMEOUT_MS", "300")]);
    let mut greedy = TcpStream::connect(server.address).unwrap();
    let started = Instant::now();
    // Asks and asks, and never takes an answer: until the server has enough.
    let question = b"GET /metrics HTTP/1.1\r\nHost: t\r\n\r\n".repeat(100);
    greedy.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
    let ended = loop {
        match greedy.write_all(&question) {
            Ok(()) => assert!(started.elapsed() < PATIENCE),
            Err(error) => break error.kind(),
        }
    };
    use std::io::ErrorKind::{BrokenPipe, ConnectionReset};
    assert!(matches!(ended, BrokenPipe | ConnectionReset), "the server still waits: {ended:?}");
    assert!(server.resident_kib() < 32 * MIB, "{} KiB", server.resident_kib());
    served_promptly(server.address);
}

#[test]
fn giant_headers_are_refused() {
    let volume = TempDir::new().unwrap();
    let server = Server::start(volume.path());
    for request in [
        format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(64 << 10)),
        format!("GET /{} HTTP/1.1\r\nHost: t\r\n\r\n", "x".repeat(64 << 10)),
        format!("GET / HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(1000)),
    ] {
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // The server may hang up before it has heard everything.
        let _ = stream.write_all(request.as_bytes());
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    assert_eq!(get(server.address, "/visits").visits(), 0);
    assert!(server.resident_kib() < 32 * MIB);
}

#[test]
fn a_body_is_not_waited_for_and_not_kept() {
    let volume = TempDir::new().unwrap();
    let server = Server::start(volume.path());
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"GET /visits HTTP/1.1\r\nHost: t\r\nContent-Length: 1000000000\r\n\r\n").unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    let mut sent = 0usize;
    while sent < 100 << 20 && stream.write_all(&[b'x'; 1 << 16]).is_ok() {
        sent += 1 << 16;
    }
    assert!(sent < 100 << 20, "the server swallows bodies without end");
    assert!(server.resident_kib() < 32 * MIB);
}

#[test]
fn beyond_the_cap_clients_wait_and_are_served_when_others_leave() {
    let volume = TempDir::new().unwrap();
    let server = Server::with(volume.path(), &[("MAX_CONNECTIONS", "2")]);
    let mut first = Client::connect(server.address).unwrap();
    let mut second = Client::connect(server.address).unwrap();
    assert_eq!(first.get("/").unwrap().visits(), 1);
    assert_eq!(second.get("/").unwrap().visits(), 2);
    let mut third = TcpStream::connect(server.address).unwrap();
    third.write_all(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n").unwrap();
    // Those inside are served as before, and the third is not heard meanwhile.
    for expected in 3..20 {
        assert_eq!(first.get("/").unwrap().visits(), expected);
    }
    drop(second);
    third.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answer = [0; 12];
    third.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    assert_eq!(first.get("/visits").unwrap().visits(), 20);
}
