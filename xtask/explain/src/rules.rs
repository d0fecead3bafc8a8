//! The table of rules, by what they look at.

mod admission;
mod names;
mod storage;
mod updates;

use crate::Rule;

/// All rules, in the order in which troubles are told: what keeps pods from being there at all comes first.
pub const RULES: &[Rule] = &[
    admission::REFUSED_BY_POD_SECURITY,
    admission::QUOTA_USED_UP,
    admission::NAME_TOO_LONG,
    admission::NOT_SCHEDULABLE,
    admission::IMAGE_NOT_THERE,
    admission::BUDGET_ALLOWS_NONE,
    storage::CLASS_UNKNOWN,
    storage::NO_DEFAULT_CLASS,
    storage::NODE_NAME_SKIPS_THE_SCHEDULER,
    storage::CLAIM_IS_GOING,
    storage::CLAIM_MOUNTED_NOWHERE,
    storage::NO_GROUP_FOR_THE_VOLUME,
    updates::STAYS_ON_A_BROKEN_REVISION,
    updates::WAITS_FOR_THE_FIRST,
    updates::PARTITION_MOVES_NOTHING,
    updates::RAISED_PARTITION,
    updates::ON_DELETE_WAITS,
    updates::SCALED_BY_HAND,
    updates::VERSION_IN_THE_SELECTOR,
    names::NO_GOVERNING_SERVICE,
    names::GOVERNING_SERVICE_WITH_AN_ADDRESS,
    names::SERVICE_SELECTS_NOTHING,
    names::SERVICE_OVER_TWO_OWNERS,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_has_a_name_of_its_own_and_says_where_its_reason_is_written() {
        let mut ids: Vec<&str> = RULES.iter().map(|rule| rule.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), RULES.len());
        for rule in RULES {
            assert!(rule.source.starts_with("https://"), "{}", rule.id);
            assert!(!rule.why.is_empty() && !rule.not.is_empty() && !rule.symptom.is_empty(), "{}", rule.id);
        }
    }
}
