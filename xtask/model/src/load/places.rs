//! The lab file once more as a tree of places: where each value stands, for what turns out wrong only later.

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, Spanned};

/// A line and a column of the file, both counted from one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) line: u64,
    pub(super) column: u64,
}

impl Place {
    /// Where a file begins.
    pub(super) const START: Self = Self { line: 1, column: 1 };
}

/// The text of a file, and where its lines begin.
pub(super) struct Source<'a> {
    text: &'a str,
    lines: Vec<usize>,
}

impl<'a> Source<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Self { text, lines: std::iter::once(0).chain(ends.map(|(end, _)| end + 1)).collect() }
    }

    /// The place of a byte.
    pub(super) fn place(&self, byte: usize) -> Place {
        let line = self.lines.partition_point(|begin| *begin <= byte);
        let before =
            self.lines.get(line - 1).and_then(|begin| self.text.get(*begin..byte)).unwrap_or_default();
        Place { line: line as u64, column: 1 + before.chars().count() as u64 }
    }
}

impl From<Location> for Place {
    fn from(at: Location) -> Self {
        Self { line: at.line().max(1), column: at.column().max(1) }
    }
}

/// A value of the file and where it stands.
#[derive(Debug)]
pub(super) struct Node {
    /// Where it is used; of an alias, the alias.
    pub(super) at: Place,
    /// Where its text begins, in bytes; of an alias, the text that the anchor is at.
    text: Option<usize>,
    pub(super) value: Value,
}

/// What stands there.
#[derive(Debug)]
pub(super) enum Value {
    Null,
    Number(f64),
    /// A text or a boolean: which of them it may be, the types decide.
    Text,
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

/// A key of a map and where it stands.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) at: Place,
    pub(super) name: String,
}

impl Node {
    /// The node at a path such as `experiments/3/id`, or the last on the way there.
    pub(super) fn find(&self, path: &str) -> &Self {
        path.split('/')
            .fold((self, true), |(node, on), part| {
                let next = if on { node.child(part) } else { None };
                next.map_or((node, false), |next| (next, true))
            })
            .0
    }

    fn child(&self, part: &str) -> Option<&Self> {
        match &self.value {
            Value::List(items) => items.get(part.parse::<usize>().ok()?),
            Value::Map(entries) => entries.iter().find(|(key, _)| key.name == part).map(|(_, node)| node),
            _ => None,
        }
    }

    /// Where the character `nth` of its text stands in the file.
    ///
    /// Folding and indentation change nothing but white space, so the other characters are followed one by one. Where
    /// they part, as with the rarer escapes, it is the place of the whole.
    pub(super) fn inside(&self, file: &Source<'_>, text: &str, nth: usize) -> Place {
        let start = self.text.unwrap_or(file.text.len());
        let found = file.text.get(start..).and_then(|source| follow(source, text, nth));
        found.map_or(self.at, |offset| file.place(start + offset))
    }
}

/// The bytes of `source` before the character `nth` of the `text` that is written there.
fn follow(source: &str, text: &str, nth: usize) -> Option<usize> {
    let quote = source.chars().next().filter(|c| ['\'', '"'].contains(c));
    let mut at = match source.chars().next()? {
        '\'' | '"' => 1,
        '>' | '|' => source.find('\n')?,
        _ => 0,
    };
    for (position, wanted) in text.chars().enumerate().filter(|(_, c)| !c.is_whitespace()) {
        let (here, after) = loop {
            let mut rest = source[at..].chars();
            let c = rest.next()?;
            let next = rest.next();
            match (quote, c, next) {
                (Some('\''), '\'', Some('\'')) => break (c, at + 2),
                (Some('"'), '\\', Some(c @ ('"' | '\\' | '/'))) => break (c, at + 2),
                (Some('"'), '\\', Some('n' | 't' | ' ' | '\n')) => at += 2,
                _ if c.is_whitespace() => at += c.len_utf8(),
                _ => break (c, at + c.len_utf8()),
            }
        };
        if here != wanted {
            return None;
        }
        if position >= nth {
            return Some(at);
        }
        at = after;
    }
    Some(at)
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Value>::deserialize(deserializer)?;
        let text = spanned.defined.span().byte_offset().and_then(|byte| usize::try_from(byte).ok());
        Ok(Self { at: spanned.referenced.into(), text, value: spanned.value })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Value, E> {
        Ok(Value::Text)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Number(number as f64))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Value, E> {
        Ok(Value::Number(number as f64))
    }

    fn visit_i128<E: Error>(self, number: i128) -> Result<Value, E> {
        Ok(Value::Number(number as f64))
    }

    fn visit_u128<E: Error>(self, number: u128) -> Result<Value, E> {
        Ok(Value::Number(number as f64))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Value, E> {
        Ok(Value::Number(number))
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Value, E> {
        Ok(Value::Text)
    }

    fn visit_bytes<E: Error>(self, _: &[u8]) -> Result<Value, E> {
        Ok(Value::Text)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Vec::new();
        while let Some(key) = entries.next_key::<Spanned<String>>()? {
            map.push((Key { at: key.referenced.into(), name: key.value }, entries.next_value()?));
        }
        Ok(Value::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(file: &str, text: &str, part: &str) -> (u64, u64) {
        let node: Node = serde_saphyr::from_str(file).unwrap();
        let nth = text[..text.find(part).unwrap()].chars().count();
        let place = node.find("a").inside(&Source::new(file), text, nth);
        (place.line, place.column)
    }

    #[test]
    fn a_character_is_found_however_its_text_is_written() {
        assert_eq!(place("a: x == y\n", "x == y", "y"), (1, 9));
        assert_eq!(place("a: 'it''s' # no\n", "it's", "s"), (1, 9));
        assert_eq!(place("a: \"b\\\"\\\\c\"\n", "b\"\\c", "c"), (1, 10));
        assert_eq!(place("a: >-\n  x &&\n\n    y == z\n", "x &&\n\n  y == z", "y"), (4, 5));
        assert_eq!(place("a: |\r\n  x &&\r\n  y\r\n", "x &&\ny\n", "y"), (3, 3));
        assert_eq!(place("a: x\n   y\n", "x y", "y"), (2, 4));
        assert_eq!(place("z: &z\n  x == y\na: *z\n", "x == y", "y"), (2, 8));
        // An escape that is not followed: the place of the whole.
        assert_eq!(place("a: \"\\x41 b\"\n", "A b", "b"), (1, 4));
    }

    #[test]
    fn a_path_leads_to_its_value_or_as_near_as_there_is_one() {
        let node: Node = serde_saphyr::from_str("a:\n  - { b: 1 }\n  - { b: 2 }\n").unwrap();
        let at = |path| (node.find(path).at.line, node.find(path).at.column);
        assert_eq!([at("a/1/b"), at("a/1/c"), at("a/7/b")], [(3, 10), (3, 5), (2, 3)]);
    }
}
