//! The words by which a page says what it is about. To understand another language, add its words to the tables.

use std::collections::BTreeSet;

/// What a section of a page is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Topic {
    /// What a StatefulSet is, and why one is used.
    Overview,
    /// What it guarantees, and how it differs.
    Concepts,
    /// What is installed.
    Listing,
    /// Names and DNS.
    Identity,
    /// What each pod keeps.
    Storage,
    /// What outlives a pod.
    Persistence,
    /// How pods are updated; no part of the documentation that is asked for.
    Updates,
}

impl Topic {
    /// All of them.
    pub(super) const ALL: &[Self] = &[
        Self::Overview,
        Self::Concepts,
        Self::Listing,
        Self::Identity,
        Self::Storage,
        Self::Persistence,
        Self::Updates,
    ];

    /// The beginnings of words that headings about it have.
    const fn words(self) -> &'static str {
        match self {
            Self::Overview => {
                "overview, why, when to, what is, introduc, purpose, motivation, background, about, \
                 обзор, зачем, почему, когда, что такое, введен, цел, назначен"
            }
            Self::Concepts => {
                "overview, concept, guarant, differ, compar, vs, versus, deployment or, theory, headless, \
                 обзор, концеп, понят, гарант, сравн, отлич, различ, против, теор"
            }
            Self::Listing => {
                "resource, listing, verif, installed, deployed, objects, kubectl get, status, \
                 ресурс, проверк, объект, установ, список"
            }
            Self::Identity => {
                "network, dns, identit, resol, nslookup, headless, сет, имен, имён, идент, разреш"
            }
            Self::Storage => {
                "storage, per-pod, per pod, isolat, visit, count, volume, pvc, \
                 хран, изол, том, счетч, счётч, посещ"
            }
            Self::Persistence => {
                "persistence, persistency, persist test, surviv, delet, restart, recreat, \
                 сохран, удал, переж, перезап, постоянств"
            }
            Self::Updates => "bonus, update, partition, ondelete, on-delete, rolling, бонус, обновл",
        }
    }
}

/// What a heading, or the text of a picture, says it is about.
pub(super) fn of(title: &str) -> BTreeSet<Topic> {
    let found: BTreeSet<Topic> =
        Topic::ALL.iter().copied().filter(|topic| names(title, topic.words())).collect();
    // `OnDelete` deletes pods too, and shows something else with it.
    if found.contains(&Topic::Updates) { BTreeSet::from([Topic::Updates]) } else { found }
}

/// Whether a word of the text, or several in a row, begin like one of these words, which commas part.
pub(super) fn names(text: &str, words: &str) -> bool {
    let text = text.to_lowercase();
    let begins = |at: usize| !text[..at].ends_with(char::is_alphanumeric);
    words.split(", ").any(|word| text.match_indices(word).any(|(at, _)| begins(at)))
}

/// What a StatefulSet guarantees, and by which words it is told.
pub(super) const GUARANTEES: [(&str, &str); 3] = [
    (
        "identity",
        "identi, stable name, stable network, stable dns, stable pod, predictable, ordinal, hostname, \
         идент, имен, имён, имя",
    ),
    ("storage", "storage, volume, pvc, persistentvolumeclaim, persistent, disk, хран, том, диск, данны"),
    ("ordering", "order, sequen, one at a time, one by one, порядк, порядок, упоряд, последоват, очеред"),
];

/// In what a StatefulSet differs from a Deployment, and by which words that is told.
pub(super) const DIFFERENCES: [&str; 4] = [
    "name, suffix, hash, ordinal, random, interchang, имен, имён, имя, суффикс, случайн",
    "storage, volume, pvc, disk, data, state, хран, том, диск, данны, состоян",
    "order, sequen, parallel, scal, порядк, порядок, последоват, масштаб",
    "network, dns, identi, address, hostname, сет, адрес, идент",
];

/// What a StatefulSet is compared with.
pub(super) const DEPLOYMENT: &str = "deployment, rollout, деплоймент, развертыван, развёртыван";

/// Words with `deployment` in them that mean no object of that kind.
pub(super) const NO_DEPLOYMENT: &str = "graceful deployment, ordered deployment, deployment order, deployment.yaml, rollout.yaml, deployment command";

/// A headless service as a thing, and not as a part of names.
pub(super) const HEADLESS: &str = "headless service, headless-service, headless kubernetes service, headless `service, \
                                   headless-сервис, headless сервис";

/// What a headless service has to do with names.
pub(super) const DNS: &str = "dns, resolv, svc.cluster.local, nslookup, a record, разреш";

/// Why a StatefulSet is used.
pub(super) const REASONS: &str = "because, designed for, used for, used when, is used, are used, useful, need, ideal, require, \
                                  потому, нуж, использу, подход, требу";

/// Why counts may be the same.
pub(super) const SAME: &str = "same, equal, identical, evenly, because, since, coincid, \
                               одинак, совпа, потому, так как, поровну";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headings_of_hand_ins_are_understood() {
        let cases: [(&str, &[Topic]); 10] = [
            ("1. StatefulSet Overview", &[Topic::Overview, Topic::Concepts]),
            ("Deployment vs StatefulSet", &[Topic::Concepts]),
            ("3) Network identity & DNS", &[Topic::Identity]),
            ("Headless Services", &[Topic::Concepts, Topic::Identity]),
            ("Per-Pod Storage Evidence", &[Topic::Storage]),
            ("5. Persistence test: what survives a deletion", &[Topic::Persistence]),
            ("Resource Verification", &[Topic::Listing]),
            ("OnDelete Strategy", &[Topic::Updates]),
            ("Проверка ресурсов", &[Topic::Listing]),
            ("Conclusion", &[]),
        ];
        for (title, topics) in cases {
            assert_eq!(of(title), topics.iter().copied().collect(), "{title}");
        }
    }
}
