//! The doctor's table, on 80 columns.

use setup::{Requirement, missing};

/// Columns that every terminal has.
const WIDTH: usize = 80;
/// Where the second column begins.
const INDENT: usize = 20;

/// The table: a line per requirement, its place and its fix below, then notes of what and what of it.
pub(super) fn render(requirements: &[Requirement], notes: &[(String, String)]) -> String {
    let mut text = String::new();
    for requirement in requirements {
        let mark = match (requirement.fits, requirement.needed) {
            (true, _) => "✓",
            (false, true) => "✗",
            (false, false) => "-",
        };
        let found = if requirement.found.is_empty() { "there" } else { &requirement.found };
        line(&mut text, &format!("{mark} {}", requirement.what), found);
        if let Some(place) = &requirement.place {
            line(&mut text, "", place);
        }
        if let Some(fix) = &requirement.fix {
            line(&mut text, "", &format!("fix: {fix}"));
        }
    }
    text.push('\n');
    for (what, of_it) in notes {
        wrap(&mut text, 0, &format!("  {what}"));
        wrap(&mut text, 4, of_it);
    }
    text.push('\n');
    match missing(requirements).len() {
        0 => text += "everything the lab needs is here: cargo xtask lab\n",
        lacking => {
            text += &format!("{lacking} missing; all of it at once: cargo xtask setup\n");
        }
    }
    text
}

fn line(text: &mut String, what: &str, value: &str) {
    let head = format!("{what:<INDENT$}");
    let mut rest = String::new();
    wrap(&mut rest, INDENT, value);
    *text += &head;
    *text += rest.get(INDENT..).unwrap_or_default();
}

/// Adds words, broken before the last column; what has no spaces is left whole, to be copied.
fn wrap(text: &mut String, indent: usize, words: &str) {
    let margin = " ".repeat(indent);
    let lead = words.len() - words.trim_start().len();
    let mut line = format!("{margin}{}", " ".repeat(lead));
    let mut empty = true;
    for word in words.split_whitespace() {
        if !empty && line.chars().count() + 1 + word.chars().count() > WIDTH {
            *text += line.trim_end();
            text.push('\n');
            line = format!("{margin}{}", " ".repeat(lead + 2));
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line += word;
        empty = false;
    }
    *text += line.trim_end();
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use setup::Fix;
    use std::path::Path;

    #[test]
    fn the_table_says_what_is_where_and_how_to_fix_the_rest_within_80_columns() {
        let requirements = [
            Requirement::found("kind", "0.33.0", Path::new("/usr/bin/kind")),
            Requirement::lacking(
                "container engine",
                "neither a docker daemon nor podman",
                Fix::Packages(vec!["podman", "netavark", "aardvark-dns", "iptables", "runc"]),
            ),
            Requirement::lacking("go", "not found", Fix::ByHand("https://go.dev/dl".to_owned()))
                .needed(false),
        ];
        let notes = [("cgroup v1".to_owned(), "runc and cgroupfs".to_owned())];
        let expected = "\
✓ kind              0.33.0
                    /usr/bin/kind
✗ container engine  neither a docker daemon nor podman
                    fix: apt-get install --no-install-recommends podman netavark
                      aardvark-dns iptables runc
- go                not found
                    fix: https://go.dev/dl

  cgroup v1
    runc and cgroupfs

1 missing; all of it at once: cargo xtask setup
";
        let table = render(&requirements, &notes);
        assert_eq!(table, expected);
        assert!(table.lines().all(|line| line.chars().count() <= 80));
        let long = Requirement::named("x", "word ".repeat(40));
        let lines: Vec<usize> = render(&[long], &[]).lines().map(|line| line.chars().count()).collect();
        assert_eq!(lines.iter().max(), Some(&79), "{lines:?}");
    }
}
