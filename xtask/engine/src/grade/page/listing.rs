//! What `kubectl get po,sts,svc,pvc` printed on a page, and whether it fits together.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use regex::Regex;

use super::markdown::{Line, Page};
use super::missing;
use super::topics::Topic;
use crate::evidence::grade::Under;
use model::kinds::is_name;

/// The most that is looked at; what a stranger wrote may be made to take long.
const MOST_ROWS: usize = 5000;

/// A kind of object that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Pod,
    StatefulSet,
    Service,
    Claim,
}

/// What is asked for, in words.
const KINDS: [(Kind, &str); 4] = [
    (Kind::Pod, "pods"),
    (Kind::StatefulSet, "StatefulSets"),
    (Kind::Service, "services"),
    (Kind::Claim, "claims"),
];

/// A line of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) kind: Kind,
    pub(super) name: String,
    line: usize,
    block: Option<usize>,
    /// What stands behind the name.
    cells: Vec<String>,
}

/// What is wrong with the listing of a page.
pub(super) fn judge(page: &Page) -> Under {
    let all = rows(&page.lines());
    let of_block =
        |block: usize| all.iter().filter(|row| row.block == Some(block)).cloned().collect::<Vec<_>>();
    let blocks: BTreeSet<usize> = all.iter().filter_map(|row| row.block).collect();
    let whole = blocks.into_iter().map(of_block);
    let parts = [rows(&page.about(&[Topic::Listing])), rows(&page.but(&[Topic::Updates])), all.clone()];
    let Some(listing) = whole.chain(parts).find(|rows| lacking(rows).is_empty()) else {
        return missing(page, Topic::Listing, format!("no listing shows {}", lacking(&all).join(", ")));
    };
    let of = |kind: Kind| listing.iter().filter(move |row| row.kind == kind);
    let sets = || of(Kind::StatefulSet);
    let fault = headless(of(Kind::Service)).or_else(|| {
        sets().find_map(|set| {
            ordinals(set, of(Kind::Pod)).or_else(|| claims(set, of(Kind::Pod), of(Kind::Claim)))
        })
    });
    fault.map_or(Under::Sound, Under::Fault)
}

/// Every line of listings among these, as far as it is surely one.
pub(super) fn rows(lines: &[&Line]) -> Vec<Row> {
    let (mut header, mut block) = (Vec::new(), None);
    let mut rows = Vec::new();
    for line in lines {
        let cells = cells(&line.text);
        if line.block != block || cells.is_empty() {
            (header, block) = (Vec::new(), line.block);
        }
        if cells.first().is_some_and(|cell| cell == "NAME") {
            header = cells;
        } else if let Some(row) = row(line, cells, &header) {
            rows.push(row);
        }
        if rows.len() == MOST_ROWS {
            break;
        }
    }
    rows
}

/// Whether a line is one of a listing.
pub(super) fn is_row(line: &Line) -> bool {
    row(line, cells(&line.text), &[]).is_some()
}

/// The kinds of which there is no row.
fn lacking(rows: &[Row]) -> Vec<&'static str> {
    let there = |kind: Kind| rows.iter().any(|row| row.kind == kind);
    KINDS.iter().filter(|(kind, _)| !there(*kind)).map(|(_, name)| *name).collect()
}

/// The words of a line, also of a table or a list in Markdown.
fn cells(text: &str) -> Vec<String> {
    let bare = text.trim().trim_start_matches("- ").replace(['|', '`', '*'], " ");
    bare.split_whitespace().map(str::to_owned).collect()
}

fn row(line: &Line, cells: Vec<String>, header: &[String]) -> Option<Row> {
    let (name, cells) = cells.split_first()?;
    let (prefix, name) =
        name.split_once('/').map_or((None, name.as_str()), |(prefix, name)| (Some(prefix), name));
    let kind = kind_of_row(cells, prefix.is_some(), header)?;
    let named = match prefix {
        None => kind,
        Some("pod" | "pods" | "po") => Kind::Pod,
        Some("statefulset.apps" | "statefulset" | "statefulsets" | "sts") => Kind::StatefulSet,
        Some("service" | "services" | "svc") => Kind::Service,
        Some("persistentvolumeclaim" | "persistentvolumeclaims" | "pvc") => Kind::Claim,
        Some(_) => return None,
    };
    (named == kind && is_name(name)).then(|| Row {
        kind,
        name: name.to_owned(),
        line: line.number,
        block: line.block,
        cells: cells.to_vec(),
    })
}

/// The kind whose columns these are. Deployments, jobs and nodes have others.
fn kind_of_row(cells: &[String], prefixed: bool, header: &[String]) -> Option<Kind> {
    static READY: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^\d+/\d+$").expect("the pattern is one"));
    static AGE: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"^(?:\d+[smhdy])+$").expect("the pattern is one"));
    let second = cells.first()?.as_str();
    let third = cells.get(1).map_or("", String::as_str);
    let others = ["COMPLETIONS", "UP-TO-DATE", "DESIRED", "HOSTS", "RECLAIM"];
    match second {
        _ if header.iter().any(|column| others.contains(&column.as_str())) => None,
        "ClusterIP" | "NodePort" | "LoadBalancer" | "ExternalName" => Some(Kind::Service),
        "Bound" | "Pending" | "Lost" | "Terminating" => Some(Kind::Claim),
        ready if READY.is_match(ready) => match third {
            status if status.starts_with(|it: char| it.is_ascii_uppercase()) => Some(Kind::Pod),
            // Of a job, too, there is a fraction and then a time; but then one more.
            age if AGE.is_match(age) && !(cells.len() > 2 && AGE.is_match(&cells[2])) => {
                Some(Kind::StatefulSet)
            }
            _ if prefixed => Some(Kind::StatefulSet),
            _ => None,
        },
        _ => None,
    }
}

/// The governing service has no address of its own; which of the services it is, a listing does not say.
fn headless<'a>(services: impl Iterator<Item = &'a Row>) -> Option<String> {
    let services: Vec<&Row> = services.collect();
    if services.iter().any(|row| row.cells.get(1).is_some_and(|address| address == "None")) {
        return None;
    }
    let shown = services.iter().take(3).map(|row| {
        let address = row.cells.get(1).filter(|address| !address.contains('/')).map(String::as_str);
        format!("{} is {} {}", row.name, row.cells[0], address.unwrap_or_default()).trim_end().to_owned()
    });
    let shown = shown.collect::<Vec<_>>().join(", ");
    Some(format!("line {}: no service of the listing is headless: {shown}", services.first()?.line))
}

/// The pods of a set are called after it and count from zero.
fn ordinals<'a>(set: &Row, pods: impl Iterator<Item = &'a Row>) -> Option<String> {
    let Row { name, line, .. } = set;
    let found: BTreeSet<u32> = pods.filter_map(|pod| ordinal(&set.name, &pod.name)).collect();
    let wants_none = set.cells.first().is_some_and(|ready| ready.ends_with("/0"));
    if found.is_empty() && !wants_none {
        return Some(format!("line {line}: the listing has no pod {name}-0 of StatefulSet {name}"));
    }
    let lacks = (0..).zip(&found).find(|(expected, ordinal)| expected != *ordinal);
    lacks.map(|(expected, ordinal)| {
        format!("line {line}: the listing has pod {name}-{ordinal} of StatefulSet {name}, and no {name}-{expected}")
    })
}

/// Every pod of a set has a bound claim and a volume of its own.
fn claims<'a>(
    set: &Row,
    pods: impl Iterator<Item = &'a Row>,
    claims: impl Iterator<Item = &'a Row>,
) -> Option<String> {
    let claims: Vec<&Row> = claims.collect();
    let mut volumes: Vec<(&str, &Row)> = Vec::new();
    for pod in pods.filter(|pod| ordinal(&set.name, &pod.name).is_some()) {
        let of_pod = |claim: &&&Row| claim.name.strip_suffix(&pod.name).is_some_and(|it| it.ends_with('-'));
        let Some(claim) = claims.iter().find(of_pod) else {
            return Some(format!("line {}: pod {} has no claim in the listing", pod.line, pod.name));
        };
        let Row { name, line, cells, .. } = claim;
        if cells[0] != "Bound" {
            return Some(format!("line {line}: claim {name} is {}", cells[0]));
        }
        let volume = cells.get(1).map_or("", String::as_str);
        let same = volumes.iter().find(|(other, of)| *other == volume && of.name != *name);
        if let Some((_, other)) = same {
            return Some(format!("line {line}: claims {} and {name} share volume {volume}", other.name));
        }
        // What was left out, or is a size because the volume was, tells nothing.
        if volume.contains('-') && !volume.contains("..") && !volume.contains("xxx") {
            volumes.push((volume, claim));
        }
    }
    None
}

/// The ordinal of a pod of this set.
fn ordinal(set: &str, pod: &str) -> Option<u32> {
    pod.strip_prefix(set)?.strip_prefix('-')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<(Kind, String)> {
        rows(&Page::parse(text).lines()).into_iter().map(|row| (row.kind, row.name)).collect()
    }

    #[test]
    fn rows_are_known_by_their_columns_with_and_without_kind_and_header() {
        let text = "\
$ kubectl get all
web-0   1/1   Running   0   5s
pod/web-1   0/1   CrashLoopBackOff   0   5s
web   3/3   5s
statefulset.apps/web   3/3   nginx
| web-headless | ClusterIP | None | <none> | 80/TCP | 5s |
- `data-web-0` Bound pvc-1 24Mi RWO standard 5s
deployment.apps/web   3/3   3   3   5s
web-job   1/1   4s   5s
pod/web-0 condition met
pv-1   1Gi   RWO   Delete   Bound   default/data-web-0
";
        let expected = [
            (Kind::Pod, "web-0"),
            (Kind::Pod, "web-1"),
            (Kind::StatefulSet, "web"),
            (Kind::StatefulSet, "web"),
            (Kind::Service, "web-headless"),
            (Kind::Claim, "data-web-0"),
        ];
        assert_eq!(kinds(text), expected.map(|(kind, name)| (kind, name.to_owned())));
        assert_eq!(
            kinds("```\nNAME   COMPLETIONS   AGE\nweb   1/1   5s\n\nNAME READY AGE\nset   1/1   5s\n```\n")
                .len(),
            1
        );
    }
}
