//! How long and how deep an expression may be: what reads it calls itself for every level, and a stack has an end.

use super::Fault;

/// Levels and links, together.
pub(crate) const DEPTH: usize = 96;
/// Characters.
pub(crate) const CHARS: usize = 20_000;

/// What an expression looks like to somebody who does not know the language.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    /// The characters at which brackets open and close.
    pub(super) brackets: Vec<(usize, usize)>,
    /// Levels and links, where there are most of them.
    pub(super) depth: usize,
}

/// Refuses what is too long or nests too deep, and what has a quote that is never closed.
///
/// Two things nest: brackets within brackets, and chains such as `a.b.c` and `1 + 2 + 3`, in which every link holds
/// all that stands before it. After `&&`, `||` or a comma a chain begins anew.
pub(super) fn check(source: &str) -> Result<Shape, Fault> {
    let chars: Vec<char> = source.chars().collect();
    let fault = |says: &str, at| Err(Fault { says: says.to_owned(), at: Some(at) });
    if chars.len() > CHARS {
        return fault(&format!("this expression has more than {CHARS} characters"), 0);
    }
    // The links at each open bracket, those outside of all first.
    let mut links = vec![0_usize];
    let (mut open, mut brackets, mut depth) = (Vec::new(), Vec::new(), 0);
    let mut at = 0;
    while let Some(c) = chars.get(at) {
        match c {
            '"' | '\'' => match end_of_text(&chars, at) {
                Some(end) => at = end,
                None => return fault("this quote is never closed", at),
            },
            '/' if chars.get(at + 1) == Some(&'/') => {
                at += chars[at..].iter().position(|c| *c == '\n').unwrap_or(chars.len() - at);
            }
            '(' | '[' | '{' => {
                open.push(at);
                links.push(1);
            }
            ')' | ']' | '}' => {
                brackets.extend(open.pop().map(|open| (open, at)));
                if links.len() > 1 {
                    links.pop();
                }
                // As in `a[0][1]` and `f()()`: what was closed is a link.
                link(&mut links);
            }
            ',' | '&' | '|' => {
                if let Some(last) = links.last_mut() {
                    *last = 1;
                }
            }
            '.' | '+' | '-' | '*' | '/' | '%' | '!' | '?' | ':' | '<' | '>' | '=' => link(&mut links),
            'n' if word(&chars, at) == ['i', 'n'] => link(&mut links),
            _ => {}
        }
        depth = depth.max(links.iter().sum());
        if depth > DEPTH {
            return fault("this expression nests too deep", at);
        }
        at += 1;
    }
    Ok(Shape { brackets, depth })
}

fn link(links: &mut [usize]) {
    if let Some(last) = links.last_mut() {
        *last += 1;
    }
}

/// The last character of a text that begins here: `'a'`, `"""a"""`, or raw as in `r'\'`.
fn end_of_text(chars: &[char], begin: usize) -> Option<usize> {
    let quote = chars[begin];
    let prefix: String = if begin == 0 { String::new() } else { word(chars, begin - 1).iter().collect() };
    let raw = ["r", "br"].contains(&prefix.to_lowercase().as_str());
    let triple = chars[begin..].starts_with(&[quote; 3]);
    let mut at = begin + if triple { 3 } else { 1 };
    while let Some(c) = chars.get(at) {
        match c {
            '\\' if !raw => at += 1,
            '\n' | '\r' if !triple => return None,
            c if *c == quote && !triple => return Some(at),
            c if *c == quote && chars[at..].starts_with(&[quote; 3]) => return Some(at + 2),
            _ => {}
        }
        at += 1;
    }
    None
}

/// The word that ends here.
fn word(chars: &[char], end: usize) -> &[char] {
    let within = |c: &char| c.is_alphanumeric() || *c == '_';
    if chars.get(end + 1).is_some_and(within) {
        return &[];
    }
    let begin = chars[..=end].iter().rposition(|c| !within(c)).map_or(0, |before| before + 1);
    &chars[begin..=end]
}

#[cfg(test)]
mod tests {
    use super::super::{Compile, Expression};
    use super::*;

    #[test]
    fn what_people_write_is_in_bounds() {
        let chain = ".map(p, a[p].b.c.d[0].e == 'x.y.z(' ? -1 : 2)".repeat(3);
        check(&format!("a{chain} == b && c in [1, 2, 3] || {}", "x == y && ".repeat(500))).unwrap();
        check(r#"a == 'it\'s' && b == r'\' && c == """ ' """ // don't"#).unwrap();
    }

    #[test]
    fn what_nests_is_told_before_it_overflows_a_stack() {
        let nested = [
            "(".repeat(5000),
            "[".repeat(97) + &"]".repeat(97),
            "a".to_owned() + &".b".repeat(5000),
            "a".to_owned() + &"[0]".repeat(5000),
            "1 + ".repeat(2000) + "1",
            "a in ".repeat(2000) + "a",
            "!".repeat(5000) + "a",
            "- ".repeat(5000) + "a",
            "a ? b : ".repeat(2000) + "c",
            "f(".repeat(2000),
            "{1: ".repeat(2000),
            "a.all(x, ".repeat(2000),
            "// '\n a".to_owned() + &".b".repeat(5000),
            r"r'\' + a".to_owned() + &".b".repeat(5000),
            "''' ' ''' + a".to_owned() + &".b".repeat(5000),
        ];
        for source in nested {
            let fault = Expression::compile(&source).unwrap_err();
            assert_eq!(fault.says, "this expression nests too deep", "{}", &source[..20]);
        }
        assert_eq!(check("'a\nb'").unwrap_err().at, Some(0));
        assert!(check(&" ".repeat(CHARS + 1)).unwrap_err().says.contains("more than"));
    }

    /// On a test's stack of 2 MiB, which is smaller than that of the program.
    #[test]
    fn what_is_just_in_bounds_is_read_and_judged() {
        let scope = serde_json::json!({"a": {}}).as_object().unwrap().clone();
        for (open, inner, close, most) in [
            ("(", "a", ")", 95),
            ("[", "a", "]", 95),
            ("", "a", ".b", 95),
            ("!", "true", "", 95),
            ("-", "1", "", 95),
            ("", "a", "[0]", 47),
            ("1 + ", "1", "", 95),
            ("{1: ", "1", "}", 47),
            ("size(", "a", ")", 95),
            ("[1].all(x, ", "true", ")", 23),
            ("true ? 1 : ", "1", "", 47),
        ] {
            let source = open.repeat(most) + inner + &close.repeat(most);
            assert!(check(&source).is_ok(), "{open}{inner}{close}");
            if let Ok(expression) = Expression::compile(&source) {
                let _ = (expression.variables(), expression.value(&scope), expression.parts(&scope));
            }
        }
    }
}
