//! What an expression came to, part by part: for a person who wants to know why it is true, or why it is not.
//!
//! The parts are nodes of the compiled tree, judged where they stand; shown is only what counted. Of a disjunction
//! that is true that is the side that made it true, of a choice its condition and the branch that was taken.

use cel::common::ast::{ComprehensionExpr, Expr, IdedExpr, operators};
use cel::objects::Key;
use cel::{Context, Value};
use serde_json::Value as Json;

use super::{Expression, to_json, tree};
use crate::record::Seen;

/// A part's value is shown up to this many characters: a whole object would hide the point.
const SHOWN_CHARS: usize = 2000;

const COMPARISONS: [&str; 7] = [
    operators::EQUALS,
    operators::NOT_EQUALS,
    operators::LESS,
    operators::LESS_EQUALS,
    operators::GREATER,
    operators::GREATER_EQUALS,
    operators::IN,
];

/// The parts of an expression, collected in the order in which they stand in it.
pub(super) struct Parts<'a> {
    pub(super) of: &'a Expression,
    pub(super) seen: Vec<Seen>,
}

impl Parts<'_> {
    /// `bound` tells what variables of macros stood for: ` for p = "counter-1"`.
    pub(super) fn collect(&mut self, node: &IdedExpr, context: &Context<'_, '_>, bound: &str) {
        match &node.expr {
            Expr::Call(call) => match (call.func_name.as_str(), call.args.as_slice()) {
                (and @ operators::LOGICAL_AND, _) => {
                    let mut failed = false;
                    for conjunct in operands(node, and) {
                        // What stands behind one that does not hold may be there only when it does.
                        if !failed || value(conjunct, context).is_ok() {
                            self.collect(conjunct, context, bound);
                        }
                        failed |= truth(conjunct, context) == Some(false);
                    }
                }
                (or @ operators::LOGICAL_OR, _) => {
                    let sides = operands(node, or);
                    let holds = sides.iter().find(|side| truth(side, context) == Some(true));
                    let counted = holds.map_or(sides.as_slice(), std::slice::from_ref);
                    counted.iter().for_each(|side| self.collect(side, context, bound));
                }
                (operators::CONDITIONAL, [condition, then, otherwise]) => {
                    self.collect(condition, context, bound);
                    let taken = truth(condition, context).map(|holds| if holds { then } else { otherwise });
                    taken.into_iter().for_each(|branch| self.collect(branch, context, bound));
                }
                (comparison, sides) if COMPARISONS.contains(&comparison) => {
                    sides.iter().for_each(|side| self.show(side, context, bound));
                }
                _ => self.show(node, context, bound),
            },
            Expr::Comprehension(comprehension) => match of_all(comprehension) {
                Some(body) => self.collect_all(node, comprehension, body, context, bound),
                None => self.show(node, context, bound),
            },
            _ => self.show(node, context, bound),
        }
    }

    /// Of an `all` that does not hold, the parts for the first it does not hold for.
    fn collect_all(
        &mut self,
        node: &IdedExpr,
        all: &ComprehensionExpr,
        body: &IdedExpr,
        context: &Context<'_, '_>,
        bound: &str,
    ) {
        let items = value(&all.iter_range, context).map(items).unwrap_or_default();
        for item in items {
            let told = to_json(&item);
            let mut inner = context.new_inner_scope();
            inner.add_variable_from_value(&*all.iter_var, item);
            if let (Ok(told), Some(false)) = (told, truth(body, &inner)) {
                return self.collect(body, &inner, &format!("{bound} for {} = {told}", all.iter_var));
            }
        }
        self.show(node, context, bound);
    }

    fn show(&mut self, node: &IdedExpr, context: &Context<'_, '_>, bound: &str) {
        let part = format!("{}{bound}", self.of.text_of(node));
        // What reads nothing is what was expected, not what was seen.
        if self.seen.iter().any(|other| other.part == part) || !tree::reads_something(node) {
            return;
        }
        let value = match value(node, context).and_then(|value| to_json(&value)) {
            Ok(value) => shorten(value),
            Err(error) => Json::String(format!("({error})")),
        };
        self.seen.push(Seen { part, value });
    }
}

fn value(node: &IdedExpr, context: &Context<'_, '_>) -> Result<Value, String> {
    context.resolve(node).map_err(|error| error.to_string())
}

fn truth(node: &IdedExpr, context: &Context<'_, '_>) -> Option<bool> {
    match value(node, context) {
        Ok(Value::Bool(holds)) => Some(holds),
        _ => None,
    }
}

/// What a chain such as `a && b && c` is made of: the parser makes a balanced tree of it.
fn operands<'a>(node: &'a IdedExpr, operator: &str) -> Vec<&'a IdedExpr> {
    match &node.expr {
        Expr::Call(call) if call.func_name == operator => {
            call.args.iter().flat_map(|side| operands(side, operator)).collect()
        }
        _ => vec![node],
    }
}

/// The condition that an `all` asks of each.
fn of_all(comprehension: &ComprehensionExpr) -> Option<&IdedExpr> {
    match &comprehension.loop_step.expr {
        Expr::Call(step) if step.func_name == operators::LOGICAL_AND => step.args.get(1),
        _ => None,
    }
}

/// What a macro goes through: the items of a list, or the keys of a map, which have no order of their own.
fn items(range: Value) -> Vec<Value> {
    match range {
        Value::List(items) => items.to_vec(),
        Value::Map(map) => {
            let mut keys: Vec<&Key> = map.map.keys().collect();
            keys.sort();
            let of = |key: &Key| match key {
                Key::Int(key) => Value::Int(*key),
                Key::Uint(key) => Value::UInt(*key),
                Key::Bool(key) => Value::Bool(*key),
                Key::String(key) => Value::String(key.clone()),
            };
            keys.into_iter().map(of).collect()
        }
        _ => Vec::new(),
    }
}

fn shorten(value: Json) -> Json {
    let text = value.to_string();
    if text.chars().count() <= SHOWN_CHARS {
        return value;
    }
    Json::String(text.chars().take(SHOWN_CHARS).chain("…".chars()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expression::Compile;
    use serde_json::json;

    fn shown(source: &str, variables: Json) -> Vec<String> {
        let expression = Expression::compile(source).unwrap();
        let parts = expression.parts(variables.as_object().unwrap());
        parts.iter().map(|seen| format!("{} is {}", seen.part, seen.value)).collect()
    }

    #[test]
    fn a_failed_claim_shows_both_sides_of_each_conjunct() {
        let shown = shown(
            "before.n == after.n && size(list) == 3 && (x in ['a && b'])",
            json!({"before": {"n": 3}, "after": {"n": 0}, "list": [1], "x": "q"}),
        );
        assert_eq!(shown, ["before.n is 3", "after.n is 0", "size(list) is 1", r#"x is "q""#]);
    }

    #[test]
    fn an_all_that_does_not_hold_shows_what_it_fails_for() {
        let variables = json!({"names": ["x", "y"], "ips": {"x": "1", "y": "2"},
            "seen": {"x": {"x": "1", "y": "2"}, "y": {"x": "1", "y": "9"}}});
        assert_eq!(
            shown("size(ips) == 2 && names.all(a, names.all(b, seen[a][b] == ips[b]))", variables),
            [
                "size(ips) is 2",
                r#"seen[a][b] for a = "y" for b = "y" is "9""#,
                r#"ips[b] for a = "y" for b = "y" is "2""#
            ]
        );
        // Of a map it goes through the keys, in their order.
        let variables = json!({"pods": {"c": 1, "a": 0, "b": 0}});
        assert_eq!(shown("pods.all(p, pods[p] > 0)", variables), [r#"pods[p] for p = "a" is 0"#]);
    }

    #[test]
    fn of_a_disjunction_that_is_true_the_side_that_made_it_so_is_shown_and_of_one_that_is_not_every_side() {
        let either = "a == 1 || b == 2 || c[7] == 3";
        assert_eq!(shown(either, json!({"a": 0, "b": 2, "c": {}})), ["b is 2"]);
        assert_eq!(shown(either, json!({"a": 0, "b": 0, "c": {"x": 1}}))[..2], ["a is 0", "b is 0"]);
        // As one side of a conjunction, with brackets that belong to it.
        let within = "size(list) == 1 && (a == 1 || b == 2)";
        assert_eq!(shown(within, json!({"list": [0], "a": 1, "b": 2})), ["size(list) is 1", "a is 1"]);
    }

    #[test]
    fn of_a_choice_the_condition_and_the_branch_that_was_taken_are_shown() {
        let choice = "has(spec.start) ? spec.start == first : first == 0";
        let shown_of = |spec: Json| shown(choice, json!({"spec": spec, "first": 5}));
        assert_eq!(
            shown_of(json!({"start": 5})),
            ["has(spec.start) is true", "spec.start is 5", "first is 5"]
        );
        assert_eq!(shown_of(json!({})), ["has(spec.start) is false", "first is 5"]);
    }

    #[test]
    fn what_a_failed_conjunct_guards_is_no_error() {
        assert_eq!(
            shown("has(pod.ip) && pod.ip == node && n == 1", json!({"pod": {}, "node": "x", "n": 2})),
            ["has(pod.ip) is false", "n is 2"]
        );
    }

    #[test]
    fn a_part_is_shown_as_it_stands_in_the_expression() {
        let source = "e . x [ 'ö)' ] == f ( a , [1, 2] ) // (\n && !( (g) ) && (h).all(x, x > (1)) == (true) && - i < 0";
        let source = source.replace("f (", "size (").replace("a , [1, 2]", "a");
        let expression = Expression::compile(&source).unwrap();
        let parts: Vec<String> =
            expression.parts(&serde_json::Map::new()).into_iter().map(|seen| seen.part).collect();
        assert_eq!(parts, ["e . x [ 'ö)' ]", "size ( a )", "!( (g) )", "(h).all(x, x > (1))", "- i"]);
    }
}
