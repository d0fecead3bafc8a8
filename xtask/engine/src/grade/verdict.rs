//! What became of a chart, in a word: where on its way into the cluster it stopped.

use std::fmt;

use serde::Serialize;

use crate::evidence::grade::Outcome;
use crate::evidence::summary::Summary;
use model::failure::{Failure, Why};

/// How far a chart came, the farthest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Verdict {
    /// Every claim holds.
    Holds,
    /// It was judged, and some claims do not hold.
    ClaimsFail,
    /// It was installed, and its pods did not become ready.
    NeverReady,
    /// The API server or Helm refused what it renders.
    Refused,
    /// It renders nothing that the lab asks about, or may not be rendered.
    Unsuitable,
    /// Helm can't render it.
    DoesNotRender,
}

impl Verdict {
    /// What a run comes to.
    pub(super) fn of(summary: &Summary) -> Self {
        let (holding, _) = summary.claims_hold;
        let first = summary.failures.iter().find_map(|failure| failure.broke.as_ref());
        match first.or(summary.broke.as_ref()) {
            _ if summary.grade.outcome == Outcome::Holds => Self::Holds,
            // An experiment that breaks while others were judged is one of the things that do not hold.
            Some(broke) if holding == 0 => Self::broken(broke),
            _ => Self::ClaimsFail,
        }
    }

    fn broken(failure: &Failure) -> Self {
        match (&failure.step, &failure.why) {
            (None, Why::Tool { .. }) => Self::DoesNotRender,
            (None, _) => Self::Unsuitable,
            (Some(_), Why::Tool { .. }) => Self::Refused,
            _ => Self::NeverReady,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Holds => "holds",
            Self::ClaimsFail => "claims fail",
            Self::NeverReady => "never ready",
            Self::Refused => "refused by the cluster",
            Self::Unsuitable => "can't be graded",
            Self::DoesNotRender => "does not render",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::{fixture, grade};
    use model::failure::{Ended, LastSeen};

    fn verdict((lab, record): (model::spec::LabSpec, model::record::Record)) -> Verdict {
        let grade = grade::grade(&lab, &record, None::<&grade::Headings>);
        Verdict::of(&Summary::of(&lab, &record, &grade))
    }

    #[test]
    fn a_chart_that_stops_on_its_way_is_told_from_one_whose_claims_fail() {
        assert_eq!(verdict(fixture::passing()), Verdict::Holds);
        assert_eq!(verdict(fixture::failing()), Verdict::ClaimsFail);
        let tool =
            || Why::Tool { command: "helm".to_owned(), ended: Ended::Status(1), output: String::new() };
        let late =
            || Why::Expired { awaited: String::new(), limit_s: 1, problem: None, seen: LastSeen::default() };
        let cases = [
            (None, tool(), Verdict::DoesNotRender),
            (None, Failure::other("no set").why, Verdict::Unsuitable),
            (Some("start"), tool(), Verdict::Refused),
            (Some("start"), late(), Verdict::NeverReady),
        ];
        for (step, why, expected) in cases {
            let (lab, mut record) = fixture::failing();
            for experiment in &mut record.experiments {
                experiment.failure = Some(Failure { step: step.map(str::to_owned), ..why.clone().into() });
                experiment
                    .claims
                    .iter_mut()
                    .for_each(|claim| claim.verdict = model::record::Verdict::NotJudged);
            }
            assert_eq!(verdict((lab, record)), expected);
        }
    }
}
