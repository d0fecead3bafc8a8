//! Whole pages, right and with one mistake each.

use super::*;
use crate::lab::{HAND_IN, Lab};
use machine::workspace::Workspace;

/// A small page with all that is asked for.
const RIGHT: &str = "\
# Lab 15

## Overview

A StatefulSet is used where each replica is a member with data of its own: our counter writes its number to a disk, and
must find it again.

## What it guarantees

Each pod has a stable identity, storage that stays its own, and a place in the order of start and stop.

## Deployment vs StatefulSet

| | Deployment | StatefulSet |
|---|---|---|
| names | random suffix | ordinals |
| storage | shared | a claim each |

## Headless service

A headless service (`clusterIP: None`) has no address of its own; DNS answers with the pods.

## Resource verification

```console
$ kubectl get po,sts,svc,pvc
NAME        READY   STATUS    RESTARTS   AGE
pod/web-0   1/1     Running   0          50s
pod/web-1   1/1     Running   0          40s
pod/web-2   1/1     Running   0          30s

NAME                   READY   AGE
statefulset.apps/web   3/3     50s

NAME                   TYPE        CLUSTER-IP     EXTERNAL-IP   PORT(S)        AGE
service/web            NodePort    10.96.100.50   <none>        80:30080/TCP   50s
service/web-headless   ClusterIP   None           <none>        80/TCP         50s

NAME                               STATUS   VOLUME     CAPACITY   ACCESS MODES   STORAGECLASS   AGE
persistentvolumeclaim/data-web-0   Bound    pvc-aaaa   24Mi       RWO            standard       50s
persistentvolumeclaim/data-web-1   Bound    pvc-bbbb   24Mi       RWO            standard       40s
persistentvolumeclaim/data-web-2   Bound    pvc-cccc   24Mi       RWO            standard       30s
```

## Network identity

```console
$ kubectl exec web-0 -- nslookup web-1.web-headless
Server:    10.96.0.10
Address:   10.96.0.10:53

Name:      web-1.web-headless.default.svc.cluster.local
Address:   10.244.0.6
```

## Per-pod storage

```console
$ kubectl exec web-0 -- cat /data/visits
24
$ kubectl exec web-1 -- cat /data/visits
21
$ kubectl exec web-2 -- cat /data/visits
28
```

## Persistence

```console
$ kubectl exec web-1 -- cat /data/visits
21
$ kubectl delete pod web-1
pod \"web-1\" deleted
$ kubectl exec web-1 -- cat /data/visits
21
```
";

/// The parts that are not sound, with what is told of each.
fn lacks(text: &str) -> Vec<(&'static str, Under)> {
    let page = Page::parse(text);
    let judged = PARTS.iter().map(|(part, judge)| (*part, judge(&page)));
    judged.filter(|(_, under)| *under != Under::Sound).collect()
}

/// The page with something else in the place of something.
fn with(edits: &[(&str, &str)]) -> String {
    edits.iter().fold(RIGHT.to_owned(), |page, (from, to)| {
        assert!(page.contains(from), "the page has no {from}");
        page.replace(from, to)
    })
}

/// The page without a section.
fn without(heading: &str) -> String {
    let start = RIGHT.find(&format!("## {heading}\n")).expect("the page has the heading");
    let end = RIGHT[start + 1..].find("\n## ").map_or(RIGHT.len(), |end| start + 1 + end + 1);
    format!("{}{}", &RIGHT[..start], &RIGHT[end..])
}

fn line_of(text: &str, of: &str) -> usize {
    text.lines().position(|line| line.contains(of)).expect("the line is there") + 1
}

fn hand_in() -> LabSpec {
    let workspace = Workspace::discover().unwrap();
    Lab::of(&workspace, Some(&workspace.root.join(HAND_IN))).unwrap().spec
}

#[test]
fn a_right_page_lacks_nothing() {
    assert_eq!(lacks(RIGHT), []);
}

#[test]
fn what_is_asked_for_is_what_can_be_judged() {
    let lab = hand_in();
    let asked: Vec<&str> = lab.rubric.iter().flat_map(|it| &it.sections).map(String::as_str).collect();
    assert_eq!(asked, PARTS.map(|(part, _)| part));
    assert_eq!(lab.rubric.iter().map(|criterion| criterion.points).sum::<f64>(), 12.5);
}

/// A mistake, the part that it costs, what is told of it, and what stands on the line that is named.
struct Mistake {
    part: &'static str,
    edits: &'static [(&'static str, &'static str)],
    why: &'static str,
    place: &'static str,
}

const MISTAKES: [Mistake; 12] = [
    Mistake {
        part: "Resources",
        edits: &[("web-headless   ClusterIP   None ", "web-headless   NodePort    10.96.100.51 ")],
        why: "no service of the listing is headless: web is NodePort 10.96.100.50, web-headless is NodePort 10.96.100.51",
        place: "service/web ",
    },
    Mistake {
        part: "Resources",
        edits: &[("pod/web-0   1/1", "pod/db-0    1/1")],
        why: "the listing has pod web-1 of StatefulSet web, and no web-0",
        place: "statefulset.apps/web",
    },
    Mistake {
        part: "Resources",
        edits: &[("statefulset.apps/web   3/3", "statefulset.apps/api   3/3")],
        why: "the listing has no pod api-0 of StatefulSet api",
        place: "statefulset.apps/api",
    },
    Mistake {
        part: "Resources",
        edits: &[("persistentvolumeclaim/data-web-1 ", "persistentvolumeclaim/data-api-1 ")],
        why: "pod web-1 has no claim in the listing",
        place: "pod/web-1",
    },
    Mistake {
        part: "Resources",
        edits: &[("data-web-2   Bound ", "data-web-2   Pending")],
        why: "claim data-web-2 is Pending",
        place: "claim/data-web-2",
    },
    Mistake {
        part: "Resources",
        edits: &[("pvc-bbbb", "pvc-aaaa")],
        why: "claims data-web-0 and data-web-1 share volume pvc-aaaa",
        place: "claim/data-web-1",
    },
    Mistake {
        part: "Network identity",
        edits: &[("nslookup web-1.web-headless", "nslookup web-7.web-headless")],
        why: "web-7 is no pod of the listing",
        place: "nslookup",
    },
    Mistake {
        part: "Network identity",
        edits: &[("nslookup web-1.web-headless", "nslookup web-1.other")],
        why: "other is no service of the listing",
        place: "nslookup",
    },
    Mistake {
        part: "Network identity",
        edits: &[("10.244.0.6", "10.244.0.600")],
        why: "10.244.0.600 is no address",
        place: "10.244.0.600",
    },
    Mistake {
        part: "Storage per pod",
        edits: &[("\n21\n$ kubectl exec web-2", "\n24\n$ kubectl exec web-2"), ("\n28\n", "\n24\n")],
        why: "every pod shows 24",
        place: "24",
    },
    Mistake {
        part: "Storage per pod",
        edits: &[
            ("$ kubectl exec web-2 -- cat /data/visits\n28\n", ""),
            ("exec web-1", "exec web-0"),
            ("pod web-1", "pod web-0"),
        ],
        why: "the count of one pod is shown, and of no other",
        place: "24",
    },
    Mistake {
        part: "Persistence",
        edits: &[(
            "deleted\n$ kubectl exec web-1 -- cat /data/visits\n21",
            "deleted\n$ kubectl exec web-1 -- cat /data/visits\n0",
        )],
        why: "the count is 0 after the deletion, and was 21 before it",
        place: "0",
    },
];

#[test]
fn each_mistake_costs_its_part_and_is_told_with_its_line() {
    for Mistake { part, edits, why, place } in MISTAKES {
        let page = with(edits);
        let lacks = lacks(&page);
        let [(lacking, Under::Fault(told))] = lacks.as_slice() else { panic!("{why}: {lacks:?}") };
        assert_eq!(*lacking, part, "{told}");
        assert!(told.contains(why), "{told}");
        let number: usize = told.split([' ', ':']).nth(1).unwrap().parse().unwrap();
        assert!(page.lines().nth(number - 1).unwrap().contains(place), "{told}: {place}");
    }
}

#[test]
fn a_part_that_is_not_there_is_lost_and_no_other() {
    let cases = [
        ("Overview", "Overview", "why one is used"),
        ("Deployment vs StatefulSet", "How it differs from a Deployment", "differs from a Deployment"),
        ("Headless service", "Headless service and DNS", "headless service"),
        ("Resource verification", "Resources", "no listing shows pods, StatefulSets, services, claims"),
        ("Network identity", "Network identity", "no name of a pod"),
        ("Per-pod storage", "Storage per pod", "the count of one pod is shown"),
        ("Persistence", "Persistence", "no deletion of a pod"),
    ];
    for (heading, part, why) in cases {
        let lacks = lacks(&without(heading));
        let [(lacking, Under::Fault(told))] = lacks.as_slice() else { panic!("{heading}: {lacks:?}") };
        assert!(*lacking == part && told.contains(why), "{heading}: {lacking}: {told}");
    }
}

#[test]
fn one_guarantee_of_three_is_too_few() {
    let judged = |says: &str| {
        concepts::guarantees(&Page::parse(&format!("## Guarantees\n{says}\n## DNS\nIn order.\n")))
    };
    assert_eq!(judged("Names that are predictable, a claim (PVC) for each pod."), Under::Sound);
    assert_eq!(judged("Порядок запуска и своё хранилище."), Under::Sound);
    let why = "of what a StatefulSet guarantees storage is named, not identity and ordering";
    assert_eq!(judged("A volume for each pod."), Under::Fault(why.to_owned()));
}

#[test]
fn a_count_may_grow_meanwhile_and_counts_may_be_the_same_where_it_is_said_why() {
    let after = "deleted\n$ kubectl exec web-1 -- cat /data/visits\n";
    assert_eq!(lacks(&with(&[(&format!("{after}21"), &format!("{after}23"))])), []);
    let told = "## Per-pod storage\nEach pod was visited the same number of times.\n";
    let same = [
        ("\n21\n$ kubectl exec web-2", "\n24\n$ kubectl exec web-2"),
        ("\n28\n", "\n24\n"),
        ("## Per-pod storage\n", told),
    ];
    assert_eq!(lacks(&with(&same)), []);
}

#[test]
fn a_picture_in_the_place_of_a_transcript_is_left_to_a_person() {
    let left = |page: &str| {
        let line = line_of(page, "![]");
        Under::Unread(format!("line {line}: a picture, or another file: a person has to look"))
    };
    for (heading, part) in [("Resource verification", "Resources"), ("Network identity", "Network identity")]
    {
        let page = format!("{}\n## {heading}\n\n![](<Screenshot 1.png>)\n", without(heading));
        assert_eq!(lacks(&page), [(part, left(&page))]);
    }
    for (heading, part) in [("Storage", "Storage per pod"), ("Persistence", "Persistence")] {
        let page = format!("# Lab\n## {heading}\n![](1.png)\n## Network\nnothing\n");
        assert_eq!(judge_of(part).unwrap()(&Page::parse(&page)), left(&page));
    }
}

#[test]
fn the_same_is_understood_in_other_forms() {
    let plain = RIGHT.replace("pod/", "").replace("statefulset.apps/", "").replace("service/", "");
    let plain = plain.replace("persistentvolumeclaim/", "").replace("$ kubectl get po,sts,svc,pvc\n", "");
    assert_eq!(lacks(&plain), [], "without kinds and command");
    let apart = plain.replace("\n\nNAME ", "\n```\n\nAnd:\n\n```bash\nNAME ");
    assert_ne!(plain, apart);
    assert_eq!(lacks(&apart), [], "in separate listings");
    let mut code = false;
    let indented = RIGHT.lines().map(|line| match line {
        fence if fence.starts_with("```") => {
            code = !code;
            String::new()
        }
        line if code => format!("    {line}"),
        line => line.to_owned(),
    });
    assert_eq!(lacks(&indented.collect::<Vec<_>>().join("\n")), [], "indented");
    let russian = RIGHT
        .replace("## Overview", "## Обзор")
        .replace("## What it guarantees", "## Гарантии")
        .replace(
            "a stable identity, storage that stays its own, and a place in the order",
            "имя, хранилище, порядок",
        )
        .replace("## Deployment vs StatefulSet", "## Отличия от Deployment")
        .replace("## Headless service", "## Headless-сервис")
        .replace("## Resource verification", "## Проверка ресурсов")
        .replace("## Network identity", "## Сетевые имена")
        .replace("## Per-pod storage", "## Хранилище подов")
        .replace("## Persistence", "## Сохранность данных");
    assert_eq!(lacks(&russian), [], "in Russian");
    let flat = RIGHT.replace("## ", "#### ").replace("\n```console", "\n~~~").replace("\n```", "\n~~~");
    assert_eq!(lacks(&flat), [], "with other headings and fences");
}

#[test]
fn our_own_page_has_all_that_is_asked_for() {
    let workspace = Workspace::discover().unwrap();
    let page = std::fs::read_to_string(workspace.root.join("docs/STATEFULSET.md")).unwrap();
    assert_eq!(lacks(&page), []);
}

#[test]
fn without_a_page_nothing_is_judged_and_the_reason_is_said() {
    let workspace = Workspace::discover().unwrap();
    let lab = hand_in();
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join(".git")).unwrap();
    let place = |named| Place { chart: dir.path(), named, ours: "/".into() };
    let shown = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    let page = handed_in(&lab, &place(None), shown).unwrap().unwrap();
    assert_eq!(page.page, PageSeen::Nothing);
    let nothing = Under::Unread(PageSeen::NOTHING.to_owned());
    assert!(page.headings.values().all(|under| *under == nothing));

    let file = dir.path().join("STATEFULSET.md");
    std::fs::write(&file, RIGHT).unwrap();
    let page = handed_in(&lab, &place(None), shown).unwrap().unwrap();
    assert_eq!(page.page, PageSeen::Judged("STATEFULSET.md".to_owned()));
    assert_eq!(page.headings.len(), PARTS.len());
    assert!(page.headings.values().all(|under| *under == Under::Sound));

    let other = Lab::of(&workspace, Some(&workspace.root.join("docs/labs/deployment.yaml"))).unwrap().spec;
    assert!(handed_in(&other, &place(None), shown).unwrap().is_none());
    let error = handed_in(&other, &place(Some(&file)), shown).unwrap_err().to_string();
    assert_eq!(error, "--page: the lab asks for no part of a page");
}
