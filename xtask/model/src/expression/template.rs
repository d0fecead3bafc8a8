//! Texts with `${expression}` in them: commands, names of pods, paths.

use serde_json::Value as Json;

use super::{Compile, Expression, Fault, Scope};

/// Replaces each `${expression}` in a text by its value.
#[derive(Debug, Clone)]
pub struct Template {
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone)]
enum Piece {
    Text(String),
    /// Begins at this character of the text.
    Value(usize, Expression),
}

impl Compile for Template {
    fn compile(text: &str) -> Result<Self, Fault> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(start) = rest.find("${") {
            let character = text[..text.len() - rest.len() + start].chars().count();
            let Some(end) = rest[start..].find('}') else {
                return Err(Fault { says: "`${` without its `}`".to_owned(), at: Some(character) });
            };
            let begins = character + 2;
            let expression = Expression::compile(&rest[start + 2..start + end])
                .map_err(|fault| Fault { at: fault.at.map(|at| begins + at), ..fault })?;
            pieces.push(Piece::Text(rest[..start].to_owned()));
            pieces.push(Piece::Value(begins, expression));
            rest = &rest[start + end + 1..];
        }
        pieces.push(Piece::Text(rest.to_owned()));
        Ok(Self { pieces })
    }

    fn expressions(&self) -> Vec<(usize, &Expression)> {
        self.values().collect()
    }
}

impl Template {
    /// A text that holds no value, whatever it looks like.
    pub fn plain(text: &str) -> Self {
        Self { pieces: vec![Piece::Text(text.to_owned())] }
    }

    fn values(&self) -> impl Iterator<Item = (usize, &Expression)> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Text(_) => None,
            Piece::Value(begins, expression) => Some((*begins, expression)),
        })
    }

    /// What stands before its first value.
    pub fn literal(&self) -> &str {
        match self.pieces.first() {
            Some(Piece::Text(text)) => text,
            _ => "",
        }
    }

    /// All of it, where it holds no value.
    pub fn fixed(&self) -> Option<&str> {
        Some(self.literal()).filter(|_| !self.varies())
    }

    /// Whether it holds a value.
    pub fn varies(&self) -> bool {
        self.values().next().is_some()
    }

    /// The text with a character in the place of each value, by its number; none where there are not enough.
    pub(super) fn with_marks(&self, mark: impl Fn(usize) -> Option<char>) -> Option<String> {
        let (mut text, mut values) = (String::new(), 0..);
        for piece in &self.pieces {
            match piece {
                Piece::Text(piece) => text.push_str(piece),
                Piece::Value(..) => text.push(mark(values.next()?)?),
            }
        }
        Some(text)
    }

    /// A part of a text with marks, as a template of its own.
    pub(super) fn part(&self, marked: &str, value: impl Fn(char) -> Option<usize>) -> Self {
        let (mut pieces, mut text) = (Vec::new(), String::new());
        for c in marked.chars() {
            match value(c).and_then(|nth| self.values().nth(nth)) {
                None => text.push(c),
                Some((begins, expression)) => {
                    pieces.push(Piece::Text(std::mem::take(&mut text)));
                    pieces.push(Piece::Value(begins, expression.clone()));
                }
            }
        }
        pieces.push(Piece::Text(text));
        Self { pieces }
    }

    /// The text with the values in their places; strings stand there bare, everything else as JSON.
    ///
    /// # Errors
    /// As [`Expression::value`].
    pub fn render(&self, scope: &Scope) -> Result<String, String> {
        let mut text = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(piece) => text.push_str(piece),
                Piece::Value(_, expression) => match expression.value(scope)? {
                    Json::String(value) => text.push_str(&value),
                    value => text.push_str(&value.to_string()),
                },
            }
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn templates_put_values_in_their_places() {
        let template = Template::compile("kubectl delete pod ${target.pods[1]} --grace-period=${n}").unwrap();
        let scope: Scope =
            serde_json::from_value(json!({"target": {"pods": ["a-0", "a-1"]}, "n": 5})).unwrap();
        assert_eq!(template.render(&scope).unwrap(), "kubectl delete pod a-1 --grace-period=5");
        assert!(Template::compile("${never").is_err());
    }
}
