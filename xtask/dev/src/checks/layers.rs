//! The order in which the rooms of a crate build on each other: that of the `mod` lines of its root. A room knows only
//! those above it, so that there is no circle; between crates the compiler sees to that.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use regex::Regex;

use super::{Outcome, rust_below};

/// The roots of the crates that have rooms.
const ROOTS: [&str; 9] = [
    "xtask/machine/src/lib.rs",
    "xtask/archive/src/lib.rs",
    "xtask/node-image/src/lib.rs",
    "xtask/model/src/lib.rs",
    "xtask/explain/src/lib.rs",
    "xtask/setup/src/lib.rs",
    "xtask/engine/src/lib.rs",
    "xtask/dev/src/main.rs",
    "xtask/src/main.rs",
];

/// Checks every crate below `xtask` of the work tree at `root`.
pub(crate) fn check(root: &Path) -> Result<Outcome> {
    let (mut faults, mut rooms) = (Vec::new(), 0);
    for crate_root in ROOTS {
        let file = root.join(crate_root);
        let text = std::fs::read_to_string(&file).with_context(|| format!("could not read {crate_root}"))?;
        let names = rooms_of(&text);
        for (at, name) in names.iter().enumerate() {
            let folder = file.with_file_name(name);
            let mut sources = std::fs::read_to_string(folder.with_extension("rs")).unwrap_or_default();
            if folder.is_dir() {
                sources += &rust_below(&folder)?;
            }
            let above = known(&sources).into_iter().filter(|known| names[at + 1..].contains(known));
            faults.extend(
                above.map(|known| format!("{crate_root}: {name} uses {known}, which stands below it")),
            );
        }
        rooms += names.len();
    }
    ensure!(
        faults.is_empty(),
        "rooms that build on each other the wrong way round:\n  {}",
        faults.join("\n  ")
    );
    Ok(Outcome::Passed(format!("{rooms} rooms, each knows only those above it")))
}

/// The modules that a root declares, in its order.
fn rooms_of(root: &str) -> Vec<String> {
    let declared = Regex::new(r"(?m)^(?:pub(?:\(crate\))? )?mod (\w+);").expect("a constant expression");
    declared.captures_iter(root).map(|found| found[1].to_owned()).collect()
}

/// The rooms that paths from the crate's root lead to, each once: `crate::a::B`, `crate::{a, b::C}`.
fn known(sources: &str) -> Vec<String> {
    let path = Regex::new(r"\bcrate::(?:(\w+)|\{([^}]*)\})").expect("a constant expression");
    let mut rooms: Vec<String> = path
        .captures_iter(sources)
        .flat_map(|found| {
            let names = found.get(1).or(found.get(2)).map_or("", |names| names.as_str());
            names
                .split(',')
                .filter_map(|name| name.trim().split("::").next())
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .collect();
    rooms.sort();
    rooms.dedup();
    rooms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rooms_are_found_in_the_order_of_their_root_and_in_every_kind_of_path() {
        let root = "//! Words.\nmod low;\npub mod middle;\npub(crate) mod high;\nuse low::X;\n";
        assert_eq!(rooms_of(root), ["low", "middle", "high"]);
        let sources = "use crate::high::Y;\nuse crate::{low::X, middle};\nfn f() { crate::low::g() }\n";
        assert_eq!(known(sources), ["high", "low", "middle"]);
    }

    #[test]
    fn every_room_knows_only_those_above_it() {
        let root =
            Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("it lies in the workspace");
        check(root).unwrap();
    }
}
