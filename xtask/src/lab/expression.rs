//! CEL expressions: compiled when the lab is loaded, judged on what a run recorded, explained by their parts.
//!
//! CEL is the language Kubernetes itself validates with: <https://kubernetes.io/docs/reference/using-api/cel/>.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use cel::common::ast::{EntryExpr, Expr, IdedEntryExpr, IdedExpr};
use cel::extractors::This;
use cel::objects::{Key, Map};
use cel::{Context, Env, Program, Value};
use serde_json::Value as Json;

use crate::evidence::record::Seen;
use crate::lab::condition;

/// The variables an expression reads.
pub type Scope = serde_json::Map<String, Json>;

/// A part's value is shown up to this many characters: a whole object would hide the point.
const SHOWN_CHARS: usize = 2000;

/// The functions of ours that expressions may call, beside CEL's own and its lists, strings and math libraries.
pub const FUNCTIONS: [&str; 6] = ["ready", "rolledOut", "ordinal", "after", "before", "names"];

static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let mut env = Env::stdlib();
    for extension in [cel::extensions::lists, cel::extensions::strings, cel::extensions::math] {
        // Fails on a second registration of the same overload only, which the tests would show.
        let _ = env.add_extension(extension);
    }
    Arc::new(env)
});

/// A compiled expression.
#[derive(Clone)]
pub struct Expression {
    source: String,
    program: Arc<Program>,
}

impl std::fmt::Debug for Expression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Expression({:?})", self.source)
    }
}

impl Expression {
    /// Compiles an expression.
    ///
    /// # Errors
    /// What the parser says of it, in one line.
    pub fn compile(source: &str) -> Result<Self, String> {
        let program = ENVIRONMENT.compile(source).map_err(|errors| {
            let text = errors.to_string();
            text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
        })?;
        Ok(Self { source: source.to_owned(), program: Arc::new(program) })
    }

    /// The variables it reads, without those that its own macros bind.
    pub fn variables(&self) -> Vec<String> {
        let mut free = Vec::new();
        free_variables(self.program.expression(), &mut Vec::new(), &mut free);
        free
    }

    /// The functions it calls that neither CEL nor the lab knows.
    pub fn unknown_functions(&self) -> Vec<String> {
        let references = self.program.references();
        // Operators have names that don't begin with a letter. Declaring a name that CEL has is refused.
        let known = |name: &str| {
            FUNCTIONS.contains(&name)
                || !name.starts_with(char::is_alphabetic)
                || Context::with_env(Arc::clone(&ENVIRONMENT)).add_function(name, || true).is_err()
        };
        references.functions().into_iter().filter(|name| !known(name)).map(str::to_owned).collect()
    }

    /// Its value.
    ///
    /// # Errors
    /// A variable, field or key that isn't there; a type that does not fit.
    pub fn value(&self, scope: &Scope) -> Result<Json, String> {
        let mut context = Context::with_env(Arc::clone(&ENVIRONMENT));
        for name in self.variables() {
            if let Some(value) = scope.get(&name) {
                context.add_variable_from_value(name, to_cel(value));
            }
        }
        add_functions(&mut context);
        let value = self.program.execute(&context).map_err(|error| error.to_string())?;
        to_json(&value)
    }

    /// Whether it is true.
    ///
    /// # Errors
    /// As [`Expression::value`]; its value is no boolean.
    pub fn is_true(&self, scope: &Scope) -> Result<bool, String> {
        match self.value(scope)? {
            Json::Bool(verdict) => Ok(verdict),
            other => Err(format!("its value is no boolean but {other}")),
        }
    }

    /// The values of its parts: of each conjunct the two sides of its comparison, or else itself. Of an `all` that
    /// does not hold: those it does not hold for, and the parts for the first of them.
    pub fn parts(&self, scope: &Scope) -> Vec<Seen> {
        let mut seen = Vec::new();
        collect_parts(&self.source, scope, "", &mut seen);
        seen
    }
}

/// `bound` tells what variables of macros stood for: ` for p = "counter-1"`.
fn collect_parts(source: &str, scope: &Scope, bound: &str, seen: &mut Vec<Seen>) {
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
            collect_parts(body, &inner, &bound, seen);
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

/// Replaces each `${expression}` in a text by its value.
#[derive(Debug, Clone)]
pub struct Template {
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone)]
enum Piece {
    Text(String),
    Value(Expression),
}

impl Template {
    /// Compiles a text with `${…}` in it.
    ///
    /// # Errors
    /// A `${` without its `}`, or an expression that does not compile.
    pub fn compile(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(start) = rest.find("${") {
            let end =
                rest[start..].find('}').ok_or_else(|| format!("`${{` without its `}}` in `{text}`"))? + start;
            pieces.push(Piece::Text(rest[..start].to_owned()));
            pieces.push(Piece::Value(Expression::compile(&rest[start + 2..end])?));
            rest = &rest[end + 1..];
        }
        pieces.push(Piece::Text(rest.to_owned()));
        Ok(Self { pieces })
    }

    /// The expressions in it.
    pub fn expressions(&self) -> impl Iterator<Item = &Expression> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Text(_) => None,
            Piece::Value(expression) => Some(expression),
        })
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
                Piece::Value(expression) => match expression.value(scope)? {
                    Json::String(value) => text.push_str(&value),
                    value => text.push_str(&value.to_string()),
                },
            }
        }
        Ok(text)
    }
}

fn add_functions(context: &mut Context<'_, '_>) {
    // Fails on names that CEL itself declares only; the tests call each of them.
    let _ =
        context.add_function("ready", |object: Value| json_of(&object).is_some_and(|o| condition::ready(&o)));
    let _ = context.add_function("rolledOut", |object: Value| {
        json_of(&object).is_some_and(|o| condition::rolled_out(&o))
    });
    let _ = context.add_function("ordinal", |name: Arc<String>| {
        name.rsplit('-').next().and_then(|digits| digits.parse::<i64>().ok()).unwrap_or(-1)
    });
    let _ = context.add_function("after", |This(list): This<Arc<Vec<Value>>>, mark: Value| {
        let from = moment(&mark, "started_ms");
        kept(&list, |event| moment(event, "at_ms") >= from)
    });
    let _ = context.add_function("before", |This(list): This<Arc<Vec<Value>>>, mark: Value| {
        let until = moment(&mark, "started_ms");
        kept(&list, |event| moment(event, "at_ms") < until)
    });
    let _ = context.add_function("names", |This(list): This<Arc<Vec<Value>>>, what: Arc<String>| {
        let pods = kept(&list, |event| {
            field(event, "kind") == Some("Pod".into())
                && field(event, "what").as_deref() == Some(what.as_str())
        });
        let Value::List(pods) = pods else {
            return Value::Null;
        };
        let names = pods.iter().filter_map(|event| field(event, "name"));
        Value::List(Arc::new(names.map(|name| Value::String(Arc::new(name))).collect()))
    });
}

/// The names read in an expression that nothing inside it binds.
fn free_variables(node: &IdedExpr, bound: &mut Vec<String>, free: &mut Vec<String>) {
    match &node.expr {
        Expr::Ident(name) => {
            if !name.starts_with('@') && !bound.contains(name) && !free.contains(name) {
                free.push(name.clone());
            }
        }
        Expr::Call(call) => {
            call.target
                .iter()
                .map(AsRef::as_ref)
                .chain(&call.args)
                .for_each(|node| free_variables(node, bound, free));
        }
        Expr::Select(select) => free_variables(&select.operand, bound, free),
        Expr::List(list) => list.elements.iter().for_each(|node| free_variables(node, bound, free)),
        Expr::Map(map) => entries(&map.entries, bound, free),
        Expr::Struct(object) => entries(&object.entries, bound, free),
        Expr::Comprehension(comprehension) => {
            free_variables(&comprehension.iter_range, bound, free);
            free_variables(&comprehension.accu_init, bound, free);
            let depth = bound.len();
            bound.extend([comprehension.iter_var.clone(), comprehension.accu_var.clone()]);
            bound.extend(comprehension.iter_var2.clone());
            for node in [&comprehension.loop_cond, &comprehension.loop_step, &comprehension.result] {
                free_variables(node, bound, free);
            }
            bound.truncate(depth);
        }
        Expr::Literal(_) | Expr::Unspecified => {}
    }
}

fn entries(entries: &[IdedEntryExpr], bound: &mut Vec<String>, free: &mut Vec<String>) {
    for entry in entries {
        match &entry.expr {
            EntryExpr::MapEntry(entry) => {
                free_variables(&entry.key, bound, free);
                free_variables(&entry.value, bound, free);
            }
            EntryExpr::StructField(field) => free_variables(&field.value, bound, free),
        }
    }
}

fn json_of(value: &Value) -> Option<Json> {
    to_json(value).ok()
}

fn kept(list: &[Value], keep: impl Fn(&Value) -> bool) -> Value {
    Value::List(Arc::new(list.iter().filter(|event| keep(event)).cloned().collect()))
}

fn member<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    match value {
        Value::Map(map) => map.map.get(&Key::String(Arc::new(name.to_owned()))),
        _ => None,
    }
}

fn field(value: &Value, name: &str) -> Option<String> {
    match member(value, name)? {
        Value::String(text) => Some(text.to_string()),
        _ => None,
    }
}

fn moment(value: &Value, name: &str) -> i64 {
    match (value, member(value, name)) {
        (Value::Int(ms), _) | (_, Some(Value::Int(ms))) => *ms,
        _ => 0,
    }
}

/// JSON as CEL sees it. Whole numbers are `int`, as a person writes them in an expression.
fn to_cel(json: &Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(value), _, _) => Value::Int(value),
            (None, Some(value), _) => Value::UInt(value),
            (None, None, value) => Value::Float(value.unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::String(Arc::new(text.clone())),
        Json::Array(items) => Value::List(Arc::new(items.iter().map(to_cel).collect())),
        Json::Object(fields) => {
            let map: HashMap<Key, Value> = fields
                .iter()
                .map(|(key, value)| (Key::String(Arc::new(key.clone())), to_cel(value)))
                .collect();
            Value::Map(Map { map: Arc::new(map) })
        }
    }
}

fn to_json(value: &Value) -> Result<Json, String> {
    let mut json = value.json().map_err(|error| error.to_string())?;
    sort_keys(&mut json);
    Ok(json)
}

/// CEL's maps have no order; a record has.
fn sort_keys(json: &mut Json) {
    match json {
        Json::Array(items) => items.iter_mut().for_each(sort_keys),
        Json::Object(fields) => {
            fields.sort_keys();
            fields.values_mut().for_each(sort_keys);
        }
        _ => {}
    }
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

    fn value(source: &str, variables: Json) -> Result<Json, String> {
        Expression::compile(source).unwrap().value(&scope(variables))
    }

    #[test]
    fn whole_numbers_compare_and_add_as_people_write_them() {
        assert_eq!(value("a + 1 == 4 && b.c < 2", json!({"a": 3, "b": {"c": 1}})), Ok(json!(true)));
    }

    #[test]
    fn the_timeline_is_asked_for_order_after_a_step() {
        let timeline = json!([
            {"at_ms": 5, "kind": "Pod", "name": "counter-0", "what": "ready"},
            {"at_ms": 20, "kind": "Pod", "name": "counter-2", "what": "ready"},
            {"at_ms": 21, "kind": "Event", "name": "counter-2", "what": "ready"},
            {"at_ms": 30, "kind": "Pod", "name": "counter-1", "what": "ready"},
        ]);
        let variables = json!({"timeline": timeline, "update": {"started_ms": 10}});
        assert_eq!(
            value("timeline.after(update).names('ready')", variables.clone()),
            Ok(json!(["counter-2", "counter-1"]))
        );
        assert_eq!(value("timeline.before(update).names('ready')", variables), Ok(json!(["counter-0"])));
    }

    #[test]
    fn ready_and_rolled_out_ask_the_conditions() {
        let pod = json!({"metadata": {}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}});
        assert_eq!(value("ready(p)", json!({"p": pod})), Ok(json!(true)));
        assert_eq!(value("rolledOut(s)", json!({"s": {"spec": {"replicas": 1}}})), Ok(json!(false)));
        assert_eq!(value("ordinal('counter-12')", json!({})), Ok(json!(12)));
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

    #[test]
    fn what_is_missing_is_named() {
        let error = value("pods['counter-1'].metadata.uid", json!({"pods": {}})).unwrap_err();
        assert!(error.contains("counter-1"), "{error}");
        assert!(value("nothing.here", json!({})).unwrap_err().contains("nothing"));
    }

    #[test]
    fn what_a_macro_binds_is_no_variable() {
        let variables = |source| Expression::compile(source).unwrap().variables();
        assert_eq!(variables("pods.all(p, p in names && x.exists(y, y == z))"), ["pods", "names", "x", "z"]);
        // Bound in one place, free in another.
        assert_eq!(variables("a.all(p, p > 1) && p == 2"), ["a", "p"]);
    }

    #[test]
    fn unknown_functions_are_found_without_running() {
        let unknown = |source| Expression::compile(source).unwrap().unknown_functions();
        assert_eq!(unknown("redy(pod) && a.all(x, x.startsWith('y')) && size(a) > 1 && !ready(b)"), ["redy"]);
        assert!(unknown("timeline.after(a).names('ready').distinct() == b ? c[0] : -1").is_empty());
    }

    #[test]
    fn templates_put_values_in_their_places() {
        let template = Template::compile("kubectl delete pod ${target.pods[1]} --grace-period=${n}").unwrap();
        let scope = scope(json!({"target": {"pods": ["a-0", "a-1"]}, "n": 5}));
        assert_eq!(template.render(&scope).unwrap(), "kubectl delete pod a-1 --grace-period=5");
        assert!(Template::compile("${never").is_err());
    }
}
