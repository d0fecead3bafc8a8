//! The points of a run: one computation, shown by the page, the report and the terminal.

use std::collections::BTreeMap;

use serde::Serialize;

use model::record::{Record, Verdict};
use model::spec::LabSpec;

/// What was found under each heading of the page; a heading that is not in here is not on the page. Keys are lower-case.
pub(crate) type Headings = BTreeMap<String, Under>;

/// What was found under a heading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Under {
    /// Something, and nothing is wrong with it.
    Sound,
    /// What is wrong.
    Fault(String),
    /// It was not judged, and why: it is left to a person.
    Unread(String),
}

/// Whether a page came with somebody else's chart, and which.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PageSeen {
    /// The one at this path, which was judged.
    Judged(String),
    /// One that is not read.
    Refused {
        /// Where it is.
        path: String,
        /// Why not.
        why: String,
    },
    /// None was found.
    Nothing,
}

impl PageSeen {
    /// What is said where no page is found.
    pub(crate) const NOTHING: &str = "no STATEFULSET.md lies beside the chart; --page FILE names a page";
    /// What the points for a page come to.
    pub(crate) const CHECKED: &str = "concepts and documentation: what is there and fits together was checked; whether it is \
                                      right, a person reads";

    /// Which it is, or why there is none.
    pub(crate) fn says(&self) -> String {
        match self {
            Self::Judged(path) => path.clone(),
            Self::Refused { path, why } => format!("{path} is not read: {why}"),
            Self::Nothing => Self::NOTHING.to_owned(),
        }
    }
}

/// The page that came with somebody else's chart, judged.
#[derive(Debug, Clone)]
pub struct HandedIn {
    /// Which page it is.
    pub page: PageSeen,
    /// What was found of each part that is asked for.
    pub(crate) headings: Headings,
}

/// Points of a run against the whole rubric of its lab.
///
/// A claim earns its points when it holds. The points of a criterion that its claims leave over are shared
/// equally by the headings it asks for; a heading earns its share when it stands on the page with something
/// under it and no block under it is at fault. What is skipped because it does not apply counts neither way.
/// Without `headings` nobody looked at a page.
pub(crate) fn grade<'a>(lab: &LabSpec, record: &Record, headings: impl Into<Option<&'a Headings>>) -> Grade {
    let headings = headings.into();
    let criteria: Vec<_> = lab
        .rubric
        .iter()
        .map(|criterion| {
            let mut items = claim_items(lab, record, &criterion.id);
            // From the lab, not from the record: a selection of experiments must not turn the points of the
            // others into points for headings.
            let left_over = criterion.points - items.iter().map(|item| item.of).sum::<f64>();
            let share = left_over.max(0.0) / criterion.sections.len().max(1) as f64;
            items.extend(criterion.sections.iter().map(|heading| heading_item(heading, share, headings)));
            CriterionGrade {
                id: criterion.id.clone(),
                title: criterion.title.clone(),
                points: hundredths(items.iter().map(|item| item.points).sum()),
                of: hundredths(criterion.points - sum_of(&items, Standing::Skipped)),
                not_run: hundredths(sum_of(&items, Standing::NotRun)),
                items,
            }
        })
        .collect();
    Grade {
        points: hundredths(criteria.iter().map(|criterion| criterion.points).sum()),
        of: hundredths(criteria.iter().map(|criterion| criterion.of).sum()),
        not_run: hundredths(criteria.iter().map(|criterion| criterion.not_run).sum()),
        outcome: outcome(record),
        criteria,
    }
}

/// The points of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Grade {
    /// What became of the run as a whole.
    pub outcome: Outcome,
    /// Points earned.
    pub points: f64,
    /// Points that could be earned.
    pub of: f64,
    /// Points that this run did not touch: of experiments left out, or of a page, or a part of one, that is left to a person.
    pub not_run: f64,
    /// The lines of the rubric.
    pub criteria: Vec<CriterionGrade>,
}

/// What became of a run as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Every claim that applies holds.
    Holds,
    /// The lab ran, and a claim does not hold.
    Fails,
    /// The run ended before its experiments did.
    Broke,
}

/// A line of the rubric and what it earned.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CriterionGrade {
    /// Its id.
    pub id: String,
    /// Its title.
    pub title: String,
    /// Points earned.
    pub points: f64,
    /// Points that could be earned.
    pub of: f64,
    /// Points that this run did not touch.
    pub not_run: f64,
    /// What it is made of: claims, then headings.
    pub items: Vec<Item>,
}

impl CriterionGrade {
    /// Claims or headings that earned their points, and how many count.
    pub fn earned(&self, kind: ItemKind) -> (usize, usize) {
        let counting = |item: &&Item| item.kind == kind && item.standing != Standing::Skipped;
        let earned = |item: &&Item| item.standing == Standing::Earned;
        (
            self.items.iter().filter(counting).filter(earned).count(),
            self.items.iter().filter(counting).count(),
        )
    }
}

/// One thing that earns points.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Item {
    /// A claim or a heading.
    pub kind: ItemKind,
    /// Id of the claim, or the heading.
    pub id: String,
    /// The claim's sentence, or the heading.
    pub says: String,
    /// Points earned.
    pub points: f64,
    /// Points it is worth.
    pub of: f64,
    /// Whether it earned them.
    pub standing: Standing,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// What earns points.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ItemKind {
    /// A claim of an experiment.
    Claim,
    /// A heading of the page.
    Heading,
}

/// Whether points were earned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// They were.
    Earned,
    /// They were not.
    Lost,
    /// The experiment broke before the claim could be judged.
    NotJudged,
    /// It does not apply here, and counts neither way.
    Skipped,
    /// The experiment, or the page, was not part of the run; or it is left to a person.
    NotRun,
}

fn claim_items(lab: &LabSpec, record: &Record, criterion: &str) -> Vec<Item> {
    let declared = lab.experiments.iter().flat_map(|experiment| &experiment.claims);
    declared
        .filter(|claim| claim.criterion == criterion)
        .map(|claim| {
            let judged = record.experiments.iter().flat_map(|experiment| &experiment.claims);
            let judged = judged.into_iter().find(|judged| judged.id == claim.id);
            let standing = match judged.map(|judged| judged.verdict) {
                Some(Verdict::Holds) => Standing::Earned,
                Some(Verdict::Fails) => Standing::Lost,
                Some(Verdict::NotJudged) => Standing::NotJudged,
                Some(Verdict::Skipped) => Standing::Skipped,
                None => Standing::NotRun,
            };
            Item {
                kind: ItemKind::Claim,
                id: claim.id.clone(),
                says: claim.says.clone(),
                points: if standing == Standing::Earned { claim.points } else { 0.0 },
                of: claim.points,
                standing,
                why: judged.and_then(|judged| judged.message.clone()),
            }
        })
        .collect()
}

fn heading_item(heading: &str, share: f64, headings: Option<&Headings>) -> Item {
    let (standing, why) = match headings.map(|headings| headings.get(&heading.to_lowercase())) {
        None => (Standing::NotRun, Some("the page is not part of this run".to_owned())),
        Some(None) => (Standing::Lost, Some("the page has no such heading".to_owned())),
        Some(Some(Under::Sound)) => (Standing::Earned, None),
        Some(Some(Under::Fault(why))) => (Standing::Lost, Some(why.clone())),
        Some(Some(Under::Unread(why))) => (Standing::NotRun, Some(why.clone())),
    };
    Item {
        kind: ItemKind::Heading,
        id: heading.to_owned(),
        says: heading.to_owned(),
        points: if standing == Standing::Earned { share } else { 0.0 },
        of: share,
        standing,
        why,
    }
}

/// What became of a run as a whole: an experiment that broke fails it, whatever its claims.
pub(crate) fn outcome(record: &Record) -> Outcome {
    let mut claims = record.experiments.iter().flat_map(|experiment| &experiment.claims);
    if record.broke.is_some() {
        Outcome::Broke
    } else if record.experiments.iter().any(|experiment| experiment.failure.is_some())
        || claims.any(|claim| claim.verdict.is_red())
    {
        Outcome::Fails
    } else {
        Outcome::Holds
    }
}

fn sum_of(items: &[Item], standing: Standing) -> f64 {
    items.iter().filter(|item| item.standing == standing).map(|item| item.of).sum()
}

/// Sums of thirds and tenths come out a hair beside the number a rubric means, and that of nothing is -0.
fn hundredths(points: f64) -> f64 {
    (points * 100.0).round() / 100.0 + 0.0
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;

    fn headings(names: &[&str]) -> Headings {
        names.iter().map(|name| (name.to_lowercase(), Under::Sound)).collect()
    }

    #[test]
    fn a_run_in_which_everything_holds_earns_everything() {
        let (lab, record) = fixture::passing();
        let grade = grade(&lab, &record, &headings(&["Overview", "Persistence test", "Network identity"]));
        assert_eq!((grade.points, grade.of, grade.outcome), (6.5, 6.5, Outcome::Holds));
    }

    #[test]
    fn headings_share_what_the_claims_of_their_criterion_leave_over() {
        let (lab, record) = fixture::passing();
        let grade = grade(&lab, &record, &headings(&["overview", "Persistence test"]));
        let documentation = grade.criteria.iter().find(|criterion| criterion.id == "documentation").unwrap();
        assert_eq!((documentation.points, documentation.of), (1.0, 1.5));
        assert_eq!(documentation.earned(ItemKind::Heading), (2, 3));
        assert_eq!(documentation.items.last().unwrap().why.as_deref(), Some("the page has no such heading"));
    }

    #[test]
    fn a_lost_claim_leaves_nothing_over_for_the_headings_beside_it() {
        let (mut lab, mut record) = fixture::passing();
        lab.experiments[2].claims[0].criterion = "documentation".to_owned();
        record.experiments[2].claims[0].verdict = Verdict::Fails;
        let grade = grade(&lab, &record, &headings(&["Overview", "Persistence test", "Network identity"]));
        let documentation = grade.criteria.iter().find(|it| it.id == "documentation").unwrap();
        assert_eq!((documentation.points, documentation.of), (0.5, 1.5));
    }

    #[test]
    fn a_heading_with_a_faulty_block_earns_nothing() {
        let (lab, record) = fixture::passing();
        let mut headings = headings(&["Overview", "Persistence test", "Network identity"]);
        headings.insert("overview".to_owned(), Under::Fault("block edited by hand".to_owned()));
        assert_eq!(grade(&lab, &record, &headings).points, 6.0);
    }

    #[test]
    fn a_heading_that_is_left_to_a_person_earns_and_loses_nothing() {
        let (lab, record) = fixture::passing();
        let mut headings = headings(&["Overview", "Persistence test", "Network identity"]);
        headings.insert("overview".to_owned(), Under::Unread("a picture".to_owned()));
        let grade = grade(&lab, &record, &headings);
        assert_eq!((grade.points, grade.not_run, grade.of), (6.0, 0.5, 6.5));
    }

    #[test]
    fn a_claim_that_fails_or_was_not_judged_earns_nothing_and_fails_the_run() {
        let (lab, record) = fixture::failing();
        let grade = grade(&lab, &record, &headings(&["Overview", "Persistence test", "Network identity"]));
        assert_eq!(grade.outcome, Outcome::Fails);
        let standing = |id: &str| {
            let mut items = grade.criteria.iter().flat_map(|criterion| &criterion.items);
            items.find(|item| item.id == id).unwrap().standing
        };
        assert_eq!(standing("count-survives"), Standing::Lost);
        assert_eq!(standing("reverse-order"), Standing::NotJudged);
        assert!(grade.points < grade.of);
    }

    #[test]
    fn a_claim_nobody_judged_is_enough_to_fail_a_run() {
        let (lab, mut record) = fixture::passing();
        record.experiments[2].claims[0].verdict = Verdict::NotJudged;
        assert_eq!(grade(&lab, &record, &Headings::new()).outcome, Outcome::Fails);
        record.broke = Some(model::failure::Failure::other("the cluster went away"));
        assert_eq!(grade(&lab, &record, &Headings::new()).outcome, Outcome::Broke);
    }

    #[test]
    fn a_skipped_claim_counts_neither_way() {
        let (lab, mut record) = fixture::passing();
        let claim = &mut record.experiments[0].claims[0];
        claim.verdict = Verdict::Skipped;
        let lost = claim.points;
        let grade = grade(&lab, &record, &headings(&["Overview", "Persistence test", "Network identity"]));
        assert_eq!((grade.points, grade.of), (6.5 - lost, 6.5 - lost));
        assert_eq!(grade.outcome, Outcome::Holds);
    }

    #[test]
    fn experiments_that_did_not_run_give_their_points_to_nobody() {
        let (lab, mut record) = fixture::passing();
        record.experiments.truncate(1);
        let grade = grade(&lab, &record, &headings(&["Overview", "Persistence test", "Network identity"]));
        assert_eq!(grade.of, 6.5);
        assert_eq!(grade.points + grade.not_run, 6.5);
        assert!(grade.not_run > 0.0);
    }

    #[test]
    fn the_headings_of_a_page_nobody_looked_at_earn_and_lose_nothing() {
        let (lab, record) = fixture::passing();
        let grade = grade(&lab, &record, None::<&Headings>);
        assert_eq!((grade.points, grade.of, grade.not_run, grade.outcome), (5.0, 6.5, 1.5, Outcome::Holds));
    }

    #[test]
    fn the_sum_of_nothing_has_no_sign() {
        assert!(hundredths([0.0_f64; 0].iter().sum()).is_sign_positive());
    }

    #[test]
    fn points_are_written_without_needless_zeros() {
        assert_eq!(
            ["2", "0.5", "0.33", "12.5", "0", "0"],
            [2.0, 0.5, 1.0 / 3.0, 12.5, 0.0, -0.0].map(model::record::written).each_ref().map(String::as_str)
        );
    }
}
