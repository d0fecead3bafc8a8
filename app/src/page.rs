//! The page a person sees, without anything to load from elsewhere.

use crate::settings::Identity;

const TEMPLATE: &str = include_str!("page.html");

/// The pages of one process; its names are filled in once.
#[derive(Clone, Debug)]
pub struct Pages {
    counted: Frame,
    read: Frame,
    template: String,
}

/// A page with a place for the number.
#[derive(Clone, Debug)]
struct Frame {
    before: String,
    after: String,
}

impl Pages {
    /// The pages of the process with these names.
    pub fn new(identity: &Identity) -> Self {
        let template = TEMPLATE
            .replace("{{pod}}", &escape(&identity.pod))
            .replace("{{hostname}}", &escape(&identity.hostname))
            .replace("{{revision}}", &escape(&identity.revision));
        let frame = |note| {
            let page = template.replace("{{title}}", "Visits").replace("{{note}}", note);
            let (before, after) = page.split_once("{{number}}").expect("the page shows the number once");
            Frame { before: before.to_owned(), after: after.to_owned() }
        };
        Self {
            counted: frame("Yours is counted, and on disk."),
            read: frame("Looking here does not count."),
            template,
        }
    }

    /// The page of a visit that was counted as number `visits`.
    pub fn counted(&self, visits: u64) -> String {
        self.counted.with(visits)
    }

    /// The page of a look at the number.
    pub fn read(&self, visits: u64) -> String {
        self.read.with(visits)
    }

    /// The page of a refusal.
    pub fn error(&self, status: u16, title: &str, note: &str) -> String {
        // The note may quote the client: it goes in last, so nothing in it is taken for a place.
        self.template
            .replace("{{title}}", title)
            .replace("{{number}}", &status.to_string())
            .replace("{{note}}", &escape(note))
    }
}

impl Frame {
    fn with(&self, visits: u64) -> String {
        [&self.before, visits.to_string().as_str(), &self.after].concat()
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_the_environment_cannot_become_markup() {
        let identity = Identity {
            pod: "<script>alert(1)</script>".to_owned(),
            hostname: "a&b".to_owned(),
            revision: "\"v1\"".to_owned(),
        };
        let page = Pages::new(&identity).counted(7);
        assert!(page.contains("&lt;script&gt;") && !page.contains("<script>"), "{page}");
        assert!(page.contains("a&amp;b") && page.contains("&quot;v1&quot;"), "{page}");
        assert!(!page.contains("{{"), "a place was not filled in: {page}");
    }
}
