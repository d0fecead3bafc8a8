//! A terminal on which somebody types while lines are drawn on it.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::TermLike;

/// The columns that the terminal's echo of Ctrl-C takes.
pub(super) const ECHO: usize = 2;

/// Ends lines and leaves the cursor behind the last word, where indicatif fills each line with blanks until the next one
/// begins. What the terminal echoes after a full line, `^C`, would go to the next one, and the first of those drawn would
/// not be cleared any more.
#[derive(Debug)]
pub(super) struct Typed<T> {
    terminal: T,
    /// Whether a line is complete, and another one may follow.
    full: AtomicBool,
}

impl<T> Typed<T> {
    /// Draws on this one.
    pub(super) fn on(terminal: T) -> Self {
        Self { terminal, full: AtomicBool::new(false) }
    }
}

impl<T: TermLike> TermLike for Typed<T> {
    fn write_str(&self, s: &str) -> io::Result<()> {
        if s.trim_start_matches(' ').is_empty() {
            self.full.store(true, Ordering::Relaxed);
            return Ok(());
        }
        if self.full.swap(false, Ordering::Relaxed) {
            self.terminal.write_line("")?;
        }
        self.terminal.write_str(s)
    }

    fn flush(&self) -> io::Result<()> {
        self.full.store(false, Ordering::Relaxed);
        self.terminal.flush()
    }

    fn width(&self) -> u16 {
        self.terminal.width()
    }

    fn height(&self) -> u16 {
        self.terminal.height()
    }

    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        self.terminal.move_cursor_up(n)
    }

    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        self.terminal.move_cursor_down(n)
    }

    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        self.terminal.move_cursor_right(n)
    }

    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        self.terminal.move_cursor_left(n)
    }

    fn write_line(&self, s: &str) -> io::Result<()> {
        self.terminal.write_line(s)
    }

    fn clear_line(&self) -> io::Result<()> {
        self.terminal.clear_line()
    }
}
