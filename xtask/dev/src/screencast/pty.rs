//! A program in a terminal of its own: what it prints, and when.

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// Rows and columns.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    /// Rows.
    pub rows: u16,
    /// Columns.
    pub columns: u16,
}

/// Something that was printed at once.
#[derive(Debug)]
pub(super) struct Printed {
    /// When, counted from the start of the program.
    pub at: Duration,
    /// What, as a terminal gets it.
    pub bytes: Vec<u8>,
}

/// Runs the program until nobody prints any more.
///
/// # Errors
/// When there is no terminal to be had, or the program can't be started.
pub(super) fn run(mut command: Command, size: Size) -> Result<(ExitStatus, Vec<Printed>)> {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).context("no terminal to be had")?;
    grantpt(&ours).and_then(|()| unlockpt(&ours)).context("the terminal can't be used")?;
    // The program must not hold our end: it would never see us go.
    rustix::io::fcntl_setfd(&ours, rustix::io::FdFlags::CLOEXEC)?;
    tcsetwinsize(&ours, Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 })?;
    let name = std::ffi::OsString::from_vec(ptsname(&ours, Vec::new())?.into_bytes());
    let theirs =
        OpenOptions::new().read(true).write(true).open(&name).context("the terminal can't be used")?;
    command.stdin(theirs.try_clone()?).stdout(theirs.try_clone()?).stderr(theirs);
    command.env("TERM", "xterm-256color");
    for variable in ["CI", "NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE"] {
        command.env_remove(variable);
    }
    let started = Instant::now();
    let mut child = command.spawn().with_context(|| format!("cannot run {:?}", command.get_program()))?;
    // It holds ends of the terminal too.
    drop(command);
    let mut ours = std::fs::File::from(ours);
    let (mut printed, mut buffer) = (Vec::new(), vec![0; 1 << 16]);
    // When the last one who could print is gone, Linux says so with an error.
    while let Ok(length @ 1..) = ours.read(&mut buffer) {
        printed.push(Printed { at: started.elapsed(), bytes: buffer[..length].to_owned() });
    }
    let status = child.wait().context("the program was lost")?;
    Ok((status, printed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_sees_a_terminal_of_the_size_asked_for() {
        let mut command = Command::new("sh");
        command.args(["-c", "test -t 1 && test -t 2 && stty size && echo \"$TERM\" >&2; exit 3"]);
        let (status, printed) = run(command, Size { rows: 7, columns: 33 }).unwrap();
        let text: Vec<u8> = printed.into_iter().flat_map(|printed| printed.bytes).collect();
        assert_eq!(String::from_utf8_lossy(&text), "7 33\r\nxterm-256color\r\n");
        assert_eq!(status.code(), Some(3));
    }
}
