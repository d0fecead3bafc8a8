//! Command lines with `${expression}` in them: split into words before there are values, so that none makes two.

use super::{Compile, Expression, Fault, Scope, Template};

/// Stands for the first value while a line is split, the next character for the second: no text has these.
const FIRST_VALUE: u32 = 0xF_0000;
/// The characters that can stand for one.
const MOST_VALUES: u32 = 0xFFFE;

/// A command line, split like a shell splits it. A value is a word or a part of one, whatever it holds.
#[derive(Debug, Clone)]
pub struct CommandLine {
    words: Vec<Template>,
}

impl CommandLine {
    /// Its words.
    pub fn words(&self) -> &[Template] {
        &self.words
    }

    /// Its words with the values in their places.
    ///
    /// # Errors
    /// As [`Expression::value`]; a value that a tool would take for an option, when it stands before any `--`.
    pub fn render(&self, scope: &Scope) -> Result<Vec<String>, String> {
        let (mut rendered, mut options) = (Vec::new(), true);
        for template in &self.words {
            let word = template.render(scope)?;
            options &= word != "--";
            if options && word.starts_with('-') && !template.literal().starts_with('-') {
                return Err(format!("a value begins with `{word}`, which would be an option"));
            }
            rendered.push(word);
        }
        Ok(rendered)
    }
}

impl Compile for CommandLine {
    fn compile(text: &str) -> Result<Self, Fault> {
        let fault = |says: &str| Fault { says: says.to_owned(), at: None };
        let place =
            |mark: char| u32::from(mark).checked_sub(FIRST_VALUE).filter(|place| *place <= MOST_VALUES);
        if text.chars().any(|c| place(c).is_some()) {
            return Err(fault("there is a character that means nothing to anybody in this command"));
        }
        let whole = Template::compile(text)?;
        let mark = |value: usize| u32::try_from(value).ok().and_then(|it| char::from_u32(FIRST_VALUE + it));
        let marked =
            whole.with_marks(mark).ok_or_else(|| fault("there are too many values in this command"))?;
        let words = shell_words::split(&marked).map_err(|_| fault("a quote is never closed"))?;
        if words.is_empty() {
            return Err(fault("the command is empty"));
        }
        let value = |c: char| place(c).and_then(|place| usize::try_from(place).ok());
        Ok(Self { words: words.iter().map(|word| whole.part(word, value)).collect() })
    }

    fn expressions(&self) -> Vec<(usize, &Expression)> {
        self.words.iter().flat_map(Template::expressions).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn words(line: &str, scope: serde_json::Value) -> Result<Vec<String>, String> {
        CommandLine::compile(line).unwrap().render(scope.as_object().unwrap())
    }

    #[test]
    fn a_value_is_one_argument_whatever_it_holds() {
        let scope = json!({"name": "a --all 'b", "n": 2});
        assert_eq!(
            words("kubectl delete pod ${name} --grace-period=${n} \"x ${name}\"", scope).unwrap(),
            ["kubectl", "delete", "pod", "a --all 'b", "--grace-period=2", "x a --all 'b"]
        );
    }

    #[test]
    fn an_expression_is_no_text_of_the_shells() {
        let scope = json!({"pods": ["b", "a"], "it": "it's"});
        assert_eq!(words("kubectl get ${pods.map(p, p).sort()[0]} # ${it}", scope.clone()).unwrap()[2], "a");
        assert_eq!(
            words("sh -c 'echo ${it} \"$(id)\"' ${it + \" \"}", scope).unwrap()[2..],
            ["echo it's \"$(id)\"", "it's "]
        );
    }

    #[test]
    fn a_value_is_no_option() {
        let scope = json!({"name": "--all"});
        let error = words("kubectl delete pod ${name}", scope.clone()).unwrap_err();
        assert_eq!(error, "a value begins with `--all`, which would be an option");
        assert_eq!(words("kubectl exec a -- echo ${name}", scope.clone()).unwrap()[5], "--all");
        assert_eq!(words("kubectl get pod --selector=${name}", scope).unwrap()[3], "--selector=--all");
    }

    #[test]
    fn what_is_no_command_line_is_a_fault() {
        for line in ["", "  ", "# all of it", "kubectl 'get", "kubectl ${a", "kubectl \u{f0000}"] {
            assert!(CommandLine::compile(line).is_err(), "{line}");
        }
    }
}
