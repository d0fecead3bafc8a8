//! Texts with `${expression}` in them: commands, names of pods, paths.

use serde_json::Value as Json;

use super::{Expression, Fault, Scope};

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

impl Template {
    /// Compiles a text with `${…}` in it.
    ///
    /// # Errors
    /// A `${` without its `}`, or an expression that does not compile.
    pub fn compile(text: &str) -> Result<Self, Fault> {
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

    /// The expressions in it, each with the character at which it begins.
    pub fn expressions(&self) -> impl Iterator<Item = (usize, &Expression)> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Text(_) => None,
            Piece::Value(begins, expression) => Some((*begins, expression)),
        })
    }

    /// The text with a word in the place of each value: what shows of its form before there are values.
    pub fn outline(&self) -> String {
        let words = self.pieces.iter().map(|piece| match piece {
            Piece::Text(text) => text,
            Piece::Value(..) => "value",
        });
        words.collect()
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
