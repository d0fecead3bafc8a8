//! What the JSON Schema finds wrong with a lab file, all of it: serde stops at the first unknown key.
//!
//! The schema is generated from the types, so an editor finds the same.

use serde_json::Value as Json;

use super::places::{Node, Place, Value};
use super::{Problem, nearest};

const SCALARS: [&str; 4] = ["string", "boolean", "integer", "number"];

/// Unknown and missing keys, lists where a map is expected, and numbers out of their range.
pub(super) fn problems(schema: &Json, node: &Node) -> Vec<Problem> {
    let mut found = Vec::new();
    walk(schema, schema, node, &mut found);
    found
}

fn walk(root: &Json, schema: &Json, node: &Node, found: &mut Vec<Problem>) {
    let schema = resolved(root, schema);
    if let Some(variants) = schema["oneOf"].as_array() {
        return variant(root, variants, node, found);
    }
    match &node.value {
        Value::Map(entries) if allows(schema, "object") => {
            let Some(properties) = schema["properties"].as_object() else { return };
            let known: Vec<&str> = properties.keys().map(String::as_str).collect();
            for (key, value) in entries {
                match properties.get(&key.name) {
                    Some(schema) => walk(root, schema, value, found),
                    None => found.push(unknown("field", &key.name, &known, key.at)),
                }
            }
            let required = schema["required"].as_array().into_iter().flatten().filter_map(Json::as_str);
            for name in required.filter(|name| entries.iter().all(|(key, _)| key.name != *name)) {
                found.push(Problem::new(node.at, format!("missing field `{name}`")));
            }
        }
        Value::List(items) if allows(schema, "array") => {
            items.iter().for_each(|item| walk(root, &schema["items"], item, found));
        }
        Value::Number(number) if SCALARS.iter().any(|kind| allows(schema, kind)) => {
            let (least, most) = (schema["minimum"].as_f64(), schema["maximum"].as_f64());
            let fits = least.is_none_or(|least| *number >= least) && most.is_none_or(|most| *number <= most);
            if let (false, Some(least), Some(most)) = (fits, least, most) {
                found.push(Problem::new(node.at, format!("{number} is not between {least} and {most}")));
            }
        }
        // Whether a scalar is a text, a number, a boolean or nothing at all, serde says.
        Value::Text | Value::Null if SCALARS.iter().any(|kind| allows(schema, kind)) => {}
        Value::Null => {}
        _ => {
            if let Some(wanted) = expected(schema) {
                found.push(Problem::new(node.at, format!("expected {wanted}")));
            }
        }
    }
}

/// A map with one key, which says the kind of what is below it.
fn variant(root: &Json, variants: &[Json], node: &Node, found: &mut Vec<Problem>) {
    let kinds = || variants.iter().filter_map(|variant| variant["properties"].as_object()?.iter().next());
    let known: Vec<&str> = kinds().map(|(kind, _)| kind.as_str()).collect();
    match &node.value {
        Value::Map(entries) if entries.len() == 1 => {
            let (key, value) = &entries[0];
            match kinds().find(|(kind, _)| **kind == key.name) {
                Some((_, schema)) => walk(root, schema, value, found),
                None => found.push(unknown("kind", &key.name, &known, key.at)),
            }
        }
        other => {
            let at = match other {
                Value::Map(entries) => entries.get(1).map_or(node.at, |(second, _)| second.at),
                _ => node.at,
            };
            found.push(Problem::new(at, format!("expected one key, one of {}", known.join(", "))));
        }
    }
}

fn resolved<'a>(root: &'a Json, schema: &'a Json) -> &'a Json {
    let name = schema["$ref"].as_str().and_then(|name| name.strip_prefix("#/$defs/"));
    name.map_or(schema, |name| &root["$defs"][name])
}

fn allows(schema: &Json, kind: &str) -> bool {
    match &schema["type"] {
        Json::String(one) => one == kind,
        Json::Array(several) => several.iter().any(|one| one == kind),
        // Nothing is said of it.
        _ => true,
    }
}

fn expected(schema: &Json) -> Option<&'static str> {
    [("object", "a map"), ("array", "a list"), ("string", "a text"), ("boolean", "true or false")]
        .into_iter()
        .chain([("integer", "a whole number"), ("number", "a number")])
        .find_map(|(kind, words)| allows(schema, kind).then_some(words))
}

fn unknown(what: &str, name: &str, known: &[&str], at: Place) -> Problem {
    let hint = match nearest(name, known) {
        Some(near) => format!(" (did you mean `{near}`?)"),
        None => format!(", expected one of {}", known.join(", ")),
    };
    Problem::new(at, format!("unknown {what} `{name}`{hint}"))
}
