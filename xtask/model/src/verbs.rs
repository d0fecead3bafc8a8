//! Which command lines only read: those change nothing in a picture, and may be typed again.

/// Words of `kubectl` after which nothing is changed.
const READING: [&str; 13] = [
    "api-resources",
    "api-versions",
    "auth",
    "cluster-info",
    "describe",
    "diff",
    "events",
    "explain",
    "get",
    "logs",
    "top",
    "version",
    "wait",
];
/// Words of `helm` after which nothing is changed.
const HELM_READING: [&str; 8] = ["get", "history", "list", "ls", "show", "status", "template", "version"];
/// Programs inside pods that change nothing.
const INSIDE: [&str; 10] = ["cat", "df", "env", "head", "hostname", "id", "ls", "nslookup", "stat", "tail"];

/// Whether a command line of `kubectl` or `helm` changes nothing, however often it is run. What is not known to be
/// harmless is not.
pub fn only_reads<Word: AsRef<str>>(argv: &[Word]) -> bool {
    let words: Vec<&str> = argv.iter().map(AsRef::as_ref).collect();
    let mut said = said(&words);
    let verb = said.next().unwrap_or_default();
    match words.first().copied().unwrap_or_default() {
        "kubectl" => match verb {
            "exec" => INSIDE.contains(&inside(&words)),
            "rollout" => said.next().is_some_and(|what| ["history", "status"].contains(&what)),
            verb => READING.contains(&verb),
        },
        "helm" => HELM_READING.contains(&verb),
        _ => false,
    }
}

/// The program that `kubectl exec` starts inside a pod.
fn inside<'a>(words: &[&'a str]) -> &'a str {
    words.iter().skip_while(|word| **word != "--").nth(1).copied().unwrap_or_default()
}

/// The words behind the tool's name that are neither options nor their values: `get` and `pods` in
/// `kubectl --namespace lab get pods`.
fn said<'a>(words: &[&'a str]) -> impl Iterator<Item = &'a str> {
    let mut words = words.iter().skip(1);
    std::iter::from_fn(move || {
        while let Some(word) = words.next() {
            match word.strip_prefix('-') {
                None => return Some(*word),
                Some(option) if !option.contains('=') => _ = words.next(),
                Some(_) => {}
            }
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reads(line: &str) -> bool {
        only_reads(&shell_words::split(line).unwrap())
    }

    #[test]
    fn what_looks_changes_nothing() {
        for line in [
            "kubectl get pods",
            "kubectl --namespace lab get",
            "kubectl --namespace=lab -v 3 describe pods",
            "kubectl --namespace lab rollout history statefulset counter",
            "kubectl --namespace lab exec counter-0 -- cat /data/visits",
            "helm --namespace lab status counter",
        ] {
            assert!(reads(line), "{line}");
        }
    }

    #[test]
    fn what_changes_something_or_is_unknown_is_no_reading() {
        for line in [
            "kubectl",
            "kubectl --namespace lab",
            "kubectl delete pod get",
            "kubectl rollout undo statefulset counter",
            "kubectl rollout",
            "kubectl exec counter-0 -- touch /tmp/unready",
            "kubectl exec counter-0 -- sh -c 'cat /data/visits'",
            "kubectl exec counter-0",
            "helm upgrade --install counter ./chart",
            "sh -c get",
        ] {
            assert!(!reads(line), "{line}");
        }
    }
}
