//! One thing the lab needs, and how it stands with it.

use std::path::Path;

/// What is needed, what was found, and what would help.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    /// What it is.
    pub what: String,
    /// What was found of it: a version, or what is the matter.
    pub found: String,
    /// Where it was found.
    pub place: Option<String>,
    /// Whether the lab can use it as it is.
    pub fits: bool,
    /// Whether the lab can't run without.
    pub needed: bool,
    /// The command that helps.
    pub fix: Option<String>,
}

impl Requirement {
    /// It is there.
    pub fn named(what: &str, found: impl Into<String>) -> Self {
        Self { what: what.to_owned(), found: found.into(), place: None, fits: true, needed: true, fix: None }
    }

    /// It is there, at a path.
    pub fn found(what: &str, found: impl Into<String>, path: &Path) -> Self {
        Self { place: Some(path.display().to_string()), ..Self::named(what, found) }
    }

    /// It is not there, or won't do.
    pub fn lacking(what: &str, why: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { fits: false, fix: Some(fix.into()), ..Self::named(what, why) }
    }

    /// It is there but won't do.
    #[must_use]
    pub fn but(self, why: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { found: why.into(), fits: false, fix: Some(fix.into()), ..self }
    }

    /// Whether the lab can't run without.
    #[must_use]
    pub fn needed(self, needed: bool) -> Self {
        Self { needed, ..self }
    }

    /// What is the matter, with the place where there is one.
    pub fn state(&self) -> String {
        match &self.place {
            Some(place) => format!("{} ({place})", self.found),
            None => self.found.clone(),
        }
    }
}

/// Those that keep the lab from running.
pub fn missing(requirements: &[Requirement]) -> Vec<&Requirement> {
    requirements.iter().filter(|requirement| requirement.needed && !requirement.fits).collect()
}
