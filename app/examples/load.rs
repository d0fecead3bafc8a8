//! Load for `cargo xtask bench app`: one thread that keeps many connections busy, or the bare disk.
//!
//! An example and not part of xtask, so that it is built optimised and runs as a process of its own.
//! Prints one JSON object.

use std::error::Error;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::epoll;

#[expect(clippy::print_stdout, reason = "it is the result")]
fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let lasting = |seconds: &str| seconds.parse().map(Duration::from_secs_f64);
    let measured = match arguments[..] {
        ["http", address, path, clients, seconds] => {
            let request =
                format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nAccept: application/json\r\n\r\n");
            ask(address.parse()?, request.as_bytes(), http_answer, clients.parse()?, lasting(seconds)?)?
        }
        ["redis", address, command, clients, seconds] => {
            let request = format!("*2\r\n${}\r\n{command}\r\n$6\r\nvisits\r\n", command.len());
            ask(address.parse()?, request.as_bytes(), redis_answer, clients.parse()?, lasting(seconds)?)?
        }
        ["disk", folder, seconds] => disk(Path::new(folder), lasting(seconds)?)?,
        _ => {
            return Err("usage: load http ADDRESS PATH CLIENTS SECONDS | \
                        load redis ADDRESS COMMAND CLIENTS SECONDS | load disk FOLDER SECONDS"
                .into());
        }
    };
    println!("{measured}");
    Ok(())
}

/// Every client asks again as soon as it is answered.
fn ask(
    address: SocketAddr,
    request: &[u8],
    whole: Whole,
    clients: usize,
    lasting: Duration,
) -> Result<String, Box<dyn Error>> {
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut connections = Vec::with_capacity(clients);
    for place in 0..clients {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        epoll::add(&poll, &stream, epoll::EventData::new_u64(place as u64), epoll::EventFlags::IN)?;
        connections.push(Connection { stream, asked: Instant::now(), answer: Vec::with_capacity(4096) });
    }
    let mut latencies = Vec::with_capacity(1 << 20);
    let mut events = Vec::with_capacity(clients);
    let mut open = clients;
    let started = Instant::now();
    for connection in &mut connections {
        connection.ask(request)?;
    }
    while open > 0 {
        events.clear();
        epoll::wait(&poll, spare_capacity(&mut events), None)?;
        for event in events.drain(..) {
            let connection = &mut connections[event.data.u64() as usize];
            if !connection.answered(whole)? {
                continue;
            }
            latencies.push(connection.asked.elapsed());
            // Every question is answered before the end: what was counted can be compared with this.
            match started.elapsed() < lasting {
                true => connection.ask(request)?,
                false => open -= 1,
            }
        }
    }
    Ok(summary(latencies, started.elapsed()))
}

/// Whether this is a whole answer; anything but a good one ends the run.
type Whole = fn(&[u8]) -> Result<bool, Box<dyn Error>>;

struct Connection {
    stream: TcpStream,
    asked: Instant,
    answer: Vec<u8>,
}

impl Connection {
    fn ask(&mut self, request: &[u8]) -> std::io::Result<()> {
        self.asked = Instant::now();
        self.stream.write_all(request)
    }

    fn answered(&mut self, whole: Whole) -> Result<bool, Box<dyn Error>> {
        let mut bytes = [0; 4096];
        match self.stream.read(&mut bytes) {
            Ok(0) => return Err("the server hung up".into()),
            Ok(length) => self.answer.extend_from_slice(&bytes[..length]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        let complete = whole(&self.answer)?;
        if complete {
            self.answer.clear();
        }
        Ok(complete)
    }
}

fn http_answer(answer: &[u8]) -> Result<bool, Box<dyn Error>> {
    let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Ok(false);
    };
    let head = std::str::from_utf8(&answer[..end])?;
    if !head.starts_with("HTTP/1.1 200 ") {
        return Err(head.into());
    }
    let (_, length) = head.split_once("content-length: ").ok_or("no content-length")?;
    let length: usize = length.split("\r\n").next().unwrap_or_default().parse()?;
    Ok(answer.len() >= end + 4 + length)
}

/// `:number` to INCR; `$length`, and the number in a line of its own, to GET.
fn redis_answer(answer: &[u8]) -> Result<bool, Box<dyn Error>> {
    let lines = match answer.first() {
        None => return Ok(false),
        Some(b':') => 1,
        Some(b'$') if !answer.starts_with(b"$-1") => 2,
        _ => return Err(String::from_utf8_lossy(answer).into()),
    };
    Ok(answer.windows(2).filter(|end| end == b"\r\n").count() == lines)
}

/// As little as a durable write can be: a few bytes of a sector that is there already, and a sync.
fn disk(folder: &Path, lasting: Duration) -> Result<String, Box<dyn Error>> {
    let path = folder.join("limit");
    let file = File::create(&path)?;
    file.write_all_at(&[b'\n'; 512], 0)?;
    file.sync_all()?;
    let mut latencies = Vec::with_capacity(1 << 16);
    let started = Instant::now();
    while started.elapsed() < lasting {
        let cycle = Instant::now();
        file.write_all_at(format!("{}\n", latencies.len()).as_bytes(), 0)?;
        file.sync_data()?;
        latencies.push(cycle.elapsed());
    }
    let whole = started.elapsed();
    fs::remove_file(&path)?;
    Ok(summary(latencies, whole))
}

fn summary(mut latencies: Vec<Duration>, whole: Duration) -> String {
    latencies.sort_unstable();
    let at = |part: f64| {
        let place = ((latencies.len() as f64 * part) as usize).min(latencies.len() - 1);
        latencies[place].as_secs_f64() * 1e6
    };
    let seconds = whole.as_secs_f64();
    serde_json::json!({
        "count": latencies.len(),
        "per_s": latencies.len() as f64 / seconds,
        "seconds": seconds,
        "p50_us": at(0.50),
        "p99_us": at(0.99),
        "max_us": at(1.0),
    })
    .to_string()
}
