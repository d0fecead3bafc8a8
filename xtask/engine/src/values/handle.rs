//! The value of a chart that drives a field: found by giving it what the field shall be, and looking at the field.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use futures::StreamExt;
use serde_json::{Value as Json, json};

use super::chart::ChartFiles;
use super::probe::{self, Path as ValuePath, leaves, with};
use super::{Renderer, at_once};
use crate::lab::changes::has;
use crate::lab::release::Handle;
use machine::command::Command;
use model::settings::Wanted;

/// Values that are tried for one field; those whose names are like its own come first.
const TRIES: usize = 24;
/// One rendering, also on a machine that is busy making a cluster.
const DEADLINE: Duration = Duration::from_secs(60);

/// What else people call a field.
const CALLED: [(&str, &[&str]); 5] = [
    ("replicas", &["replica", "count"]),
    ("storage", &["size", "capacity"]),
    ("type", &["strategy"]),
    ("workload", &["stateful", "sts", "kind", "deploy"]),
    ("storageClassName", &["class"]),
];

/// The values that drive these fields; those that none drives are left out. `helm` renders the chart, `objects` is what
/// it renders as it is.
///
/// # Errors
/// It is no chart.
pub(crate) async fn handles(
    helm: Command,
    chart: &Path,
    wanted: &[Wanted],
    objects: &[Json],
) -> Result<BTreeMap<String, Handle>> {
    let files = ChartFiles::read(chart)?;
    let defaults = files.values()?;
    let mut paths = leaves(&defaults);
    let named = files.named_in_templates();
    paths.extend(named.into_iter().filter(|path| path.of(&defaults).is_none()));
    let render = Renderer::of(helm.deadline(DEADLINE))?;
    let found = wanted.iter().map(|wanted| async {
        // What is so already proves nothing: another value must show.
        let already = has(objects, wanted) == Some(true);
        let shown =
            if already { Wanted { value: other(&wanted.value), ..wanted.clone() } } else { wanted.clone() };
        for (path, given) in tries(&shown, &defaults, &paths) {
            let rendered = render.with(&with(&Json::Null, &path, given.clone())).await;
            if rendered.is_ok_and(|objects| has(&objects, &shown) == Some(true)) {
                let given = (!already && given != wanted.value).then_some(given);
                return Some((wanted.field.clone(), Handle { path: path.0, given }));
            }
        }
        None
    });
    let found: Vec<_> = futures::stream::iter(found).buffered(at_once()).collect().await;
    Ok(found.into_iter().flatten().collect())
}

/// Another value of the same kind.
fn other(value: &Json) -> Json {
    match value {
        Json::Bool(on) => json!(!on),
        value => probe::candidates(&ValuePath(Vec::new()), Some(value), &Json::Null).swap_remove(0),
    }
}

/// The values that may drive a field, each with what it is given, in the order in which they are tried.
fn tries(wanted: &Wanted, defaults: &Json, paths: &[ValuePath]) -> Vec<(ValuePath, Json)> {
    let keys: Vec<&str> = wanted.field.split('.').collect();
    let mut found: Vec<(usize, ValuePath, Json)> = Vec::new();
    for path in paths {
        // `updateStrategy` may be a block that is taken over whole: the field then stands in it as in the object.
        for (depth, key) in path.0.iter().enumerate() {
            let at = keys[..keys.len() - 1].iter().position(|of| of.eq_ignore_ascii_case(key));
            if let Some(at) = at {
                let rest = keys[at + 1..].iter().map(|key| (*key).to_owned());
                let inside = ValuePath(path.0[..=depth].iter().cloned().chain(rest).collect());
                found.push((1, inside, wanted.value.clone()));
            }
        }
        let likeness = likeness(path, keys[keys.len() - 1]);
        if let Some(given) = given(path.of(defaults), &wanted.value, likeness) {
            found.push((likeness, path.clone(), given));
        }
    }
    found.sort_by_key(|(likeness, ..)| *likeness);
    let mut tries: Vec<(ValuePath, Json)> = Vec::new();
    for (_, path, given) in found {
        if tries.iter().all(|(known, _)| *known != path) && tries.len() < TRIES {
            tries.push((path, given));
        }
    }
    tries
}

/// Not like it at all.
const UNLIKE: usize = 3;

/// How far a value's name is from that of a field: none, or up to [`UNLIKE`].
fn likeness(path: &ValuePath, field: &str) -> usize {
    let last = path.0.last().map(|key| key.to_lowercase()).unwrap_or_default();
    let whole = path.to_string().to_lowercase();
    let called = CALLED.iter().find(|(name, _)| *name == field).map_or(&[][..], |(_, called)| called);
    let words = words(field);
    let mut words = words.iter().map(String::as_str).chain(called.iter().copied()).peekable();
    if last == field.to_lowercase() {
        return 0;
    }
    let words: Vec<&str> = std::iter::from_fn(|| words.next()).collect();
    if words.iter().any(|word| last.contains(word)) {
        1
    } else if words.iter().any(|word| whole.contains(word)) {
        2
    } else {
        UNLIKE
    }
}

/// The words of a name: `podManagementPolicy` has `management` and `policy`; short ones say nothing.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for letter in name.chars() {
        if letter.is_ascii_uppercase() {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut() {
            word.extend(letter.to_lowercase());
        }
    }
    words.retain(|word| word.len() > 3 && word != "name");
    words
}

/// What a value is given to make a field so. `None` where a value like this can't.
fn given(default: Option<&Json>, wanted: &Json, likeness: usize) -> Option<Json> {
    let alike = likeness < UNLIKE;
    match (default, wanted) {
        (None | Some(Json::Null), _) => alike.then(|| wanted.clone()),
        (Some(Json::Number(_)), Json::Number(_)) => Some(wanted.clone()),
        // A switch, for what is either there or not.
        (Some(Json::Bool(on)), Json::Bool(_) | Json::String(_)) => alike.then(|| json!(!on)),
        (Some(Json::String(now)), Json::String(word)) => match probe::word(now, word) {
            Some(word) => Some(word),
            None => (alike && !probe::is_word(now)).then(|| wanted.clone()),
        },
        (Some(Json::String(now)), Json::Number(_)) => {
            (alike && (now.is_empty() || now.parse::<u64>().is_ok())).then(|| wanted.clone())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tried(field: &str, value: Json, values: Json) -> Vec<String> {
        let wanted = Wanted { field: field.to_owned(), value };
        let tries = tries(&wanted, &values, &leaves(&values));
        tries.iter().map(|(path, given)| format!("{path}={given}")).collect()
    }

    #[test]
    fn values_of_a_like_name_are_tried_first_and_others_of_its_type_too() {
        let values = json!({"port": 80, "replicaCount": 1, "image": "a", "n": {"replicas": 2}});
        assert_eq!(tried("replicas", json!(3), values), ["n.replicas=3", "replicaCount=3", "port=3"]);
    }

    #[test]
    fn a_block_that_is_taken_over_whole_is_tried_inside() {
        let values = json!({"statefulset": {"updateStrategy": {"type": "RollingUpdate"}}});
        assert_eq!(
            tried("updateStrategy.rollingUpdate.partition", json!(2), values),
            ["statefulset.updateStrategy.rollingUpdate.partition=2"]
        );
        let bare = json!({"strategy": "RollingUpdate", "policy": "Parallel"});
        assert_eq!(tried("updateStrategy.type", json!("OnDelete"), bare), ["strategy=\"OnDelete\""]);
    }

    #[test]
    fn a_word_is_given_as_the_chart_spells_it_and_a_switch_is_turned() {
        let values = json!({"workload": "statefulset", "statefulset": {"enabled": true}});
        assert_eq!(
            tried("workload", json!("Deployment"), values),
            ["workload=\"deployment\"", "statefulset.enabled=false"]
        );
        let hooks = json!({"hooks": {"enabled": false}, "debug": false});
        assert_eq!(tried("hooks", json!(true), hooks), ["hooks.enabled=true"]);
    }
}
