//! The JSON Schema of lab files, generated from their types: what an editor completes and checks with.

use anyhow::{Context, Result};
use schemars::schema_for;

use crate::exit::Exit;
use crate::lab::spec::LabSpec;
use crate::workspace::Workspace;

/// Where the schema lies; the first line of a lab file points there.
const FILE: &str = "docs/labs/lab.schema.json";

/// Writes the schema, or says whether the one that lies there is current.
///
/// # Errors
/// When it can't be written.
pub fn schema(workspace: &Workspace, check: bool) -> Result<Exit> {
    let file = workspace.root.join(FILE);
    let current = text()?;
    if std::fs::read_to_string(&file).is_ok_and(|text| text == current) {
        return Ok(Exit::Holds);
    }
    if check {
        eprintln!("{FILE} is not what the types say\nnext: cargo xtask schema");
        return Ok(Exit::OutOfDate);
    }
    std::fs::write(&file, current).with_context(|| format!("cannot write {FILE}"))?;
    println!("wrote {FILE}");
    Ok(Exit::Holds)
}

fn text() -> Result<String> {
    Ok(serde_json::to_string_pretty(&schema_for!(LabSpec))? + "\n")
}
