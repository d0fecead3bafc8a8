//! What was asked of DNS on a page, and whether the names are those of the listing.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use regex::Regex;

use super::listing::{self, Kind};
use super::markdown::{Line, Page};
use super::missing;
use super::topics::Topic;
use crate::evidence::grade::Under;

/// What is wrong with the network identity that a page shows.
pub(super) fn judge(page: &Page) -> Under {
    let about = page.about(&[Topic::Identity]);
    let (lines, anywhere) = if answers(&about).is_empty() { (page.lines(), true) } else { (about, false) };
    let named: BTreeSet<Option<usize>> =
        lines.iter().filter(|line| !names(&line.text).is_empty()).map(|line| line.block).collect();
    let near = |line: &&Line| !anywhere || line.block.is_some() && named.contains(&line.block);
    let lines: Vec<&Line> = lines.into_iter().filter(near).collect();
    let answers = answers(&lines);
    if named.is_empty() || answers.is_empty() {
        let why = if named.is_empty() {
            "no name of a pod, <pod>.<service>, is asked for"
        } else {
            "no answer of DNS with an address is shown"
        };
        return missing(page, Topic::Identity, why.to_owned());
    }
    if let Some((line, address)) = answers.iter().find(|(_, address)| !is_address(address)) {
        return Under::Fault(format!("line {line}: {address} is no address"));
    }
    let rows = listing::rows(&page.lines());
    let known = |kind: Kind| rows.iter().filter(move |row| row.kind == kind).map(|row| row.name.as_str());
    let (pods, services): (BTreeSet<&str>, BTreeSet<&str>) =
        (known(Kind::Pod).collect(), known(Kind::Service).collect());
    for line in lines.iter().filter(|line| is_lookup(&line.text)) {
        for name in names(&line.text) {
            let number = line.number;
            let Name { pod, service } = name;
            if !pods.is_empty() && !pods.contains(pod) {
                return Under::Fault(format!("line {number}: {pod} is no pod of the listing"));
            }
            if !services.is_empty() && !services.contains(service) {
                return Under::Fault(format!("line {number}: {service} is no service of the listing"));
            }
        }
    }
    Under::Sound
}

/// The name of a pod in DNS.
#[derive(Debug, PartialEq, Eq)]
struct Name<'a> {
    pod: &'a str,
    service: &'a str,
}

/// The names of pods in a text. Where one ends after the service, files are called so too.
fn names(text: &str) -> Vec<Name<'_>> {
    static NAME: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"(?:^|[^-\w.>/])([a-z][-a-z0-9]*-\d{1,4})\.([a-z][-a-z0-9]*)(\.[-a-z0-9.]+)?")
            .expect("the pattern is one")
    });
    const OTHERS: &str = "yaml yml json md txt log py sh go rs png jpg html tgz com org net io ru dev local";
    let found = NAME.captures_iter(text).filter_map(|found| {
        let (pod, service) = (found.get(1)?.as_str(), found.get(2)?.as_str());
        let rest = found.get(3).map_or("", |rest| rest.as_str().trim_end_matches('.'));
        let parts: Vec<&str> = rest.split('.').skip(1).collect();
        let last = parts.last().unwrap_or(&service);
        let whole =
            parts.get(1) == Some(&"svc") || parts.len() < 2 && !OTHERS.split(' ').any(|other| other == *last);
        whole.then_some(Name { pod, service })
    });
    found.collect()
}

/// Whether a line asks DNS or is its answer. Elsewhere names may be examples.
fn is_lookup(text: &str) -> bool {
    static LOOKUP: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"\b(?:nslookup|getent|dig|host|gethostbyname\w*|getaddrinfo)\b|^\s*Name:")
            .expect("the pattern is one")
    });
    LOOKUP.is_match(text) || !addresses(text).is_empty()
}

/// The addresses that DNS answered, with their lines: not that of DNS itself, and not those of listings.
fn answers(lines: &[&Line]) -> Vec<(usize, String)> {
    let (mut servers, mut found) = (BTreeSet::new(), Vec::new());
    for line in lines.iter().filter(|line| !listing::is_row(line)) {
        let text = line.text.trim();
        if text.starts_with("Server") || text.starts_with(";; SERVER") {
            servers.extend(addresses(text));
        } else {
            found.extend(addresses(text).into_iter().map(|address| (line.number, address)));
        }
    }
    let local = |address: &str| address.starts_with("127.") || address == "0.0.0.0" || address == "::1";
    found.retain(|(_, address)| !servers.contains(address) && !local(address));
    found
}

/// What looks like an address.
fn addresses(text: &str) -> Vec<String> {
    static ADDRESS: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"(?:^|[^\w.:-])(\d{1,4}\.\d{1,4}\.\d{1,4}\.\d{1,4}|[0-9a-f]{1,4}(?::{1,2}[0-9a-f]{1,4}){3,7})(?:$|[^\w.-])")
            .expect("the pattern is one")
    });
    ADDRESS.captures_iter(text).map(|found| found[1].to_owned()).collect()
}

fn is_address(text: &str) -> bool {
    text.parse::<Ipv4Addr>().is_ok() || text.parse::<Ipv6Addr>().is_ok() || text.contains("::")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_pods_are_told_from_files_hosts_and_patterns() {
        let found = |text: &str| {
            names(text).iter().map(|name| format!("{}.{}", name.pod, name.service)).collect::<Vec<_>>()
        };
        assert_eq!(found("nslookup web-1.web-headless"), ["web-1.web-headless"]);
        assert_eq!(found("('web-1.headless.lab.svc.cluster.local', [], ['10.0.0.1'])"), ["web-1.headless"]);
        assert_eq!(found("- `web-10.headless.lab`."), ["web-10.headless"]);
        for other in
            ["values-2.yaml", "node-1.example.com.", "<set>-1.headless", "python-3.12", "a/web-1.png"]
        {
            assert_eq!(found(other), [""; 0], "{other}");
        }
    }

    #[test]
    fn the_answer_is_not_the_address_of_the_server() {
        let page = Page::parse("Server: 10.96.0.10\nAddress: 10.96.0.10:53\nName: a\nAddress: 10.244.0.5\n");
        assert_eq!(answers(&page.lines()), [(4, "10.244.0.5".to_owned())]);
    }
}
