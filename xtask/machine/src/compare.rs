//! What is otherwise in the second of two things that were made to be the same.

use std::collections::BTreeMap;

use serde_json::Value;

/// What is otherwise in the second of two trees of files, by path; `apart` tells of two files that are not alike.
pub fn compare_files<File: PartialEq>(
    first: &BTreeMap<String, File>,
    second: &BTreeMap<String, File>,
    apart: impl Fn(&File, &File) -> String,
) -> Vec<String> {
    let mut differences = vec![];
    for path in first.keys().chain(second.keys().filter(|path| !first.contains_key(*path))) {
        match (first.get(path), second.get(path)) {
            (Some(one), Some(other)) if one != other => {
                differences.push(format!("{path}: {}", apart(one, other)));
            }
            (Some(_), Some(_)) => {}
            (Some(_), None) => differences.push(format!("{path}: missing in the second")),
            _ => differences.push(format!("{path}: missing in the first")),
        }
    }
    differences
}

/// Adds to `differences` the fields of the second JSON document that are not as in the first.
pub fn compare_values(at: &str, first: &Value, second: &Value, differences: &mut Vec<String>) {
    match (first, second) {
        (Value::Object(one), Value::Object(other)) => {
            for key in one.keys().chain(other.keys().filter(|key| !one.contains_key(*key))) {
                let value = |map: &serde_json::Map<String, Value>| map.get(key).cloned().unwrap_or_default();
                compare_values(&format!("{at}.{key}"), &value(one), &value(other), differences);
            }
        }
        _ if first != second => differences.push(format!("{at}: {first}, then {second}")),
        _ => {}
    }
}
