//! Log lines on standard output, as JSON or for people.

use std::io;

use crate::settings::{LogFormat, Settings};

/// Starts logging for the whole process; a second call changes nothing.
pub fn start(settings: &Settings) {
    let subscriber = tracing_subscriber::fmt().with_max_level(settings.log).with_writer(io::stdout);
    let _ = match settings.log_format {
        LogFormat::Json => subscriber.json().flatten_event(true).with_current_span(false).try_init(),
        LogFormat::Text => subscriber.compact().with_ansi(false).try_init(),
    };
}
