//! What an app of somebody else's calls things: the page that counts, the one that reads, and where the number is.

use std::path::Path;
use std::sync::LazyLock;

use anyhow::{Context, Result, anyhow, ensure};
use regex::Regex;
use serde::Deserialize;
use serde_json::{Value as Json, json};

use model::expression::{Compiled, Expression, Scope};

/// What a file beside a chart is called that says these things.
const FILE: &str = "hand-in.yaml";
/// A longer one says something else.
const MOST_BYTES: u64 = 64 << 10;

/// The words of an app. What is left out is looked for where apps of the course have it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct App {
    /// The path that counts a visit.
    #[serde(default = "root")]
    pub counts: String,
    /// The path that reads the number and does not count.
    #[serde(default)]
    pub reads: Option<String>,
    /// Where the number is: a CEL expression over `answer`, which is JSON or a text.
    #[serde(default)]
    pub number: Option<Compiled<Expression>>,
    /// The file that holds the number, where no path reads it.
    #[serde(default)]
    pub file: Option<String>,
}

fn root() -> String {
    "/".to_owned()
}

impl Default for App {
    fn default() -> Self {
        Self { counts: root(), reads: None, number: None, file: None }
    }
}

impl App {
    /// What a `hand-in.yaml` in the chart's folder, or beside it, says; nothing where there is none.
    ///
    /// # Errors
    /// One that can't be read or says something else.
    pub(crate) fn beside(chart: &Path) -> Result<Option<Self>> {
        let folders = [Some(chart), chart.parent()];
        let mut files = folders.into_iter().flatten().map(|folder| folder.join(FILE));
        // A link leads out of what was handed in.
        let is_file = |file: &std::path::PathBuf| file.symlink_metadata().is_ok_and(|it| it.is_file());
        files.find(is_file).map(|file| Self::read(&file)).transpose()
    }

    /// What a file says.
    ///
    /// # Errors
    /// It can't be read; a key that nobody knows; a path that is none; an expression that does not compile.
    pub(crate) fn read(file: &Path) -> Result<Self> {
        let shown = file.display();
        let size = file.metadata().with_context(|| format!("cannot read {shown}"))?.len();
        ensure!(size <= MOST_BYTES, "{shown} has {size} bytes: it says something else");
        let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {shown}"))?;
        let app: Self = serde_saphyr::from_str(&text).map_err(|error| anyhow!("{shown}: {error}"))?;
        app.sound().with_context(|| shown.to_string())?;
        Ok(app)
    }

    fn sound(&self) -> Result<()> {
        for path in [Some(&self.counts), self.reads.as_ref(), self.file.as_ref()].into_iter().flatten() {
            let plain = |c: char| c.is_ascii_graphic();
            ensure!(
                path.starts_with('/') && path.chars().all(plain),
                "{path:?} is no path that begins with /"
            );
        }
        if let Some(number) = &self.number {
            let expression = number.get().map_err(|fault| anyhow!("number: {fault}"))?;
            let other = expression.variables().iter().find(|name| *name != "answer");
            ensure!(
                other.is_none(),
                "number: it speaks of `{}`, and there is only `answer`",
                other.map_or("", String::as_str)
            );
        }
        Ok(())
    }

    /// The number in an answer: where the app says, or the only one there that is called so.
    pub(crate) fn number(&self, answer: &Json) -> Option<u64> {
        let Some(number) = &self.number else { return named(answer) };
        let value =
            number.get().ok()?.value(&Scope::from_iter([("answer".to_owned(), answer.clone())])).ok()?;
        value
            .as_u64()
            .or_else(|| value.as_f64().filter(|it| *it >= 0.0 && it.fract() == 0.0).map(|it| it as u64))
    }
}

/// Words that stand by a count.
const NAMES: &str = "visits?|visit_?count|views?|hits?|counter|count|times|total";

/// The number of an answer that is called a count there. Where there are several, none is known.
fn named(answer: &Json) -> Option<u64> {
    static KEY: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(&format!("(?i)^(?:\\w+_)?(?:{NAMES})(?:_\\w+)?$")).expect("the pattern is one")
    });
    static BEFORE: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(&format!(r"(?i)\b(?:{NAMES})\b[^\d.,;\n]{{0,24}}?(\d+)\b")).expect("the pattern is one")
    });
    static AFTER: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(&format!(r"(?i)\b(\d+)\s+(?:{NAMES})\b")).expect("the pattern is one"));
    static TAGS: LazyLock<Regex> = LazyLock::new(|| Regex::new("<[^>]*>").expect("the pattern is one"));
    let mut found = Vec::new();
    match answer {
        Json::Object(entries) => {
            let counts = entries.iter().filter(|(key, _)| KEY.is_match(key));
            found.extend(counts.filter_map(|(_, value)| whole(value)));
        }
        Json::String(text) if whole(answer).is_none() => {
            let text = TAGS.replace_all(text, " ");
            for pattern in [&*BEFORE, &*AFTER] {
                found.extend(pattern.captures_iter(&text).filter_map(|found| found[1].parse::<u64>().ok()));
            }
        }
        other => found.extend(whole(other)),
    }
    found.dedup();
    if let [only] = found[..] { Some(only) } else { None }
}

/// A whole number, or a text that is one.
pub(crate) fn whole(value: &Json) -> Option<u64> {
    match value {
        Json::String(text) => {
            let text = text.trim();
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            digits.then(|| text.parse().ok()).flatten()
        }
        number => number.as_u64(),
    }
}

/// A command that prints the small files below a folder, each after its path, for a container that has a shell.
pub(crate) fn files_below(folder: &str) -> Vec<String> {
    const SCRIPT: &str = "find \"$0\" -type f -size -2 2>/dev/null | head -n 20 | while read -r file; do \
        echo \"$file $(head -c 20 \"$file\")\"; done";
    ["sh", "-c", SCRIPT, folder].map(str::to_owned).into()
}

/// The number in the only file that holds one and nothing else.
pub(crate) fn number_in_files(printed: &str) -> Option<u64> {
    let numbers = printed.lines().filter_map(|line| whole(&json!(line.split_once(' ')?.1)));
    let numbers: Vec<u64> = numbers.collect();
    if let [only] = numbers[..] { Some(only) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<App> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(FILE);
        std::fs::write(&file, text).unwrap();
        App::beside(&dir.path().join("chart"))?.context("nothing was found")
    }

    #[test]
    fn a_file_beside_a_chart_says_what_the_app_calls_things() {
        let app = read("counts: /hit\nreads: /api/total\nnumber: answer.data.total\n").unwrap();
        assert_eq!((app.counts.as_str(), app.reads.as_deref()), ("/hit", Some("/api/total")));
        assert_eq!(app.number(&json!({"data": {"total": 7}, "count": 9})), Some(7));
        assert_eq!(app.number(&json!({"count": 9})), None);
        for (wrong, why) in [
            ("count: /", "unknown field"),
            ("counts: hit", "is no path"),
            ("file: \"/a b\"", "is no path"),
            ("number: answer.[", "number"),
            ("number: pods.size()", "only `answer`"),
        ] {
            let error = format!("{:#}", read(wrong).unwrap_err());
            assert!(error.contains(why) && error.contains(FILE), "{wrong}: {error}");
        }
    }

    #[test]
    fn a_count_is_the_only_number_that_is_called_one() {
        for (answer, expected) in [
            (json!({"visits": 24, "pod": "web-0"}), Some(24)),
            (json!({"total_visits": "3", "port": 8000}), Some(3)),
            (json!({"visits": 3, "total": 9}), None),
            (json!("28\n"), Some(28)),
            (json!("<meta charset=utf-8><h1>Visits: <b>21</b></h1>"), Some(21)),
            (json!("<p>This page was visited 5 times, port 8000.</p>"), Some(5)),
            (json!("Moscow time 12:30:07"), None),
            (json!("visits: 3 of 9 visits"), None),
            (json!([7]), None),
        ] {
            assert_eq!(App::default().number(&answer), expected, "{answer}");
        }
    }

    #[test]
    fn a_number_in_a_file_is_known_where_only_one_has_one() {
        assert_eq!(number_in_files("/data/visits 12\n/data/log started\n/data/lost+found "), Some(12));
        assert_eq!(number_in_files("/data/a 1\n/data/b 2\n"), None);
        assert_eq!(number_in_files(""), None);
    }
}
