//! What was traced, as a table to read.

use std::fmt::Write;

use model::text::shortened;
use serde_json::Value as Json;

use super::difference::Field;
use super::{Effect, Taken, Trace, TracedValue};

/// Columns of a default value.
const DEFAULT_CHARS: usize = 20;
/// Fields that are shown of one value.
const FIELDS_SHOWN: usize = 3;

/// The values with what they drive, then the settings with what drives them.
pub(super) fn text(trace: &Trace) -> String {
    let mut out = String::new();
    match &trace.taken {
        Some(Taken::File(file)) => {
            let _ = writeln!(out, "the StatefulSet appears with {file}, which was taken\n");
        }
        Some(Taken::Value(path, value)) => {
            let _ = writeln!(out, "the StatefulSet appears with {path}={value}, which was set\n");
        }
        None => {}
    }
    let width = trace.values.iter().map(|value| value.path.chars().count()).max().unwrap_or(0).min(50);
    for value in &trace.values {
        line(&mut out, value, width);
    }
    for path in &trace.untried {
        let _ = writeln!(out, "{path:width$}  not tried: the time was up");
    }
    let _ = writeln!(out);
    let width = trace.settings.iter().map(|setting| setting.setting.len()).max().unwrap_or(0);
    for setting in &trace.settings {
        let by = if setting.values.is_empty() {
            "no value drives it".to_owned()
        } else {
            setting.values.join(", ")
        };
        let _ = writeln!(out, "{:width$}  {by}", setting.setting);
    }
    out
}

fn line(out: &mut String, value: &TracedValue, width: usize) {
    let default = value.default.as_ref().map_or_else(|| "not set".to_owned(), Json::to_string);
    let default = shortened(&default, DEFAULT_CHARS);
    let (what, fields): (String, &[Field]) = match &value.effect {
        Effect::Drives(fields) => (String::new(), fields),
        Effect::DrivesWith(set, fields) => {
            let set: Vec<String> = set.iter().map(|(path, value)| format!("{path}={value}")).collect();
            (format!("with {}: ", set.join(", ")), fields)
        }
        Effect::Nothing => ("does nothing".to_owned(), &[]),
        Effect::Breaks(says) => (format!("another value breaks the chart: {says}"), &[]),
    };
    let shown: Vec<String> = fields.iter().take(FIELDS_SHOWN).map(told).collect();
    let more = fields.len().saturating_sub(FIELDS_SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let _ = writeln!(
        out,
        "{:width$}  {default:columns$}  {what}{}{more}",
        value.path,
        shown.join(", "),
        columns = DEFAULT_CHARS + 1
    );
}

fn told(field: &Field) -> String {
    let dotted = field.dotted();
    if dotted.is_empty() {
        format!("{} {}", field.kind, field.name)
    } else {
        format!("{} {dotted}", field.kind)
    }
}
