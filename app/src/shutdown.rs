//! A future that ends on SIGTERM or Ctrl-C.

use std::io;

use tokio::signal::unix::{SignalKind, signal};

/// Listens from the call on, not from the first poll: a signal in between is not lost.
///
/// # Errors
/// When the system refuses the handlers.
pub fn requested() -> io::Result<impl Future<Output = &'static str>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    })
}
