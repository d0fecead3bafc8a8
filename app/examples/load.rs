//! Load for `cargo xtask bench app`: one thread that keeps many connections busy, or the bare disk.
//!
//! An example and not part of xtask, so that it is built optimised and runs as a process of its own.
//! Prints one JSON object.

use std::error::Error;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::epoll;

#[expect(clippy::print_stdout, reason = "it is the result")]
fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let measured = match arguments[..] {
        ["http", address, path, clients, seconds] => {
            http(address.parse()?, path, clients.parse()?, Duration::from_secs_f64(seconds.parse()?))?
        }
        ["disk", folder, seconds] => disk(Path::new(folder), Duration::from_secs_f64(seconds.parse()?))?,
        _ => return Err("usage: load http ADDRESS PATH CLIENTS SECONDS | load disk FOLDER SECONDS".into()),
    };
    println!("{measured}");
    Ok(())
}

/// Every client asks again as soon as it is answered.
fn http(
    address: SocketAddr,
    path: &str,
    clients: usize,
    lasting: Duration,
) -> Result<String, Box<dyn Error>> {
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nAccept: application/json\r\n\r\n").into_bytes();
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
        connection.ask(&request)?;
    }
    while open > 0 {
        events.clear();
        epoll::wait(&poll, spare_capacity(&mut events), None)?;
        for event in events.drain(..) {
            let connection = &mut connections[event.data.u64() as usize];
            if !connection.answered()? {
                continue;
            }
            latencies.push(connection.asked.elapsed());
            // Every question is answered before the end: what was counted can be compared with this.
            match started.elapsed() < lasting {
                true => connection.ask(&request)?,
                false => open -= 1,
            }
        }
    }
    Ok(summary(latencies, started.elapsed()))
}

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

    /// Whether the whole answer is here; anything but a 200 ends the run.
    fn answered(&mut self) -> Result<bool, Box<dyn Error>> {
        let mut bytes = [0; 4096];
        match self.stream.read(&mut bytes) {
            Ok(0) => return Err("the server hung up".into()),
            Ok(length) => self.answer.extend_from_slice(&bytes[..length]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        let Some(end) = self.answer.windows(4).position(|window| window == b"\r\n\r\n") else {
            return Ok(false);
        };
        let head = std::str::from_utf8(&self.answer[..end])?;
        if !head.starts_with("HTTP/1.1 200 ") {
            return Err(head.into());
        }
        let (_, length) = head.split_once("content-length: ").ok_or("no content-length")?;
        let length: usize = length.split("\r\n").next().unwrap_or_default().parse()?;
        let complete = self.answer.len() >= end + 4 + length;
        if complete {
            self.answer.clear();
        }
        Ok(complete)
    }
}

/// What the counter does for each batch, without the counter.
fn disk(folder: &Path, lasting: Duration) -> Result<String, Box<dyn Error>> {
    let (temp, file) = (folder.join("limit.tmp"), folder.join("limit"));
    let directory = File::open(folder)?;
    let mut latencies = Vec::with_capacity(1 << 16);
    let started = Instant::now();
    while started.elapsed() < lasting {
        let cycle = Instant::now();
        let mut writer = File::create(&temp)?;
        writer.write_all(format!("{}\n", latencies.len()).as_bytes())?;
        writer.sync_all()?;
        drop(writer);
        fs::rename(&temp, &file)?;
        directory.sync_all()?;
        latencies.push(cycle.elapsed());
    }
    let whole = started.elapsed();
    fs::remove_file(&file)?;
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
