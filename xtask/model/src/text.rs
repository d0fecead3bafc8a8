//! Text made fit for where it goes: a shell, a page, a picture.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

/// A command line as one would paste it; the program without the folder it was found in.
pub fn command_line(argv: &[String]) -> String {
    let Some((program, arguments)) = argv.split_first() else {
        return String::new();
    };
    let program = program.rsplit('/').next().unwrap_or(program);
    let words: Vec<_> =
        std::iter::once(program).chain(arguments.iter().map(String::as_str)).map(quoted).collect();
    words.join(" ")
}

/// Quoted only where a shell needs it: `shell_words` alone would also quote `--set a=b`. `<<<` hands on the word behind it.
fn quoted(word: &str) -> Cow<'_, str> {
    let plain = |it: char| it.is_ascii_alphanumeric() || "-_./:=,@%+".contains(it);
    if word == "<<<" || !word.is_empty() && word.chars().all(plain) {
        Cow::Borrowed(word)
    } else {
        shell_words::quote(word)
    }
}

/// Text without colours of a terminal and other control characters.
pub fn printable(text: &str) -> String {
    static COLOURS: LazyLock<Regex> =
        LazyLock::new(|| Regex::new("\u{1b}\\[[0-9;?]*[A-Za-z]").expect("the pattern is one"));
    let text = COLOURS.replace_all(text, "");
    text.chars().filter(|it| !it.is_control() || *it == '\n' || *it == '\t').collect()
}

/// A value as a reader wants it: of Kubernetes objects their names, of everything else its JSON.
pub fn value(value: &Value) -> String {
    let is_object = |value: &Value| value.pointer("/metadata/name").is_some();
    match value {
        Value::Object(entries) if !entries.is_empty() && entries.values().all(is_object) => {
            let names: Vec<_> = entries.keys().map(String::as_str).collect();
            format!("{{{}}}", names.join(", "))
        }
        object if is_object(object) => {
            let told = |at: &str| object.pointer(at).and_then(Value::as_str).unwrap_or("object");
            format!("{} {}", told("/kind"), told("/metadata/name"))
        }
        other => other.to_string(),
    }
}

/// The last line that says something, without the spaces around it.
pub fn last_line(text: &str) -> &str {
    text.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default()
}

/// The words of a text with one space between them.
pub fn on_one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The beginning of a text, on one line, with an ellipsis where it was cut.
pub fn shortened(text: &str, most: usize) -> String {
    let text: String = text.chars().map(|it| if it.is_control() { ' ' } else { it }).collect();
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Text as XML has it; characters XML does not know are left out.
pub fn escaped(text: &str) -> String {
    let mut out = String::new();
    for character in text.chars() {
        match character {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\n' | '\t' => out.push(' '),
            control if control.is_control() || matches!(control, '\u{fffe}' | '\u{ffff}') => {}
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_is_quoted_only_where_a_shell_needs_it() {
        let argv = ["/nix/store/x/bin/helm", "upgrade", "--set", "a=b", "two words", "it's", "$HOME", ""];
        let line = command_line(&argv.map(str::to_owned));
        assert_eq!(line, "helm upgrade --set a=b 'two words' 'it'\\''s' '$HOME' ''");
        assert_eq!(shell_words::split(&line).unwrap()[1..], argv[1..]);
    }

    #[test]
    fn colours_and_control_characters_are_left_out() {
        assert_eq!(printable("\u{1b}[1;31mred\u{1b}[0m\r\n\ttab\u{0}"), "red\n\ttab");
    }

    #[test]
    fn objects_of_kubernetes_are_told_by_name() {
        let service =
            |name: &str| serde_json::json!({"kind": "Service", "metadata": {"name": name, "uid": "x"}});
        let services = serde_json::json!({"counter": service("counter"), "other": service("other")});
        assert_eq!(value(&services), "{counter, other}");
        assert_eq!(value(&service("counter")), "Service counter");
        assert_eq!(value(&serde_json::json!({"counter-0": 3})), "{\"counter-0\":3}");
        assert_eq!(value(&serde_json::json!({})), "{}");
    }

    #[test]
    fn long_texts_end_in_an_ellipsis() {
        assert_eq!(shortened("äöü\nx", 3), "äöü…");
        assert_eq!(shortened("äöü", 3), "äöü");
    }

    #[test]
    fn markup_is_escaped_and_what_xml_lacks_is_left_out() {
        assert_eq!(escaped("<a href=\"x\">&\u{1}\u{ffff}\n"), "&lt;a href=&quot;x&quot;&gt;&amp; ");
    }
}
