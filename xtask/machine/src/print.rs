//! What a person or a program reads of us. Either may leave before the end, as `head` does: no reason to stop half-way,
//! without cleaning up or with another exit code.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

/// Prints a result to stdout, and ends its last line.
pub fn result(text: impl Display) {
    if let Err(error) = print(io::stdout().lock(), &text.to_string()) {
        message(format!("error: cannot write the result: {error}"));
    }
}

/// Prints to stderr what is no result, and ends its last line.
pub fn message(text: impl Display) {
    // That it can't be said can't be said either.
    let _ = print(io::stderr().lock(), &text.to_string());
}

fn print(mut to: impl Write, text: &str) -> io::Result<()> {
    let end = if text.ends_with('\n') { "" } else { "\n" };
    match to.write_all(format!("{text}{end}").as_bytes()).and_then(|()| to.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        done => done,
    }
}
