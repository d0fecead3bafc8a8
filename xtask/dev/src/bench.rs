//! The figures of docs/PERFORMANCE.md: measured, checked against what we aim for, and written down.

pub(crate) mod app;
mod server;
mod machine;
mod page;

use anyhow::{Context, Result};

use ::machine::exit::Exit;
use ::machine::print;
use ::machine::progress::Progress;
use ::machine::workspace::Workspace;

/// Measures the counter, prints the figures and writes them into docs/PERFORMANCE.md; [`Exit::ClaimFails`] when
/// one of them is not what we aim for.
///
/// # Errors
/// When the counter can't be built, doesn't serve, or miscounts.
pub(crate) async fn bench_app(workspace: &Workspace, progress: &Progress) -> Result<Exit> {
    let figures = app::measure(workspace, progress).await?;
    print::result(page::tables(&figures));
    let path = workspace.root.join("docs/PERFORMANCE.md");
    std::fs::write(&path, page::render(&figures))
        .with_context(|| format!("cannot write {}", path.display()))?;
    print::result(format!("written: {}", workspace.display(&path)));
    Ok(if figures.aims().iter().all(|aim| aim.holds) { Exit::Holds } else { Exit::ClaimFails })
}
