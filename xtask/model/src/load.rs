//! Reads a lab file and finds everything wrong with it, all at once, without a cluster.

mod places;
mod shape;
mod check;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::LazyLock;

use anyhow::Result;
use schemars::schema_for;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

pub use self::check::target_fields;
use self::places::{Node, Place, Source};
use crate::spec::LabSpec;
use crate::stack::{PARSER, with_room};
use crate::text::on_one_line;

/// No lab is longer. What is may be a device, or a file that was never meant.
const FILE_BYTES: u64 = 8 << 20;
/// Values that aliases may stand for, in a whole file: an alias of aliases of aliases grows without end.
const ALIASED_EVENTS: usize = 100_000;
/// Problems that are told: nobody reads more.
const TOLD: usize = 100;

static SCHEMA: LazyLock<Json> = LazyLock::new(|| schema_for!(LabSpec).to_value());

/// Reads a lab file.
///
/// # Errors
/// File, line and column of everything that can't be read or makes no sense.
pub fn load(path: &Path) -> Result<LabSpec, Unsound> {
    let shown = path.display();
    let bytes = read(path).map_err(|error| Unsound(format!("cannot read lab file {shown}: {error}")))?;
    parse(&bytes).map_err(|problems| {
        let lines = problems.iter().take(TOLD).map(|problem| {
            let Place { line, column } = problem.place;
            format!("{shown}:{line}:{column}: {}", problem.says)
        });
        let more = problems.len().saturating_sub(TOLD);
        let more = (more > 0).then(|| format!("… and {more} more"));
        Unsound(lines.chain(more).collect::<Vec<_>>().join("\n"))
    })
}

/// Everything that is wrong with a lab file, a line each.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unsound(pub String);

/// The known name that is nearest to a misspelt one, when it is near at all.
pub fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    // Far longer than all of them: near to none, and slow to compare.
    let longest = known.iter().map(|known| known.len()).max().filter(|longest| name.len() <= 2 * longest)?;
    let distance = |other: &&&str| strsim::damerau_levenshtein(name, other);
    known
        .iter()
        .min_by_key(distance)
        .filter(|best| distance(best) <= 1 + name.len().min(longest) / 3)
        .copied()
}

/// Something wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Problem {
    place: Place,
    says: String,
}

impl Problem {
    fn new(place: Place, says: impl Into<String>) -> Self {
        Self { place, says: says.into() }
    }
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES {
        return Err(std::io::Error::other(format!("it has more than {} MiB", FILE_BYTES >> 20)));
    }
    Ok(bytes)
}

/// The lab in a file, or all that is wrong with it in the order of its lines.
fn parse(bytes: &[u8]) -> Result<LabSpec, Vec<Problem>> {
    let broke = || Err(vec![Problem::new(Place::START, "the parser gave up on this file")]);
    with_room(PARSER, || parse_here(bytes)).unwrap_or_else(broke)
}

fn parse_here(bytes: &[u8]) -> Result<LabSpec, Vec<Problem>> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let sound = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
        vec![Problem::new(Source::new(&sound).place(sound.len()), "this is no UTF-8")]
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let root: Node = read_yaml(text).map_err(|problem| vec![problem])?;
    let mut found = shape::problems(&SCHEMA, &root);
    let spec = match read_yaml::<LabSpec>(text) {
        Ok(spec) => {
            found.extend(check::problems(&spec, &Source::new(text), &root));
            Some(spec)
        }
        // What the schema knows too is told already, and better.
        Err(problem) => {
            let told = |other: &Problem| other.place.line == problem.place.line || other.says == problem.says;
            if !found.iter().any(told) {
                found.push(problem);
            }
            None
        }
    };
    found.sort();
    found.dedup();
    spec.filter(|_| found.is_empty()).ok_or(found)
}

fn read_yaml<T: DeserializeOwned>(text: &str) -> Result<T, Problem> {
    let mut options = serde_saphyr::Options::default();
    options.alias_limits.max_total_replayed_events = ALIASED_EVENTS;
    options.with_snippet = false;
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let place = error.location().map_or(Place::START, Place::from);
        Problem::new(place, says(&error.to_string()))
    })
}

/// What is wrong in one line, without the place that is told before it anyway.
fn says(error: &str) -> String {
    let words = on_one_line(error);
    match words.rsplit_once(" at line ") {
        Some((says, place)) if place.contains("column ") => says.to_owned(),
        _ => words,
    }
}
