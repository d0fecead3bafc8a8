//! Connections: how many, how slow they may be, and how they end.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use prometheus_client::metrics::gauge::Gauge;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tokio_io_timeout::TimeoutStream;

use crate::routes::App;
use crate::settings::{Limits, Settings};
use crate::shutdown;

/// Headers of a request; hyper's smallest.
const MAX_HEADER_BYTES: usize = 8192;
/// With more connections than this, each is closed after one answer: an idle one that has spoken holds
/// 12 KiB of buffers, a silent one 1.4 KiB.
const KEPT_ALIVE: i64 = 1024;
/// Connections the kernel keeps for us before we accept them; it may keep fewer (`somaxconn`).
const WAITING_ROOM: u32 = 4096;
/// Files the process needs besides connections.
const OTHER_FILES: u64 = 64;
/// Answers in flight get this long after the drain; what is left then is a client that does not read.
const LAST_ANSWERS: Duration = Duration::from_millis(500);
/// The last batch gets this long; only a disk that hangs needs more.
const LAST_WRITE: Duration = Duration::from_millis(250);

/// Serves until SIGTERM or Ctrl-C, then drains: readiness goes first, then the listener, then idle
/// connections; requests in flight are answered, and the last batch is on disk before this returns.
///
/// # Errors
/// [`ServeError`] when the process cannot start to serve.
pub fn run(settings: &Settings, router: Router, app: &App) -> Result<(), ServeError> {
    // One thread serves; the counter has its own to write. A request is so little work that sharing it out
    // among more threads takes half as much processor time again.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| ServeError { step: "start the runtime".to_owned(), source })?;
    let served = runtime.block_on(async {
        let served = serve(settings, router, app).await;
        if timeout(LAST_WRITE, app.counter.close()).await.is_err() {
            tracing::error!("the disk hangs: visits that wait for it were neither answered nor counted");
        }
        served
    });
    // A task that still waits for its client does not keep the process.
    runtime.shutdown_background();
    served
}

async fn serve(settings: &Settings, router: Router, app: &App) -> Result<(), ServeError> {
    let limits = Arc::new(settings.limits.clone());
    let failed = |step: String| move |source| ServeError { step, source };
    let asked_to_stop = shutdown::requested().map_err(failed("handle signals".to_owned()))?;
    let listener = listen(settings.listen).map_err(failed(format!("listen on {}", settings.listen)))?;
    let address = listener.local_addr().map_err(failed("read the listener's address".to_owned()))?;
    let places = allowed_connections(limits.connections);
    tracing::info!(%address, visits = app.counter.read(), connections = places, "listening");

    let (stop, stopped) = watch::channel(false);
    let door = Arc::new(Semaphore::new(places));
    let accepting =
        tokio::spawn(accept(listener, door.clone(), router, app.clone(), limits.clone(), stopped));

    let signal = asked_to_stop.await;
    app.readiness.drain();
    tracing::info!(signal, drain_ms = limits.drain.as_millis() as u64, "shutting down: no longer ready");
    tokio::time::sleep(limits.drain).await;
    accepting.abort();
    let _ = stop.send(true);
    // All places free again: nobody is connected.
    if timeout(LAST_ANSWERS, door.acquire_many(places as u32)).await.is_err() {
        let left = places - door.available_permits();
        tracing::warn!(connections = left, "closing on clients that do not read or do not finish asking");
    }
    Ok(())
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A restarted process gets its port back while old connections still linger.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(WAITING_ROOM)
}

/// As many as asked for, or as the limit on open files allows after raising it.
fn allowed_connections(asked: usize) -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let files = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    let possible = files.map_or(u64::MAX, |files| files.saturating_sub(OTHER_FILES).max(1));
    asked.min(usize::try_from(possible).unwrap_or(usize::MAX))
}

async fn accept(
    listener: TcpListener,
    door: Arc<Semaphore>,
    router: Router,
    app: App,
    limits: Arc<Limits>,
    stopped: watch::Receiver<bool>,
) {
    let service = TowerToHyperService::new(router);
    loop {
        // No place, no accept: who comes then waits in the kernel's queue until somebody leaves.
        let place = door.clone().acquire_owned().await.expect("the door is never closed");
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "could not accept a connection");
                // Out of memory or files: there is no event for "some are free again".
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
        };
        let (service, limits, stopped) = (service.clone(), limits.clone(), stopped.clone());
        let connections = app.metrics.connections.clone();
        tokio::spawn(async move {
            connections.inc();
            converse(stream, service, limits, &connections, stopped).await;
            connections.dec();
            drop(place);
        });
    }
}

/// One connection, to its end.
async fn converse(
    stream: TcpStream,
    service: TowerToHyperService<Router>,
    limits: Arc<Limits>,
    connections: &Gauge,
    mut stopped: watch::Receiver<bool>,
) {
    let mut byte = [0];
    let first_byte = tokio::select! {
        // Not `readable()`: tokio calls a new socket readable until a read says otherwise.
        peeked = timeout(limits.header_timeout, stream.peek(&mut byte)) => matches!(peeked, Ok(Ok(1..))),
        _ = stopped.wait_for(|stopped| *stopped) => false,
    };
    // Boxed, and not before the first byte: a client that has said nothing costs a few hundred bytes and
    // not the buffers of a conversation.
    if first_byte {
        let stays = connections.get() <= KEPT_ALIVE;
        Box::pin(answer(stream, service, limits, stays, stopped)).await;
    }
}

/// A connection on which somebody asks.
async fn answer(
    stream: TcpStream,
    service: TowerToHyperService<Router>,
    limits: Arc<Limits>,
    stays: bool,
    mut stopped: watch::Receiver<bool>,
) {
    let _ = stream.set_nodelay(true);
    let mut stream = Box::pin(TimeoutStream::new(stream));
    stream.as_mut().set_write_timeout_pinned(Some(limits.write_timeout));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .keep_alive(stays)
        .header_read_timeout(limits.header_timeout)
        .max_buf_size(MAX_HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let mut stop = pin!(stopped.wait_for(|stopped| *stopped));
    let ended = poll_fn(|context| match connection.as_mut().poll(context) {
        Poll::Ready(_) => Poll::Ready(true),
        Poll::Pending => stop.as_mut().poll(context).map(|_| false),
    });
    // How a conversation ended is the client's business: resets and timeouts are everyday life.
    if !ended.await {
        connection.as_mut().graceful_shutdown();
        let _ = connection.await;
    }
}

/// Why the process could not serve.
#[derive(Debug, thiserror::Error)]
#[error("could not {step}")]
pub struct ServeError {
    step: String,
    source: io::Error,
}

impl ServeError {
    /// The whole chain, for a person.
    pub fn report(&self) -> String {
        let next = match self.source.kind() {
            io::ErrorKind::AddrInUse => "\n  next: stop what listens there, or set LISTEN to another address",
            io::ErrorKind::PermissionDenied => "\n  next: set LISTEN to a port above 1023",
            _ => "",
        };
        format!("{self}: {}{next}", self.source)
    }
}
