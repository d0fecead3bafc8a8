//! The values of a chart as paths, and other values for each that its templates may take.

use std::fmt;

use serde_json::{Map, Value as Json, json};

use model::field;

/// Words of Kubernetes of which a value may be one, and that another of the same line may take the place of.
const WORDS: [&[&str]; 9] = [
    &["RollingUpdate", "OnDelete"],
    &["OrderedReady", "Parallel"],
    &["Retain", "Delete"],
    &["ClusterIP", "NodePort", "LoadBalancer"],
    &["IfNotPresent", "Always", "Never"],
    &["ReadWriteOnce", "ReadWriteMany", "ReadWriteOncePod"],
    &["Deployment", "StatefulSet", "DaemonSet"],
    &["deployment", "statefulset"],
    &["before-hook-creation", "hook-succeeded", "before-hook-creation,hook-succeeded"],
];

/// Whether Kubernetes has this word.
pub(super) fn is_word(text: &str) -> bool {
    WORDS.iter().any(|words| words.contains(&text))
}

/// `wanted` as it is spelled among the words of which `now` is one.
pub(super) fn word(now: &str, wanted: &str) -> Option<Json> {
    let line = WORDS.iter().find(|words| words.contains(&now))?;
    line.iter().find(|word| word.eq_ignore_ascii_case(wanted)).map(|word| json!(word))
}

/// Where a value stands: the keys on the way to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Path(pub(super) Vec<String>);

impl Path {
    /// The value there.
    pub(super) fn of<'a>(&self, values: &'a Json) -> Option<&'a Json> {
        self.0.iter().try_fold(values, |value, key| value.get(key))
    }

    /// Whether `other` is on the way to it.
    pub(super) fn starts_with(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0)
    }
}

impl fmt::Display for Path {
    /// As `helm --set` takes it: a dot in a key is escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<String> = self.0.iter().map(|key| key.replace('.', "\\.")).collect();
        f.write_str(&keys.join("."))
    }
}

/// The paths of all values that hold no others; a list counts as one value.
pub(super) fn leaves(values: &Json) -> Vec<Path> {
    fn walk(value: &Json, way: &mut Vec<String>, found: &mut Vec<Path>) {
        match value {
            Json::Object(entries) if !entries.is_empty() => {
                for (key, value) in entries {
                    way.push(key.clone());
                    walk(value, way, found);
                    way.pop();
                }
            }
            _ if way.is_empty() => {}
            _ => found.push(Path(way.clone())),
        }
    }
    let mut found = Vec::new();
    walk(values, &mut Vec::new(), &mut found);
    found
}

/// `values` with another value at `path`.
pub(super) fn with(values: &Json, path: &Path, value: Json) -> Json {
    let mut values = values.clone();
    field::put(&mut values, path.0.iter().map(String::as_str), value);
    values
}

/// Other values, in the order in which they are tried: what the schema allows, words of Kubernetes, and what looks
/// like the value that is there.
pub(super) fn candidates(path: &Path, now: Option<&Json>, schema: &Json) -> Vec<Json> {
    let mut tries = words(path, now, schema);
    match now {
        Some(Json::Bool(on)) => tries.push(json!(!on)),
        Some(Json::Number(number)) => match number.as_i64() {
            Some(number) => tries.extend([json!(number + 1), json!(number + 7), json!(number - 1)]),
            None => tries.push(json!(number.as_f64().unwrap_or(0.0) + 1.0)),
        },
        Some(Json::String(text)) => tries.extend(texts(text)),
        Some(Json::Array(items)) => {
            let mut fewer = items.clone();
            if fewer.pop().is_some() {
                tries.push(Json::Array(fewer));
            }
            let more = |item: Json| Json::Array(items.iter().cloned().chain([item]).collect());
            tries.extend([more(json!({"name": "traced", "value": "traced"})), more(json!("traced"))]);
            tries.push(more(json!({"name": "traced"})));
            tries.extend(of_type(path, schema));
        }
        Some(Json::Object(_)) => {
            tries.push(json!({"traced": "traced"}));
            tries.extend(at(path, schema).into_iter().flat_map(|described| samples(described, schema)));
        }
        Some(Json::Null) | None => {
            tries.extend([json!("traced"), json!(7), json!(true), json!({"traced": "traced"})]);
            tries.extend([json!([{"name": "traced"}]), json!(["traced"]), json!("1Mi")]);
        }
    }
    tries.retain(|candidate| Some(candidate) != now);
    tries
}

/// Other words of the same enumeration: the schema's, or one that Kubernetes has.
pub(super) fn words(path: &Path, now: Option<&Json>, schema: &Json) -> Vec<Json> {
    let allowed = at(path, schema).and_then(|schema| schema["enum"].as_array());
    let known = now.and_then(Json::as_str).and_then(|now| WORDS.iter().find(|words| words.contains(&now)));
    let words: Vec<Json> = match (allowed, known) {
        (Some(allowed), _) => allowed.clone(),
        (None, Some(known)) => known.iter().map(|word| json!(word)).collect(),
        (None, None) => Vec::new(),
    };
    words.into_iter().filter(|word| Some(word) != now).collect()
}

/// A text that is like this one and another: a number grows, with whatever stands behind it.
fn texts(text: &str) -> Vec<Json> {
    let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let mut tries = Vec::new();
    if let Ok(number) = text[..digits].parse::<u64>() {
        tries.push(json!(format!("{}{}", number.saturating_add(1), &text[digits..])));
    }
    tries.extend([json!(format!("{text}traced")), json!("traced"), json!("7"), json!("50%"), json!("1Mi")]);
    if text.is_empty() {
        tries.extend([json!(7), json!(true), json!({"traced": "traced"})]);
    } else {
        tries.push(json!(""));
    }
    tries
}

/// Lists of one item as the schema describes it.
fn of_type(path: &Path, schema: &Json) -> Vec<Json> {
    let items = at(path, schema).and_then(|described| described.get("items"));
    let items = items.into_iter().flat_map(|items| samples(resolve(items, schema), schema));
    items.map(|item| json!([item])).collect()
}

/// Small objects that fit what the schema describes: with all that it requires, or with one of its properties.
fn samples(described: &Json, schema: &Json) -> Vec<Json> {
    let Some(properties) = described["properties"].as_object() else { return Vec::new() };
    let sample = |key: &String| {
        let property = properties.get(key).map(|property| resolve(property, schema));
        let value = match property.and_then(|property| property["type"].as_str()) {
            Some("integer" | "number") => json!(1),
            Some("boolean") => json!(true),
            Some("object") => json!({}),
            Some("array") => json!([]),
            _ => property
                .and_then(|property| property["enum"].get(0).cloned())
                .unwrap_or_else(|| json!("traced")),
        };
        (key.clone(), value)
    };
    let required = described["required"].as_array().into_iter().flatten().filter_map(Json::as_str);
    let all: Map<String, Json> = required.map(|key| sample(&key.to_owned())).collect();
    if !all.is_empty() {
        return vec![Json::Object(all)];
    }
    properties.keys().map(|key| Json::Object(Map::from_iter([sample(key)]))).collect()
}

/// What the schema says of a value.
fn at<'a>(path: &Path, schema: &'a Json) -> Option<&'a Json> {
    let mut here = schema;
    for key in &path.0 {
        here = resolve(here.get("properties")?.get(key)?, schema);
    }
    Some(here)
}

/// <https://json-schema.org/understanding-json-schema/structuring#dollarref>, inside the same document.
fn resolve<'a>(here: &'a Json, schema: &'a Json) -> &'a Json {
    let reference = here["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'));
    reference.and_then(|pointer| schema.pointer(pointer)).unwrap_or(here)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_are_found_in_their_order_and_changed_alone() {
        let values = json!({"replicas": 3, "image": {"tag": "", "pull": []}, "labels": {}, "a.b": null});
        let paths: Vec<String> = leaves(&values).iter().map(ToString::to_string).collect();
        assert_eq!(paths, ["replicas", "image.tag", "image.pull", "labels", "a\\.b"]);
        let path = &leaves(&values)[1];
        assert_eq!(
            with(&json!({"image": {"pull": [1]}}), path, json!("x")),
            json!({"image": {"pull": [1], "tag": "x"}})
        );
        assert_eq!(with(&Json::Null, path, json!("x")), json!({"image": {"tag": "x"}}));
    }

    #[test]
    fn another_value_is_like_the_one_that_is_there() {
        let first = |now: Json| candidates(&Path(vec!["x".to_owned()]), Some(&now), &Json::Null)[0].clone();
        assert_eq!(first(json!(3)), json!(4));
        assert_eq!(first(json!(false)), json!(true));
        assert_eq!(first(json!("100Mi")), json!("101Mi"));
        assert_eq!(first(json!("RollingUpdate")), json!("OnDelete"));
        let schema = json!({"properties": {"x": {"$ref": "#/definitions/word"}},
            "definitions": {"word": {"enum": ["red", "green"]}}});
        assert_eq!(candidates(&Path(vec!["x".to_owned()]), Some(&json!("red")), &schema)[0], json!("green"));
        for now in [json!(3), json!(""), json!("a"), json!([1]), json!({}), Json::Null, json!(true)] {
            assert!(
                !candidates(&Path(vec!["x".to_owned()]), Some(&now), &Json::Null).contains(&now),
                "{now}"
            );
        }
    }
}
