//! The JSON Schemas of lab files and of recorded runs, generated from their types: what an editor completes and
//! checks with, and what a reader of a record can hold on to.

use anyhow::{Context, Result};
use schemars::schema_for;

use crate::evidence::record;
use crate::exit::Exit;
use crate::lab::spec::LabSpec;
use crate::workspace::Workspace;

/// Where the schema of lab files lies; the first line of a lab file points there.
const LAB: &str = "docs/labs/lab.schema.json";
/// Where that of a record lies, beside the records.
const RUN: &str = "docs/evidence/run.schema.json";

/// Writes both schemas, or says which of those that lie there is not current.
///
/// # Errors
/// When one can't be written.
pub fn schema(workspace: &Workspace, check: bool) -> Result<Exit> {
    let schemas = [(LAB, schema_for!(LabSpec).to_value()), (RUN, record::schema())];
    let mut exit = Exit::Holds;
    for (name, schema) in schemas {
        let file = workspace.root.join(name);
        let current = serde_json::to_string_pretty(&schema)? + "\n";
        if std::fs::read_to_string(&file).is_ok_and(|text| text == current) {
            continue;
        }
        if check {
            eprintln!("{name} is not what the types say\nnext: cargo xtask schema");
            exit = Exit::OutOfDate;
            continue;
        }
        let folder = file.parent().unwrap_or(&workspace.root);
        std::fs::create_dir_all(folder)
            .and_then(|()| std::fs::write(&file, current))
            .with_context(|| format!("cannot write {name}"))?;
        println!("wrote {name}");
    }
    Ok(exit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_schema_that_is_missing_or_old_is_told_and_written() {
        let dir = tempfile::tempdir().unwrap();
        let workspace = Workspace {
            root: dir.path().to_owned(),
            lab: dir.path().join("target/lab"),
            cache: dir.path().join("cache"),
        };
        for name in [LAB, RUN] {
            assert_eq!(schema(&workspace, true).unwrap(), Exit::OutOfDate);
            assert_eq!(schema(&workspace, false).unwrap(), Exit::Holds);
            assert_eq!(schema(&workspace, true).unwrap(), Exit::Holds);
            std::fs::write(dir.path().join(name), "{}").unwrap();
        }
        assert_eq!(schema(&workspace, true).unwrap(), Exit::OutOfDate);
    }
}
