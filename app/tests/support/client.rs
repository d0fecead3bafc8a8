//! Blocking clients that know how many answers they got and how many questions they sent.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::PATIENCE;

/// One keep-alive connection.
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(crate) fn visits(&self) -> u64 {
        self.json()["visits"].as_u64().unwrap_or_else(|| panic!("no visits in {self:?}"))
    }
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    pub(crate) fn ask(&mut self, path: &str) -> io::Result<()> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nAccept: application/json\r\n\r\n");
        self.stream.get_mut().write_all(request.as_bytes())
    }

    pub(crate) fn answer(&mut self) -> io::Result<Answer> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if self.stream.read_line(&mut head)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let head = head.to_ascii_lowercase();
        let length =
            head.split_once("content-length: ").and_then(|(_, rest)| rest.lines().next()?.parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        self.stream.read_exact(&mut body)?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or(io::ErrorKind::InvalidData)?;
        Ok(Answer { status, body: String::from_utf8_lossy(&body).into_owned() })
    }

    pub(crate) fn get(&mut self, path: &str) -> io::Result<Answer> {
        self.ask(path)?;
        self.answer()
    }
}

/// One question on a connection of its own.
pub(crate) fn get(address: SocketAddr, path: &str) -> Answer {
    Client::connect(address).and_then(|mut client| client.get(path)).unwrap()
}

/// Many clients that visit as fast as they are answered, until they are told to stop or cut off.
pub(crate) struct Crowd {
    tally: Arc<Tally>,
    clients: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Tally {
    stop: AtomicBool,
    sent: AtomicU64,
    answered: AtomicU64,
    refused: AtomicU64,
    highest: AtomicU64,
}

impl Crowd {
    pub(crate) fn visiting(address: SocketAddr, size: usize) -> Self {
        let tally = Arc::new(Tally::default());
        let clients = (0..size)
            .map(|_| {
                let tally = tally.clone();
                thread::spawn(move || tally.visit(address))
            })
            .collect();
        Self { tally, clients }
    }

    pub(crate) fn answered(&self) -> u64 {
        self.tally.answered.load(Ordering::SeqCst)
    }

    pub(crate) fn refused(&self) -> u64 {
        self.tally.refused.load(Ordering::SeqCst)
    }

    /// Everyone goes home: (sent, answered with a number, the highest number).
    pub(crate) fn leave(self) -> (u64, u64, u64) {
        self.tally.stop.store(true, Ordering::SeqCst);
        for client in self.clients {
            client.join().unwrap();
        }
        let Tally { sent, answered, highest, .. } = &*self.tally;
        (sent.load(Ordering::SeqCst), answered.load(Ordering::SeqCst), highest.load(Ordering::SeqCst))
    }
}

impl Tally {
    fn visit(&self, address: SocketAddr) {
        while !self.stop.load(Ordering::SeqCst) {
            let Ok(mut client) = Client::connect(address) else {
                thread::sleep(Duration::from_millis(1));
                continue;
            };
            while !self.stop.load(Ordering::SeqCst) {
                // Counted before it is sent: a question of which only a part left may still arrive.
                self.sent.fetch_add(1, Ordering::SeqCst);
                match client.get("/") {
                    Ok(answer) if answer.status == 200 => {
                        self.answered.fetch_add(1, Ordering::SeqCst);
                        self.highest.fetch_max(answer.visits(), Ordering::SeqCst);
                    }
                    Ok(_) => {
                        self.refused.fetch_add(1, Ordering::SeqCst);
                    }
                    Err(_) => break,
                }
            }
        }
    }
}
