//! HTML or JSON: what the `Accept` header asks for.

use axum::http::HeaderMap;
use axum::http::header::ACCEPT;

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Html,
    /// For programs.
    Json,
}

impl Format {
    /// What the client prefers; `default` when it has no preference between the two.
    ///
    /// There is no 406: a client that wants neither is better served by the default.
    pub fn asked(headers: &HeaderMap, default: Self) -> Self {
        let ranges = || {
            headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).flat_map(|v| v.split(','))
        };
        let html = preference(ranges(), "text", "html");
        let json = preference(ranges(), "application", "json");
        match html.cmp(&json) {
            std::cmp::Ordering::Less => Self::Json,
            std::cmp::Ordering::Equal => default,
            std::cmp::Ordering::Greater => Self::Html,
        }
    }
}

/// Quality in thousandths, then how exactly the type was named: `application/json, */*` means JSON.
type Preference = (u16, u8);

/// The most exact range decides about a type (RFC 9110, 12.5.1).
fn preference<'a>(ranges: impl Iterator<Item = &'a str>, kind: &str, subtype: &str) -> Preference {
    ranges
        .filter_map(|range| {
            let mut parts = range.split(';').map(str::trim);
            let (range_kind, range_subtype) = parts.next()?.split_once('/')?;
            let exactness = match (range_kind, range_subtype) {
                ("*", "*") => 1,
                (k, "*") if k.eq_ignore_ascii_case(kind) => 2,
                (k, s) if k.eq_ignore_ascii_case(kind) && s.eq_ignore_ascii_case(subtype) => 3,
                _ => return None,
            };
            let quality = parts
                .find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")))
                .map_or(1.0, |quality| quality.parse().unwrap_or(0.0f32));
            Some(((quality.clamp(0.0, 1.0) * 1000.0) as u16, exactness))
        })
        .max_by_key(|(_, exactness)| *exactness)
        // A type that is not wanted at all is not wanted in any detail.
        .map_or((0, 0), |(quality, exactness)| if quality == 0 { (0, 0) } else { (quality, exactness) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preferred_type_wins_and_the_default_decides_ties() {
        use Format::{Html, Json};
        let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
        for (accept, default, expected) in [
            ("", Html, Html),
            ("*/*", Json, Json),
            ("*/*", Html, Html),
            ("application/json", Html, Json),
            (browser, Json, Html),
            ("application/json, text/plain, */*", Html, Json),
            ("application/json;q=0.5, */*", Json, Html),
            ("application/json;q=0, */*", Json, Html),
            ("text/html;q=0.4, application/json;q=0.6", Html, Json),
            ("application/*", Html, Json),
            ("APPLICATION/JSON; Q=1", Html, Json),
            ("text/html, application/json", Json, Json),
            ("image/png", Json, Json),
            ("nonsense;q=x,/,;", Html, Html),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, accept.parse().unwrap());
            assert_eq!(Format::asked(&headers, default), expected, "Accept: {accept}, default {default:?}");
        }
    }
}
