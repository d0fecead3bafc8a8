//! What an expression came to, part by part: for a person who wants to know why it is not true.

use serde_json::Value as Json;

use super::{Expression, Scope};
use crate::record::Seen;

/// A part's value is shown up to this many characters: a whole object would hide the point.
const SHOWN_CHARS: usize = 2000;

/// `bound` tells what variables of macros stood for: ` for p = "counter-1"`.
pub(super) fn collect(source: &str, scope: &Scope, bound: &str, seen: &mut Vec<Seen>) {
    for conjunct in split(source, &["&&"]) {
        let conjunct = unwrap_brackets(conjunct.trim());
        if let Some((range, variable, body)) = quantified(conjunct)
            && let Ok(counterexamples) =
                Expression::compile(&format!("{range}.filter({variable}, !({body}))"))
            && let Ok(Json::Array(against)) = counterexamples.value(scope)
            && let Some(first) = against.first()
        {
            let (mut inner, bound) = (scope.clone(), format!("{bound} for {variable} = {first}"));
            inner.insert(variable.to_owned(), first.clone());
            collect(body, &inner, &bound, seen);
            continue;
        }
        for side in split(conjunct, &["==", "!=", "<=", ">=", "<", ">", " in "]) {
            let side = unwrap_brackets(side.trim());
            let part = format!("{side}{bound}");
            let known = side.is_empty() || seen.iter().any(|other| other.part == part);
            let Some(expression) = Expression::compile(side).ok().filter(|_| !known) else { continue };
            // What reads nothing is what was expected, not what was seen.
            if expression.variables().is_empty() {
                continue;
            }
            let value = match expression.value(scope) {
                Ok(value) => shorten(value),
                Err(error) => Json::String(format!("({error})")),
            };
            seen.push(Seen { part, value });
        }
    }
}

/// The range, variable and body of `range.all(variable, body)`.
fn quantified(source: &str) -> Option<(&str, &str, &str)> {
    let range = *split(source, &[".all("]).first()?;
    let bracketed = source.strip_prefix(range)?.strip_prefix(".all")?;
    let inner = unwrap_brackets(bracketed);
    let (variable, body) = inner.split_once(',').filter(|_| inner.len() < bracketed.len())?;
    Some((range.trim(), variable.trim(), body.trim()))
}

fn shorten(value: Json) -> Json {
    let text = value.to_string();
    if text.chars().count() <= SHOWN_CHARS {
        return value;
    }
    Json::String(text.chars().take(SHOWN_CHARS).chain("…".chars()).collect())
}

/// `(a && b)` is `a && b`, unless the first bracket closes before the end.
fn unwrap_brackets(part: &str) -> &str {
    let Some(inner) = part.strip_prefix('(').and_then(|part| part.strip_suffix(')')) else {
        return part;
    };
    let mut depth = 0;
    for c in inner.chars() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth < 0 {
            return part;
        }
    }
    inner.trim()
}

/// Splits at operators that stand outside brackets and quotes.
fn split<'a>(source: &'a str, operators: &[&str]) -> Vec<&'a str> {
    let (mut parts, mut depth, mut quote, mut start, mut at) = (Vec::new(), 0_i32, None, 0, 0);
    while at < source.len() {
        let rest = &source[at..];
        let Some(c) = rest.chars().next() else { break };
        let mut step = c.len_utf8();
        match (quote, c) {
            (Some(_), '\\') => step += rest[1..].chars().next().map_or(0, char::len_utf8),
            (Some(open), _) if open == c => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '(' | '[' | '{') => depth += 1,
            (None, ')' | ']' | '}') => depth -= 1,
            (None, _) if depth == 0 => {
                if let Some(operator) = operators.iter().find(|operator| rest.starts_with(**operator)) {
                    parts.push(&source[start..at]);
                    step = operator.len();
                    start = at + step;
                }
            }
            (None, _) => {}
        }
        at += step;
    }
    parts.push(&source[start..]);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn scope(json: Json) -> Scope {
        json.as_object().unwrap().clone()
    }

    #[test]
    fn a_failed_claim_shows_both_sides_of_each_conjunct() {
        let expression =
            Expression::compile("before.n == after.n && size(list) == 3 && (x in ['a && b'])").unwrap();
        let variables = scope(json!({"before": {"n": 3}, "after": {"n": 0}, "list": [1], "x": "q"}));
        let parts = expression.parts(&variables);
        let shown: Vec<String> = parts.iter().map(|seen| format!("{} = {}", seen.part, seen.value)).collect();
        assert_eq!(shown, ["before.n = 3", "after.n = 0", "size(list) = 1", r#"x = "q""#]);
    }

    #[test]
    fn an_all_that_does_not_hold_shows_what_it_fails_for() {
        let expression =
            Expression::compile("size(ips) == 2 && names.all(a, names.all(b, seen[a][b] == ips[b]))")
                .unwrap();
        let variables = scope(json!({"names": ["x", "y"], "ips": {"x": "1", "y": "2"},
            "seen": {"x": {"x": "1", "y": "2"}, "y": {"x": "1", "y": "9"}}}));
        let shown: Vec<String> = expression
            .parts(&variables)
            .iter()
            .map(|seen| format!("{} is {}", seen.part, seen.value))
            .collect();
        assert_eq!(
            shown,
            [
                "size(ips) is 2",
                r#"seen[a][b] for a = "y" for b = "y" is "9""#,
                r#"ips[b] for a = "y" for b = "y" is "2""#
            ]
        );
    }
}
