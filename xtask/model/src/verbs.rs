//! What `kubectl` and `helm` are for in a lab: which command lines it may run, and which of them only read, so that
//! they change nothing in a picture and may be typed again.
//!
//! Both are lists of what is known. A word that is on none may not be run, and what is not known to be harmless is a
//! change.

use crate::expression::Template;

/// Words after which nothing is changed. With `auth`, `cluster-info`, `exec` and `rollout` it depends.
const KUBECTL_READS: &[&str] = &[
    "api-resources",
    "api-versions",
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
/// Words after which something may be.
const KUBECTL_CHANGES: &[&str] = &[
    "annotate",
    "apply",
    "auth",
    "autoscale",
    "cluster-info",
    "create",
    "delete",
    "exec",
    "expose",
    "label",
    "patch",
    "replace",
    "rollout",
    "run",
    "scale",
    "set",
];
/// Words about a node. Only a lab that asks for several of its own may say them, and what they did is undone.
const KUBECTL_NODES: &[&str] = &["cordon", "drain", "taint", "uncordon"];
const HELM_READS: &[&str] = &["get", "history", "list", "ls", "show", "status", "template", "version"];
const HELM_CHANGES: &[&str] = &["install", "lint", "rollback", "test", "uninstall", "upgrade"];
/// Programs inside pods that change nothing, whatever follows them.
const INSIDE: &[&str] = &["cat", "df", "head", "id", "ls", "nslookup", "stat", "tail"];

/// Options that lead out of the experiment's namespace or its cluster, to another user, to another program, or into
/// files of this machine.
const REFUSED: &[&str] = &[
    "all-namespaces",
    "as",
    "as-group",
    "as-uid",
    "as-user-extra",
    "cache-dir",
    "certificate-authority",
    "client-certificate",
    "client-key",
    "cluster",
    "content-cache",
    "context",
    "create-namespace",
    "insecure-skip-tls-verify",
    "kube-apiserver",
    "kube-as-group",
    "kube-as-user",
    "kube-ca-file",
    "kube-context",
    "kube-insecure-skip-tls-verify",
    "kube-tls-server-name",
    "kube-token",
    "kubeconfig",
    "kuberc",
    "namespace",
    "output-dir",
    "output-directory",
    "password",
    "post-renderer",
    "post-renderer-args",
    "profile",
    "profile-output",
    "raw",
    "registry-config",
    "repository-cache",
    "repository-config",
    "server",
    "tls-server-name",
    "token",
    "user",
    "username",
];
/// Their short forms: all namespaces, the namespace, the server.
const REFUSED_LETTERS: &[char] = &['A', 'n', 's'];
/// Letters that take what follows them for their value.
const VALUED_LETTERS: &[char] = &['c', 'e', 'f', 'k', 'l', 'L', 'o', 'v'];
/// Kinds that belong to the cluster and to everybody on it.
const CLUSTER_WIDE: &[&str] = &[
    "clusterrole",
    "clusterrolebinding",
    "clusterrolebindings",
    "clusterroles",
    "crd",
    "crds",
    "customresourcedefinition",
    "customresourcedefinitions",
    "namespace",
    "namespaces",
    "no",
    "node",
    "nodes",
    "ns",
    "persistentvolume",
    "persistentvolumes",
    "priorityclass",
    "priorityclasses",
    "pv",
    "sc",
    "storageclass",
    "storageclasses",
];

/// Whether a command line of `kubectl` or `helm` changes nothing, however often it is run.
pub fn only_reads<Word: AsRef<str>>(argv: &[Word]) -> bool {
    let words: Vec<&str> = argv.iter().map(AsRef::as_ref).collect();
    let Some((tool, words)) = words.split_first() else { return false };
    match (*tool, behind_options(words)) {
        ("kubectl", ["exec", rest @ ..]) => reads_inside(rest),
        ("kubectl", ["rollout", "history" | "status", ..]) => true,
        ("kubectl", ["auth", "can-i" | "whoami", ..]) => true,
        ("kubectl", ["cluster-info"]) => true,
        ("kubectl", [verb, ..]) => KUBECTL_READS.contains(verb),
        ("helm", [verb, rest @ ..]) => HELM_READS.contains(verb) && !rest.iter().any(|word| is_refused(word)),
        _ => false,
    }
}

/// What stands behind the options that we put before the verb ourselves. Before any other nobody knows without the
/// tool's own lists whether the next word is its value or the verb.
fn behind_options<'a, 'b>(words: &'a [&'b str]) -> &'a [&'b str] {
    match words {
        ["--namespace" | "--kube-as-user", _, rest @ ..] => behind_options(rest),
        [option, rest @ ..] if option.starts_with("--") && option.contains('=') => behind_options(rest),
        _ => words,
    }
}

/// Whether the program that `kubectl exec` starts inside a pod changes nothing.
fn reads_inside(words: &[&str]) -> bool {
    let mut words = words.iter().skip_while(|word| **word != "--").skip(1);
    match words.next() {
        // With words behind them these run another program, and give the pod another name.
        Some(&"env" | &"hostname") => words.next().is_none(),
        Some(program) => INSIDE.contains(program),
        None => false,
    }
}

/// Whether a command line does something to a node.
pub fn about_nodes(words: &[Template]) -> bool {
    let fixed = |at: usize| words.get(at).and_then(Template::fixed);
    fixed(0) == Some("kubectl") && fixed(1).is_some_and(|verb| KUBECTL_NODES.contains(&verb))
}

/// Why a lab may not run a command line.
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The word it is about, as far as it is known before there are values; empty for the whole line.
    pub word: String,
    /// What is wrong with it.
    pub says: String,
}

/// Why a lab may not run a command line, if so: it has the experiment's namespace to itself, and nothing beside it.
///
/// This keeps a lab that was written in good faith from what it did not mean. A lab is a program all the same: what
/// it may do inside its namespace is enough for much that its reader would not want. Where it has `nodes` of its own, it
/// may drain them.
pub fn refusal(words: &[Template], nodes: bool) -> Option<Refusal> {
    let on_nodes = about_nodes(words);
    let refuse = |word: &str, says: String| Some(Refusal { word: word.to_owned(), says });
    let (tool, words) = words.split_first()?;
    let (tool, reads, changes) = match tool.fixed() {
        Some("kubectl") => ("kubectl", KUBECTL_READS, KUBECTL_CHANGES),
        Some("helm") => ("helm", HELM_READS, HELM_CHANGES),
        _ => return refuse("", "only kubectl and helm can be run".to_owned()),
    };
    let Some(verb) = words.first().and_then(Template::fixed) else {
        return refuse("", format!("what {tool} shall do must stand right behind its name, as it is"));
    };
    if on_nodes && !nodes {
        let says =
            format!("`{tool} {verb}` needs nodes of the lab's own: `needs: {{ nodes: 3 }}` asks for them");
        return refuse(verb, says);
    }
    if !on_nodes && !reads.contains(&verb) && !changes.contains(&verb) {
        let mut known = [reads, changes].concat();
        known.sort_unstable();
        let says = format!("`{tool} {verb}` is nothing that a lab may run; it may {}", known.join(", "));
        return refuse(verb, says);
    }
    for word in words[1..].iter().take_while(|word| word.fixed() != Some("--")) {
        let literal = word.literal();
        if literal.starts_with('-') && word.varies() && !literal.contains('=') {
            return refuse(literal, "an option takes a value as in `--name=${value}`".to_owned());
        }
        if is_refused(literal) {
            let option = literal.split('=').next().unwrap_or(literal);
            let says = format!(
                "no lab may say `{option}`: it has its experiment's namespace to itself, and nothing beside it"
            );
            return refuse(literal, says);
        }
        let mut kinds = literal.split(',').filter_map(|kind| kind.split(['/', '.']).next());
        let wide = kinds.find(|kind| CLUSTER_WIDE.contains(&kind.to_lowercase().as_str()));
        if let Some(kind) = wide.filter(|_| tool == "kubectl" && !on_nodes && !reads.contains(&verb)) {
            return refuse(
                literal,
                format!("`{kind}` belongs to the whole cluster, and a lab changes none of it"),
            );
        }
    }
    None
}

/// Whether an option is one of those that are refused.
fn is_refused(word: &str) -> bool {
    let Some(name) = word.strip_prefix('-') else { return false };
    match name.strip_prefix('-') {
        Some(name) => name.split('=').next().is_some_and(|name| REFUSED.contains(&name)),
        None => name
            .chars()
            .take_while(|c| c.is_ascii_alphabetic() && !VALUED_LETTERS.contains(c))
            .any(|c| REFUSED_LETTERS.contains(&c)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expression::{CommandLine, Compile};

    fn reads(line: &str) -> bool {
        only_reads(&shell_words::split(line).unwrap())
    }

    #[test]
    fn what_looks_changes_nothing() {
        for line in [
            "kubectl get pods",
            "kubectl --namespace lab get",
            "kubectl --namespace=lab --v=3 describe pods",
            "kubectl --namespace lab rollout history statefulset counter",
            "kubectl --namespace lab auth can-i get pods",
            "kubectl --namespace lab exec counter-0 -- cat /data/visits",
            "kubectl --namespace lab exec counter-0 -- env",
            "helm --kube-as-user lab:a --namespace lab status counter",
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

    #[test]
    fn what_only_looks_like_reading_is_a_change() {
        for line in [
            "kubectl exec counter-0 -- env touch /tmp/unready",
            "kubectl exec counter-0 -- hostname other",
            "kubectl auth reconcile --filename roles.yaml",
            "kubectl cluster-info dump --output-directory=/tmp/x",
            // The word behind an option need not be its value.
            "kubectl --warnings-as-errors delete get pods",
            "helm --debug uninstall status",
            "helm template counter ./chart --output-dir out",
        ] {
            assert!(!reads(line), "{line}");
        }
    }

    fn refused(line: &str) -> Option<String> {
        refusal(CommandLine::compile(line).unwrap().words(), false).map(|refusal| refusal.word)
    }

    #[test]
    fn what_leads_out_of_the_namespace_is_refused() {
        for (line, word) in [
            ("kubectl get pods --kubeconfig /elsewhere/config", "--kubeconfig"),
            ("kubectl get pods --kubeconfig=/elsewhere/config", "--kubeconfig=/elsewhere/config"),
            ("kubectl delete pods --all --namespace kube-system", "--namespace"),
            ("kubectl delete pods --all -n kube-system", "-n"),
            ("kubectl delete pods --all -nkube-system", "-nkube-system"),
            ("kubectl logs counter-0 -pn kube-system", "-pn"),
            ("kubectl get pods -A", "-A"),
            ("kubectl get --raw /api", "--raw"),
            ("kubectl get pods ${a} --context=other", "--context=other"),
            ("kubectl get pods --${a}", "--"),
            ("kubectl get pods -${a}", "-"),
            ("kubectl ${a} pods", ""),
            ("kubectl", ""),
            ("kubectl --namespace x get pods", "--namespace"),
            ("kubectl config use-context other", "config"),
            ("kubectl delete namespace other", "namespace"),
            ("kubectl delete pods,nodes --all", "pods,nodes"),
            ("kubectl label node/lab x=y", "node/lab"),
            ("helm plugin install https://example.com/plugin", "plugin"),
            ("helm upgrade counter . --post-renderer ./run.sh", "--post-renderer"),
            ("helm list --kube-context other", "--kube-context"),
            ("rm -rf /", ""),
            ("${a} get pods", ""),
        ] {
            assert_eq!(refused(line).as_deref(), Some(word), "{line}");
        }
    }

    #[test]
    fn what_a_lab_needs_is_not() {
        for line in [
            "kubectl get pods,statefulsets --output=custom-columns=NAME:.metadata.name",
            "kubectl get nodes -o wide -lapp=none",
            "kubectl delete pod ${a} --grace-period=0 --force",
            "kubectl label pod ${a} app.kubernetes.io/component-",
            "kubectl exec ${a} -- sh -c 'id -n'",
            "kubectl scale statefulset ${a} --replicas=${b}",
            "kubectl rollout undo statefulset ${a}",
            "helm history ${a}",
        ] {
            assert_eq!(refused(line), None, "{line}");
        }
    }

    #[test]
    fn a_node_is_drained_only_where_it_is_the_labs_own() {
        let refused = |line: &str, nodes: bool| {
            refusal(CommandLine::compile(line).unwrap().words(), nodes).map(|refusal| refusal.word)
        };
        for line in ["kubectl drain ${a} --ignore-daemonsets", "kubectl taint nodes ${a} a=b:NoExecute"] {
            assert_eq!(refused(line, true), None, "{line}");
            assert!(refused(line, false).is_some(), "{line}");
            assert!(about_nodes(CommandLine::compile(line).unwrap().words()), "{line}");
        }
        assert_eq!(refused("kubectl delete node ${a}", true).as_deref(), Some("node"));
        assert_eq!(refused("kubectl drain ${a} --kubeconfig=x", true).as_deref(), Some("--kubeconfig=x"));
    }
}
