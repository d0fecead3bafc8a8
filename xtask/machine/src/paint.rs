//! Whether a stream wants colours, and text in them.

use std::io::IsTerminal;

/// All that paint consists of.
pub(crate) const CODES: [&str; 7] =
    ["\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[36m"];

/// Colours for one stream, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paint(bool);

impl Paint {
    /// As stdout wants it.
    pub fn stdout() -> Self {
        Self(wanted(std::io::stdout().is_terminal(), variable))
    }

    /// As stderr wants it.
    pub fn stderr() -> Self {
        Self(wanted(std::io::stderr().is_terminal(), variable))
    }

    /// Whatever the stream wants.
    #[cfg(test)]
    pub(crate) fn always() -> Self {
        Self(true)
    }

    /// Text alone.
    pub fn none() -> Self {
        Self(false)
    }

    /// What went well.
    pub fn good(self, text: &str) -> String {
        self.code("32", text)
    }

    /// What did not.
    pub fn bad(self, text: &str) -> String {
        self.code("31", text)
    }

    /// What is neither.
    pub fn doubtful(self, text: &str) -> String {
        self.code("33", text)
    }

    /// What moves.
    pub fn busy(self, text: &str) -> String {
        self.code("36", text)
    }

    /// What the eye should find.
    pub fn strong(self, text: &str) -> String {
        self.code("1", text)
    }

    /// What it may pass over.
    pub fn dim(self, text: &str) -> String {
        self.code("2", text)
    }

    fn code(self, code: &str, text: &str) -> String {
        if self.0 && !text.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// A variable of the environment; empty is not set.
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// <https://no-color.org> before <https://bixense.com/clicolors>, and those before what the stream is.
fn wanted(terminal: bool, variable: impl Fn(&str) -> Option<String>) -> bool {
    let on = |name: &str| variable(name).map(|value| value != "0");
    if variable("NO_COLOR").is_some() {
        return false;
    }
    let dumb = variable("TERM").is_some_and(|term| term == "dumb");
    on("CLICOLOR_FORCE") == Some(true) || (terminal && !dumb && on("CLICOLOR") != Some(false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_has_the_first_word_on_colours() {
        type Variables = &'static [(&'static str, &'static str)];
        let cases: [(bool, Variables, bool); 8] = [
            (true, &[], true),
            (false, &[], false),
            (true, &[("NO_COLOR", "1")], false),
            (true, &[("TERM", "dumb")], false),
            (true, &[("CLICOLOR", "0")], false),
            (false, &[("CLICOLOR_FORCE", "1")], true),
            (false, &[("CLICOLOR_FORCE", "0")], false),
            (true, &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")], false),
        ];
        for (terminal, set, expected) in cases {
            let variable = |name: &str| {
                set.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
            };
            assert_eq!(wanted(terminal, variable), expected, "{set:?} on a terminal: {terminal}");
        }
    }

    #[test]
    fn nothing_is_painted_without_colours() {
        assert_eq!(Paint(true).bad("x"), "\x1b[31mx\x1b[0m");
        assert_eq!((Paint(false).bad("x"), Paint(true).bad("")), ("x".to_owned(), String::new()));
    }
}
