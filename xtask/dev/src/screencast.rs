//! The picture of a run in the README: the lab in a terminal of its own, recorded and played back.

mod pty;
mod svg;

use anyhow::{Context, Result, ensure};

use self::pty::Size;
use machine::exit::Exit;
use machine::print;
use machine::workspace::Workspace;

/// What is recorded.
const COMMAND: [&str; 2] = ["lab", "--keep"];
/// The terminal it is recorded in.
const SIZE: Size = Size { rows: 34, columns: 100 };
/// Where the picture goes.
const PICTURE: &str = "docs/images/lab.svg";

/// Runs the lab in a terminal nobody sees, and writes down what it showed.
///
/// # Errors
/// When there is no terminal to be had, the run does not hold, or its picture names a folder of this machine.
pub(crate) async fn screencast(workspace: &Workspace) -> Result<Exit> {
    let program = std::env::current_exe().context("this program has no path")?;
    let mut command = std::process::Command::new(program);
    command.args(COMMAND).current_dir(&workspace.root);
    let recording = tokio::task::spawn_blocking(move || pty::run(command, SIZE));
    let (status, printed) = recording.await.context("the recording was lost")??;
    let prompt = format!("$ cargo xtask {}\r\n", COMMAND.join(" "));
    let picture = svg::picture(&prompt, &printed, SIZE)?;
    let text = svg::last_screen(&prompt, &printed, SIZE);
    ensure!(status.success(), "`cargo xtask {}` ended with {status}\n{text}", COMMAND.join(" "));
    for folder in [&workspace.root, &workspace.cache] {
        ensure!(!picture.contains(&*folder.to_string_lossy()), "the picture names {}", folder.display());
    }
    let path = workspace.root.join(PICTURE);
    std::fs::write(&path, picture).with_context(|| format!("cannot write {PICTURE}"))?;
    print::result(format!("{text}\nwrote {PICTURE}"));
    Ok(Exit::Holds)
}
