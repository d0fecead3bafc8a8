//! What to do about an error: carried with it as data, and printed in one place.

use std::fmt;

/// What failed, or could not be done because of another error, and what to do about it.
#[derive(Debug)]
pub struct Advised {
    says: String,
    next: String,
}

/// An error, or a context of one, with what to do about it: a command to type, or a phrase.
pub fn advised(says: impl Into<String>, next: impl Into<String>) -> Advised {
    Advised { says: says.into(), next: next.into() }
}

/// What to do about an error, where somebody knew: the outermost advice, which knows most of what was wanted.
pub fn next(error: &anyhow::Error) -> Option<&str> {
    error.downcast_ref().map(|Advised { next, .. }| next.as_str())
}

/// An error with all its causes in a line, and what to do about it in the next.
pub fn in_words(error: &anyhow::Error) -> String {
    let next = next(error).map(|next| format!("\nnext: {next}")).unwrap_or_default();
    format!("{error:#}{next}")
}

impl std::error::Error for Advised {}

impl fmt::Display for Advised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.says)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::{Context, anyhow};

    #[test]
    fn advice_is_found_wherever_in_an_error_it_was_given_and_is_told_after_the_last_cause() {
        let error = Err::<(), _>(anyhow!("no route"))
            .context(advised("podman does not work", "podman info"))
            .context("no cluster")
            .unwrap_err();
        assert_eq!(in_words(&error), "no cluster: podman does not work: no route\nnext: podman info");
        let error = anyhow!(advised("nothing is there", "cargo xtask setup")).context("no image");
        assert_eq!(next(&error), Some("cargo xtask setup"));
    }

    #[test]
    fn of_two_the_outer_one_is_told() {
        let error = anyhow!(advised("no space", "free some")).context(advised("not built", "build it"));
        assert_eq!(next(&error), Some("build it"));
    }
}
