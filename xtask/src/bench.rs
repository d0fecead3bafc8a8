//! The figures of docs/PERFORMANCE.md: measured, checked against what we aim for, and written down.

pub mod app;
mod server;
mod machine;
mod page;

use anyhow::{Context, Result};

use crate::progress::Progress;
use crate::workspace::Workspace;

/// Measures the counter, prints the figures and writes them into docs/PERFORMANCE.md. Says whether all
/// of them are what we aim for.
///
/// # Errors
/// When the counter can't be built, doesn't serve, or miscounts.
pub async fn bench_app(workspace: &Workspace, progress: &Progress) -> Result<bool> {
    let figures = app::measure(workspace, progress).await?;
    print!("{}", page::tables(&figures));
    let path = workspace.root.join("docs/PERFORMANCE.md");
    std::fs::write(&path, page::render(&figures))
        .with_context(|| format!("cannot write {}", path.display()))?;
    println!("written: {}", workspace.display(&path));
    Ok(figures.aims().iter().all(|aim| aim.holds))
}
