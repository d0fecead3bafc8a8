//! Names for charts, read off their paths: short, different, and fit to be a folder's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;

use machine::digest::sha256;
use machine::exit::BadInput;

/// Hexadecimal digits that tell names apart whose rest had to be cut off.
const DIGITS: usize = 6;
/// The most characters of a name: there is a table of them.
const MOST: usize = 30;

/// A name for each chart: the last part of its path, with as many of those before it as tell it from the others.
///
/// # Errors
/// [`BadInput`] for a chart that isn't there, and for one that is named twice.
pub(super) fn names(charts: &[PathBuf]) -> Result<Vec<String>> {
    let mut paths: Vec<PathBuf> = Vec::new();
    for chart in charts {
        let shown = chart.display();
        let path =
            chart.canonicalize().map_err(|error| BadInput(format!("cannot find chart {shown}: {error}")))?;
        if paths.contains(&path) {
            return Err(BadInput(format!("chart {shown} is named twice")).into());
        }
        paths.push(path);
    }
    let parts: Vec<Vec<String>> = paths.iter().map(|path| parts(path)).collect();
    let mut taken = vec![1; paths.len()];
    loop {
        let names: Vec<String> = parts.iter().zip(&taken).map(|(parts, n)| joined(parts, *n)).collect();
        let shared = |at: usize| names.iter().filter(|name| **name == names[at]).count() > 1;
        let longer: Vec<usize> =
            (0..names.len()).filter(|at| shared(*at) && taken[*at] < parts[*at].len()).collect();
        if longer.is_empty() {
            return Ok(fitted(names, &paths));
        }
        longer.into_iter().for_each(|at| taken[at] += 1);
    }
}

/// The parts of a path that have letters or digits in them, as a name may have them.
fn parts(path: &Path) -> Vec<String> {
    let path = if path.is_file() { path.with_extension("") } else { path.to_owned() };
    path.iter().map(|part| slug(&part.to_string_lossy())).filter(|part| !part.is_empty()).collect()
}

/// Lower-case letters, digits, and single dashes between them.
fn slug(text: &str) -> String {
    let lower = text.to_lowercase();
    let words = lower.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("-")
}

fn joined(parts: &[String], taken: usize) -> String {
    parts[parts.len().saturating_sub(taken)..].join("-")
}

/// Names that are too long, or still those of another, end in digits made of the whole path.
fn fitted(names: Vec<String>, paths: &[PathBuf]) -> Vec<String> {
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    for name in &names {
        *times.entry(name.clone()).or_default() += 1;
    }
    let fit = |(name, path): (String, &PathBuf)| {
        if name.len() <= MOST && !name.is_empty() && times[&name] == 1 {
            return name;
        }
        let digest = sha256(path.to_string_lossy().as_bytes());
        let kept: String = name.chars().take(MOST - DIGITS - 1).collect();
        format!("{}-{}", kept.trim_end_matches('-'), &digest[..DIGITS]).trim_start_matches('-').to_owned()
    };
    names.into_iter().zip(paths).map(fit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(charts: &[&str]) -> Result<Vec<String>, String> {
        let dir = tempfile::tempdir().unwrap();
        let make = |chart: &&str| {
            let path = dir.path().join(chart);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            match chart.ends_with(".tgz") {
                true => std::fs::write(&path, "").unwrap(),
                false => std::fs::create_dir_all(&path).unwrap(),
            }
            path
        };
        let charts: Vec<PathBuf> = charts.iter().map(make).collect();
        names(&charts).map_err(|error| error.to_string())
    }

    #[test]
    fn a_name_is_as_much_of_a_path_as_tells_it_from_the_others() {
        assert_eq!(named(&["green/chart"]).unwrap(), ["chart"]);
        assert_eq!(
            named(&["green/chart", "red/chart", "counter-0.1.0.tgz", "White's work/k8s"]).unwrap(),
            ["green-chart", "red-chart", "counter-0-1-0", "k8s"]
        );
    }

    #[test]
    fn names_that_are_too_long_or_the_same_end_in_digits() {
        let long = "a".repeat(40);
        let names = named(&[&format!("{long}/chart"), &format!("{long}b/chart")]).unwrap();
        assert!(
            names.iter().all(|name| name.len() == MOST && name.starts_with("aaaaaaaaaaaaa")),
            "{names:?}"
        );
        assert_ne!(names[0], names[1]);
        let same = named(&["a/b_c", "a/b-c"]).unwrap();
        assert_ne!(same[0], same[1]);
        let empty = named(&["é"]).unwrap();
        assert!(!empty[0].is_empty(), "{empty:?}");
    }

    #[test]
    fn a_chart_that_is_not_there_or_named_twice_is_bad_input() {
        assert!(named(&["a", "b/../a"]).unwrap_err().ends_with("is named twice"));
        let error = names(&["/nowhere/chart".into()]).unwrap_err().to_string();
        assert!(error.starts_with("cannot find chart /nowhere/chart: "), "{error}");
    }
}
