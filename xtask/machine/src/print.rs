//! What a person or a program reads of us. Either may leave before the end, as `head` does: no reason to stop half-way,
//! without cleaning up or with another exit code.

use std::borrow::Cow;
use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

use crate::paint;

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
    let text = harmless(text);
    match to.write_all(format!("{text}{end}").as_bytes()).and_then(|()| to.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        done => done,
    }
}

/// Text in which nothing of what a chart made a tool print moves the cursor, sets a title or hides a line: control
/// characters become what `cat -v` makes of them. The colours of [`Paint`] stay.
///
/// [`Paint`]: crate::paint::Paint
pub fn harmless(text: &str) -> Cow<'_, str> {
    tamed(text, |rest| paint::CODES.iter().find(|code| rest.starts_with(**code)).map(|code| code.len()))
}

/// The same without any colours: of what others have written none is ours.
pub fn plain(text: &str) -> Cow<'_, str> {
    tamed(text, |_| None)
}

fn tamed(text: &str, stays: impl Fn(&str) -> Option<usize>) -> Cow<'_, str> {
    let acts = |it: char| it.is_control() && !matches!(it, '\n' | '\t');
    if !text.contains(acts) {
        return Cow::Borrowed(text);
    }
    let (mut out, mut rest) = (String::new(), text);
    while let Some(at) = rest.find(acts) {
        out += &rest[..at];
        rest = &rest[at..];
        let taken = stays(rest);
        match (taken, rest.chars().next()) {
            (Some(length), _) => out += &rest[..length],
            // A line that ends as on Windows.
            (None, Some('\r')) if rest[1..].starts_with('\n') => {}
            (None, Some(it @ '\0'..='\u{1f}')) => out.extend(['^', char::from(it as u8 + b'@')]),
            (None, _) => out += "^?",
        }
        rest = &rest[taken.unwrap_or_else(|| rest.chars().next().map_or(0, char::len_utf8))..];
    }
    Cow::Owned(out + rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paint::Paint;

    #[test]
    fn what_others_print_acts_on_no_terminal() {
        let evil = "a\x1b[2J\x1b]0;title\x07b\rc\r\nd\te\u{9b}31m\x7f";
        assert_eq!(harmless(evil), "a^[[2J^[]0;title^Gb^Mc\nd\te^?31m^?");
        assert_eq!(plain("\x1b[31mred\x1b[0m"), "^[[31mred^[[0m");
        assert_eq!(harmless("\x1b[8mhidden"), "^[[8mhidden");
    }

    #[test]
    fn what_we_paint_stays_painted() {
        let paint = Paint::always();
        for text in [
            paint.good("a"),
            paint.bad("a"),
            paint.doubtful("a"),
            paint.busy("a"),
            paint.strong("a"),
            paint.dim("a"),
        ] {
            assert_eq!(harmless(&text), text);
        }
    }
}
