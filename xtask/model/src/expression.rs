//! CEL expressions: compiled when the lab is loaded, judged on what a run recorded, explained by their parts.
//!
//! CEL is the language Kubernetes itself validates with: <https://kubernetes.io/docs/reference/using-api/cel/>.

mod bounds;
mod tree;
mod parts;
mod compiled;
mod template;
mod command_line;

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use cel::common::ast::IdedExpr;
use cel::extractors::This;
use cel::objects::{Key, Map};
use cel::{Context, Env, Program, Value};
use serde_json::Value as Json;

#[cfg(test)]
pub(crate) use bounds::{CHARS, DEPTH};
pub use command_line::CommandLine;
pub use compiled::{Compile, Compiled};
pub use template::Template;

use self::bounds::Shape;
use self::tree::Places;
use crate::condition;
use crate::record::Seen;
use crate::stack::{LEVEL, PARSER, with_room};
use crate::text::on_one_line;

/// The variables an expression reads.
pub type Scope = serde_json::Map<String, Json>;

/// The functions of ours that expressions may call, beside CEL's own and its lists, strings and math libraries.
pub const FUNCTIONS: [&str; 6] = ["ready", "rolledOut", "ordinal", "after", "before", "names"];

/// CEL's own that a misspelt name may have meant.
pub const CEL_FUNCTIONS: [&str; 30] = [
    "all",
    "bool",
    "charAt",
    "contains",
    "distinct",
    "double",
    "endsWith",
    "exists",
    "exists_one",
    "filter",
    "flatten",
    "has",
    "indexOf",
    "int",
    "join",
    "lastIndexOf",
    "lowerAscii",
    "map",
    "matches",
    "replace",
    "reverse",
    "size",
    "slice",
    "sort",
    "sortBy",
    "split",
    "startsWith",
    "string",
    "substring",
    "trim",
];

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
    shape: Shape,
    /// The variables it reads: asked for at every change of what a condition waits for.
    variables: Vec<String>,
}

impl std::fmt::Debug for Expression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Expression({:?})", self.source)
    }
}

/// What is wrong with an expression or a text that holds some.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What is wrong, in one line.
    pub says: String,
    /// The character at which it shows, counted from zero, where that is known.
    pub at: Option<usize>,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.says)
    }
}

/// A name in an expression, and the character at which it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// The name.
    pub name: String,
    /// Counted from zero.
    pub at: Option<usize>,
}

/// The names an expression holds, each once.
#[derive(Debug, Default)]
pub struct Reads {
    /// The variables, without those that macros bind.
    pub variables: Vec<Name>,
    /// Fields that are read of such variables, with the variable's name first.
    pub fields: Vec<(String, Name)>,
    /// The functions called.
    pub functions: Vec<Name>,
}

impl Compile for Expression {
    fn compile(source: &str) -> Result<Self, Fault> {
        let shape = bounds::check(source)?;
        let Some(parsed) = with_room(PARSER, || ENVIRONMENT.compile(source)) else {
            return Err(Fault { says: "the parser gave up on this expression".to_owned(), at: None });
        };
        let program = parsed.map_err(|errors| {
            // What follows the first error mostly follows from it.
            let first = errors.errors.iter().find(|error| error.pos.0 > 0).or(errors.errors.first());
            let says = first.map_or("this is no expression", |error| error.msg.as_str());
            let says = on_one_line(says);
            Fault { says, at: first.and_then(|error| character(source, error.pos)) }
        })?;
        let (source, variables) = (source.to_owned(), Vec::new());
        let mut expression = Self { source, program: Arc::new(program), shape, variables };
        expression.variables =
            expression.reads().variables.into_iter().map(|variable| variable.name).collect();
        Ok(expression)
    }

    fn expressions(&self) -> Vec<(usize, &Expression)> {
        vec![(0, self)]
    }
}

impl Expression {
    /// The names it holds, and where.
    pub fn reads(&self) -> Reads {
        tree::names(self.program.expression(), &self.places())
    }

    /// The variables it reads, without those that its own macros bind.
    pub fn variables(&self) -> &[String] {
        &self.variables
    }

    /// The functions it calls that neither CEL nor the lab knows.
    pub fn unknown_functions(&self) -> Vec<Name> {
        self.reads().functions.into_iter().filter(|function| !is_known(&function.name)).collect()
    }

    /// Its value.
    ///
    /// # Errors
    /// A variable, field or key that isn't there; a type that does not fit.
    pub fn value(&self, scope: &Scope) -> Result<Json, String> {
        let judged = || {
            let value = self.program.execute(&self.context(scope)).map_err(|error| error.to_string())?;
            to_json(&value)
        };
        with_room(self.stack_bytes(), judged)
            .unwrap_or_else(|| Err("the interpreter gave up on it".to_owned()))
    }

    fn context(&self, scope: &Scope) -> Context<'static, 'static> {
        let mut context = Context::with_env(Arc::clone(&ENVIRONMENT));
        for name in &self.variables {
            if let Some(value) = scope.get(name) {
                context.add_variable_from_value(name, to_cel(value));
            }
        }
        add_functions(&mut context);
        context
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
    /// does not hold: the parts for the first that it does not hold for.
    pub fn parts(&self, scope: &Scope) -> Vec<Seen> {
        let collected = || {
            let mut parts = parts::Parts { of: self, seen: Vec::new() };
            parts.collect(self.program.expression(), &self.context(scope), "");
            parts.seen
        };
        with_room(self.stack_bytes(), collected).unwrap_or_default()
    }

    /// A node as it stands in the text.
    fn text_of(&self, node: &IdedExpr) -> String {
        let span = tree::span(node, &self.places(), &self.shape.brackets);
        span.map_or_else(
            || self.source.clone(),
            |(start, end)| self.source.chars().take(end).skip(start).collect(),
        )
    }

    fn places(&self) -> Places<'_> {
        Places::new(&self.source, self.program.source_info())
    }

    /// What judging it takes.
    fn stack_bytes(&self) -> usize {
        LEVEL * (self.shape.depth + 8)
    }
}

/// Whether there is a function of this name. Operators have names that don't begin with a letter.
fn is_known(name: &str) -> bool {
    static OF_CEL: LazyLock<Mutex<HashMap<String, bool>>> = LazyLock::new(Mutex::default);
    // Declaring a name that CEL has is refused. That is asked once for each name, since it takes a while.
    let declared = || Context::with_env(Arc::clone(&ENVIRONMENT)).add_function(name, || true).is_err();
    FUNCTIONS.contains(&name)
        || !name.starts_with(char::is_alphabetic)
        || *OF_CEL
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(name.to_owned())
            .or_insert_with(declared)
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

/// The character at a line and column that CEL counts from one.
fn character(source: &str, (line, column): (isize, isize)) -> Option<usize> {
    let (line, column) = (usize::try_from(line - 1).ok()?, usize::try_from(column - 1).ok()?);
    let before = source.split_inclusive('\n').take(line).map(|line| line.chars().count());
    Some((before.sum::<usize>() + column).min(source.chars().count()))
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
    fn what_is_missing_is_named() {
        let error = value("pods['counter-1'].metadata.uid", json!({"pods": {}})).unwrap_err();
        assert!(error.contains("counter-1"), "{error}");
        assert!(value("nothing.here", json!({})).unwrap_err().contains("nothing"));
    }

    #[test]
    fn a_name_is_found_behind_characters_of_any_length() {
        let reads = Expression::compile("'é𝒳' == a . b && f ( c.d )").unwrap().reads();
        let at = |names: &[Name]| names.iter().map(|name| (name.name.clone(), name.at)).collect::<Vec<_>>();
        let found = |name: &str, at| (name.to_owned(), Some(at));
        assert_eq!(at(&reads.variables), [found("a", 8), found("c", 21)]);
        let fields: Vec<Name> = reads.fields.into_iter().map(|(_, field)| field).collect();
        assert_eq!(at(&fields), [found("b", 12), found("d", 23)]);
        assert_eq!(at(&reads.functions)[2..], [found("f", 17)]);
        assert_eq!(Expression::compile("'é𝒳' == ]").unwrap_err().at, Some(8));
    }

    #[test]
    fn what_a_macro_binds_is_no_variable() {
        let variables = |source| Expression::compile(source).unwrap().variables().to_vec();
        assert_eq!(variables("pods.all(p, p in names && x.exists(y, y == z))"), ["pods", "names", "x", "z"]);
        // Bound in one place, free in another.
        assert_eq!(variables("a.all(p, p > 1) && p == 2"), ["a", "p"]);
    }

    #[test]
    fn unknown_functions_are_found_without_running() {
        let unknown = |source| -> Vec<String> {
            let unknown = Expression::compile(source).unwrap().unknown_functions();
            unknown.into_iter().map(|function| function.name).collect()
        };
        assert_eq!(unknown("redy(pod) && a.all(x, x.startsWith('y')) && size(a) > 1 && !ready(b)"), ["redy"]);
        assert!(unknown("timeline.after(a).names('ready').distinct() == b ? c[0] : -1").is_empty());
    }
}
