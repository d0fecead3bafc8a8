//! What differs between two renderings of a chart, field by field.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::Value as Json;

/// A field of an object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Field {
    /// Kind of the object.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// JSON pointer to the field; empty for the object itself, which comes or goes.
    pub pointer: String,
    /// Whether it is there only after the change.
    #[serde(skip)]
    new: bool,
}

impl Field {
    /// Whether the change made it appear.
    pub(super) fn appeared(&self) -> bool {
        self.new
    }

    /// A field as a reader writes it: `spec.template.spec.containers[0].image`.
    pub(super) fn dotted(&self) -> String {
        let mut text = String::new();
        for part in self.pointer.split('/').skip(1) {
            let part = part.replace("~1", "/").replace("~0", "~");
            if part.bytes().all(|byte| byte.is_ascii_digit()) {
                text += &format!("[{part}]");
            } else if part.contains(['.', '/']) {
                text += &format!("[\"{part}\"]");
            } else {
                text += if text.is_empty() { "" } else { "." };
                text += &part;
            }
        }
        text
    }
}

/// The fields in which two renderings differ, each once. Objects are told apart by kind and name; one that has another
/// name now is the one that stood in its place.
pub(super) fn fields_that_differ(before: &[Json], after: &[Json]) -> Vec<Field> {
    let mut found = BTreeSet::new();
    let mut unmatched: Vec<&Json> = after.iter().collect();
    let mut gone: Vec<&Json> = Vec::new();
    for old in before {
        match unmatched.iter().position(|new| key(new) == key(old)) {
            Some(at) => compare(old, unmatched.remove(at), old, String::new(), &mut found),
            None => gone.push(old),
        }
    }
    for old in gone {
        match unmatched.iter().position(|new| new["kind"] == old["kind"]) {
            Some(at) => compare(old, unmatched.remove(at), old, String::new(), &mut found),
            None => drop(found.insert(field(old, String::new(), false))),
        }
    }
    found.extend(unmatched.into_iter().map(|new| field(new, String::new(), true)));
    found.into_iter().collect()
}

fn key(object: &Json) -> (&str, &str) {
    let text = |pointer: &str| object.pointer(pointer).and_then(Json::as_str).unwrap_or_default();
    (text("/kind"), text("/metadata/name"))
}

fn field(object: &Json, pointer: String, new: bool) -> Field {
    let (kind, name) = key(object);
    Field { kind: kind.to_owned(), name: name.to_owned(), pointer, new }
}

fn compare(old: &Json, new: &Json, object: &Json, at: String, found: &mut BTreeSet<Field>) {
    let below = |key: &str| format!("{at}/{}", key.replace('~', "~0").replace('/', "~1"));
    match (old, new) {
        (Json::Object(one), Json::Object(other)) => {
            for (key, value) in one {
                match other.get(key) {
                    Some(new) => compare(value, new, object, below(key), found),
                    None => drop(found.insert(field(object, below(key), false))),
                }
            }
            let more = other.keys().filter(|key| !one.contains_key(*key));
            found.extend(more.map(|key| field(object, below(key), true)));
        }
        (Json::Array(one), Json::Array(other)) => {
            for (index, (old, new)) in one.iter().zip(other).enumerate() {
                compare(old, new, object, below(&index.to_string()), found);
            }
            let longer = one.len().min(other.len())..one.len().max(other.len());
            let grown = other.len() > one.len();
            found.extend(longer.map(|index| field(object, below(&index.to_string()), grown)));
        }
        (old, new) if old != new => drop(found.insert(field(object, at, old.is_null()))),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(kind: &str, name: &str, spec: Json) -> Json {
        json!({"kind": kind, "metadata": {"name": name}, "spec": spec})
    }

    fn told(before: &[Json], after: &[Json]) -> Vec<String> {
        let fields = fields_that_differ(before, after);
        fields.iter().map(|field| format!("{} {} {}", field.kind, field.name, field.dotted())).collect()
    }

    #[test]
    fn a_changed_field_is_told_and_nothing_else() {
        let before = [object("StatefulSet", "web", json!({"replicas": 3, "list": [{"a.b": 1}, 2]}))];
        let after = [object("StatefulSet", "web", json!({"replicas": 4, "list": [{"a.b": 2}, 2, 3]}))];
        assert_eq!(
            told(&before, &after),
            [
                "StatefulSet web spec.list[0][\"a.b\"]",
                "StatefulSet web spec.list[2]",
                "StatefulSet web spec.replicas"
            ]
        );
        assert_eq!(told(&before, &before), [""; 0]);
    }

    #[test]
    fn objects_come_go_and_get_other_names() {
        let (web, other) = (object("Service", "web", json!({})), object("Service", "other", json!({})));
        assert_eq!(
            told(std::slice::from_ref(&web), std::slice::from_ref(&other)),
            ["Service web metadata.name"]
        );
        assert_eq!(told(std::slice::from_ref(&web), &[web.clone(), other.clone()]), ["Service other "]);
        assert_eq!(told(&[web.clone(), other], &[web]), ["Service other "]);
    }
}
