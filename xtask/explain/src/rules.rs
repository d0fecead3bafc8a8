//! The table of rules, by what they look at.

mod admission;
mod pods;
mod storage;
mod data;
mod order;
mod partition;
mod helm;
mod names;

use crate::Rule;

/// All rules, in the order in which troubles are told: what keeps pods from being there at all comes first.
pub const RULES: &[Rule] = &[
    admission::REFUSED_BY_POD_SECURITY,
    admission::QUOTA_USED_UP,
    admission::NAME_TOO_LONG,
    pods::NOT_SCHEDULABLE,
    pods::LATEST_OF_A_LOADED_IMAGE,
    pods::IMAGE_NOT_THERE,
    storage::CLASS_UNKNOWN,
    storage::NO_DEFAULT_CLASS,
    storage::NODE_NAME_SKIPS_THE_SCHEDULER,
    storage::CLAIM_MOUNTED_NOWHERE,
    storage::NO_GROUP_FOR_THE_VOLUME,
    storage::ONE_CLAIM_AND_A_ROLLING_UPDATE,
    data::CLAIM_IS_GOING,
    data::REINSTALLED_ON_OLD_DATA,
    data::SCALED_UP_ON_OLD_DATA,
    order::STAYS_ON_A_BROKEN_REVISION,
    order::WAITS_FOR_THE_FIRST,
    order::RESTARTED_OUT_OF_ORDER,
    order::ON_DELETE_WAITS,
    order::READY_IS_NOT_AVAILABLE,
    partition::MOVES_NOTHING,
    partition::COUNTS_FROM_THE_FIRST,
    partition::NO_ROLLBACK,
    partition::LOST_THE_OLD_REVISION,
    helm::FIXED_FIELD_CHANGED,
    helm::SCALED_BY_HAND,
    helm::VERSION_IN_THE_SELECTOR,
    names::NO_GOVERNING_SERVICE,
    names::GOVERNING_SERVICE_WITH_AN_ADDRESS,
    names::SERVICE_SELECTS_NOTHING,
    names::SERVICE_OVER_TWO_OWNERS,
    names::NO_SRV_WITHOUT_A_NAMED_PORT,
    names::UNREADY_PEERS_NOT_PUBLISHED,
    admission::BUDGET_ALLOWS_NONE,
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
