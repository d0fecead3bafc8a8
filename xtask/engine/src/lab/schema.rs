//! The JSON Schema of lab files, generated from their types: what an editor completes and checks with.

use anyhow::{Context, Result};
use schemars::schema_for;

use machine::exit::Exit;
use machine::print;
use machine::workspace::Workspace;
use model::spec::LabSpec;

/// Where it lies; the first line of a lab file points there.
const FILE: &str = "docs/labs/lab.schema.json";

/// Writes the schema, or says that the one that lies there is not current.
///
/// # Errors
/// When it can't be written.
pub fn schema(workspace: &Workspace, check: bool) -> Result<Exit> {
    let file = workspace.root.join(FILE);
    let current = serde_json::to_string_pretty(&schema_for!(LabSpec))? + "\n";
    if std::fs::read_to_string(&file).is_ok_and(|text| text == current) {
        return Ok(Exit::Holds);
    }
    if check {
        print::message(format!("{FILE} is not what the types say\nnext: cargo xtask schema"));
        return Ok(Exit::OutOfDate);
    }
    let folder = file.parent().unwrap_or(&workspace.root);
    std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(&file, current))
        .with_context(|| format!("cannot write {FILE}"))?;
    print::result(format!("wrote {FILE}"));
    Ok(Exit::Holds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_that_is_missing_or_old_is_told_and_written() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().to_owned();
        let workspace = Workspace { lab: root.join("target/lab"), cache: root.join("cache"), root };
        assert_eq!(schema(&workspace, true).unwrap(), Exit::OutOfDate);
        assert_eq!(schema(&workspace, false).unwrap(), Exit::Holds);
        assert_eq!(schema(&workspace, true).unwrap(), Exit::Holds);
        std::fs::write(dir.path().join(FILE), "{}").unwrap();
        assert_eq!(schema(&workspace, true).unwrap(), Exit::OutOfDate);
    }
}
