//! What stands in a lab file as a text and is compiled once, when the file is read.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use super::{Expression, Fault};

/// What can be made of a text.
pub trait Compile: Sized {
    /// Makes it.
    ///
    /// # Errors
    /// What is wrong with the text, and where in it.
    fn compile(text: &str) -> Result<Self, Fault>;

    /// The expressions in it, each with the character at which it begins.
    fn expressions(&self) -> Vec<(usize, &Expression)>;
}

/// A text and what was made of it. It is read from the text and written as it.
///
/// A text that is at fault is kept with its fault: the loader tells all of them at once, with their places, and hands
/// out no lab that holds one.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(from = "String", into = "String", bound(serialize = "T: Clone", deserialize = "T: Compile"))]
pub struct Compiled<T> {
    text: String,
    made: Result<T, Fault>,
}

impl<T> Compiled<T> {
    /// The text as it stands in the file.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What was made of it.
    ///
    /// # Errors
    /// What is wrong with the text, and where in it.
    pub fn get(&self) -> Result<&T, &Fault> {
        self.made.as_ref()
    }
}

impl<T: Compile> From<String> for Compiled<T> {
    fn from(text: String) -> Self {
        let made = T::compile(&text);
        Self { text, made }
    }
}

impl<T: Compile> From<&str> for Compiled<T> {
    fn from(text: &str) -> Self {
        Self::from(text.to_owned())
    }
}

impl<T> From<Compiled<T>> for String {
    fn from(compiled: Compiled<T>) -> Self {
        compiled.text
    }
}

impl<T> JsonSchema for Compiled<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        String::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        String::json_schema(generator)
    }
}
