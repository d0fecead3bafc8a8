//! Ctrl-C and SIGTERM: the first stops what is under way and lets the caller clean up, the second quits at once.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, bail};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;

use crate::print;

/// Exit status after a second signal, as a shell gives it for SIGINT.
const QUIT: i32 = 130;

/// Whether a signal came: then the next one quits.
static HEARD: AtomicBool = AtomicBool::new(false);

/// Runs `work` unless a signal comes first; dropping it ends the commands it started.
///
/// # Errors
/// Those of the work, or that it was interrupted.
pub async fn or<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let mut signals = Signals::listen()?;
    let name = tokio::select! {
        result = work => return result,
        name = signals.next() => name,
    };
    print::message(format!("{name}: stopping, and cleaning up; once more quits at once"));
    HEARD.store(true, Ordering::SeqCst);
    tokio::spawn(async move {
        signals.next().await;
        quit();
    });
    bail!("interrupted by {name}")
}

/// While this is held, `doing` goes on after a first signal, which is answered with these words; a second one quits.
/// Once a process has listened to signals, one that nobody hears is lost.
///
/// # Errors
/// The signals can't be listened to.
pub fn meanwhile(doing: &'static str) -> Result<Meanwhile> {
    if HEARD.load(Ordering::SeqCst) {
        return Ok(Meanwhile(None));
    }
    let mut signals = Signals::listen()?;
    Ok(Meanwhile(Some(tokio::spawn(async move {
        let name = signals.next().await;
        HEARD.store(true, Ordering::SeqCst);
        print::message(format!("{name}: still {doing}; once more quits at once"));
        signals.next().await;
        quit();
    }))))
}

/// Somebody listens to signals.
#[derive(Debug)]
pub struct Meanwhile(Option<JoinHandle<()>>);

impl Drop for Meanwhile {
    fn drop(&mut self) {
        if let Some(listening) = &self.0 {
            listening.abort();
        }
    }
}

fn quit() -> ! {
    print::message("quit; the next run, or `cargo xtask cluster down`, removes what is left");
    std::process::exit(QUIT)
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn listen() -> Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// The name of the next one.
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "Ctrl-C",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}
