//! Whether the counts on a page are each pod's own, and outlived a pod.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use regex::Regex;

use super::counts::{Count, Of, counts};
use super::markdown::{Line, Page};
use super::missing;
use super::topics::{self, SAME, Topic};
use crate::evidence::grade::Under;

/// What is wrong with the counts of the pods that a page shows.
pub(super) fn storage(page: &Page) -> Under {
    let mut lines = page.about(&[Topic::Storage]);
    if are_of_one(&counts(&lines)) {
        lines = page.but(&[Topic::Updates]);
    }
    let counts = counts(&lines);
    match counts.first() {
        None => missing(page, Topic::Storage, "no count of a pod is shown".to_owned()),
        Some(first) if are_of_one(&counts) => {
            let why = format!("line {}: the count of one pod is shown, and of no other", first.line);
            missing(page, Topic::Storage, why)
        }
        Some(_) => match alike(&counts) {
            Some(Count { line, value, .. }) if !is_explained(&lines) => Under::Fault(format!(
                "line {line}: every pod shows {value}; nothing tells whether that is a count of each or one of all"
            )),
            _ => Under::Sound,
        },
    }
}

/// What is wrong with the test of persistence that a page shows.
pub(super) fn persistence(page: &Page) -> Under {
    let mut lines = page.about(&[Topic::Persistence]);
    if deletions(&lines).is_empty() || counts(&lines).is_empty() {
        lines = page.but(&[Topic::Updates]);
    }
    let (deletions, counts) = (deletions(&lines), counts(&lines));
    let lacks = |why: &str| missing(page, Topic::Persistence, why.to_owned());
    match counts.as_slice() {
        _ if deletions.is_empty() => lacks("no deletion of a pod is shown"),
        [] => lacks("no count before and after a deletion is shown"),
        [after] => {
            let earlier = self::counts(&page.but(&[Topic::Updates]));
            let same = |count: &&Count| count.line < after.line && count.of.is_some() && count.of == after.of;
            match earlier.iter().rfind(same) {
                Some(before) => lost(&[*before], &[*after]).map_or(Under::Sound, Under::Fault),
                None => lacks(&format!(
                    "line {}: there is no count before the deletion, or none after it",
                    after.line
                )),
            }
        }
        _ => {
            let splits = deletions.iter().map(|line| counts.partition_point(|count| count.line < *line));
            // Commands may stand in one block, and all that they printed in the next: then the counts follow each other.
            let split = splits.into_iter().find(|at| (1..counts.len()).contains(at));
            let (before, after) = counts.split_at(split.unwrap_or(1));
            lost(before, after).map_or(Under::Sound, Under::Fault)
        }
    }
}

/// Where a count is smaller after the deletion than before it, pod by pod. That it is larger is no fault: probes visit too.
fn lost(before: &[Count], after: &[Count]) -> Option<String> {
    let known = |of: &&Count| of.of.is_some();
    let last: BTreeMap<Option<Of>, Count> = before.iter().filter(known).map(|it| (it.of, *it)).collect();
    let first: BTreeMap<Option<Of>, Count> =
        after.iter().rev().filter(known).map(|it| (it.of, *it)).collect();
    let of_pods = first.iter().filter_map(|(of, after)| Some((*last.get(of)?, *after)));
    // Of which pods the others are, nothing tells: then all of them have to be smaller.
    let unknown = |counts: &[Count]| counts.iter().filter(|it| it.of.is_none()).copied().collect::<Vec<_>>();
    let smallest = unknown(before).into_iter().min_by_key(|count| count.value);
    let largest = unknown(after).into_iter().max_by_key(|count| count.value);
    let (from, to) =
        of_pods.chain(smallest.zip(largest)).find(|(before, after)| after.value < before.value)?;
    Some(format!(
        "line {}: the count is {} after the deletion, and was {} before it (line {})",
        to.line, to.value, from.value, from.line
    ))
}

/// Whether there is no count, or none of a second pod.
fn are_of_one(counts: &[Count]) -> bool {
    let of: BTreeSet<Option<Of>> = counts.iter().map(|count| count.of).collect();
    of.len() < 2 && (counts.len() < 2 || of.first().is_some_and(Option::is_some))
}

/// The last of the counts of pods, where all pods show the same; only where it is sure which are of which pod.
fn alike(counts: &[Count]) -> Option<Count> {
    let last: BTreeMap<Option<Of>, Count> = counts.iter().map(|count| (count.of, *count)).collect();
    let values: BTreeSet<u64> = last.values().map(|count| count.value).collect();
    let sure = last.keys().all(|of| matches!(of, Some(Of::Pod(_))));
    last.values().last().filter(|_| sure && values.len() == 1).copied()
}

fn is_explained(lines: &[&Line]) -> bool {
    lines.iter().filter(|line| line.block.is_none()).any(|line| topics::names(&line.text, SAME))
}

/// The lines at which something is deleted.
fn deletions(lines: &[&Line]) -> Vec<usize> {
    static DELETION: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"(?i)\bdelet(?:e|ed|ing)\b|\bkill|\bудал").expect("the pattern is one"));
    lines.iter().filter(|line| DELETION.is_match(&line.text)).map(|line| line.number).collect()
}
