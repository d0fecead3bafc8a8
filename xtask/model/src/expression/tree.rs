//! The tree that CEL makes of an expression: its names, and where in the text each of its nodes stands.

use cel::common::ast::{EntryExpr, Expr, IdedExpr, SourceInfo};

use super::{Name, Reads};

/// Where the parser found things.
pub(super) struct Places<'a> {
    source: &'a str,
    chars: Vec<char>,
    found: &'a SourceInfo,
}

impl<'a> Places<'a> {
    pub(super) fn new(source: &'a str, found: &'a SourceInfo) -> Self {
        Self { source, chars: source.chars().collect(), found }
    }

    /// The first and the last character of a node's own token. Of a call that is its bracket, of a field its dot: the
    /// name that stands before or behind is part of it.
    fn of(&self, node: &IdedExpr) -> Option<(usize, usize)> {
        let character = |byte: u32| Some(self.source.get(..usize::try_from(byte).ok()?)?.chars().count());
        let (first, last) = self.found.offset_for(node.id)?;
        let (first, last) = (character(first)?, character(last)?);
        Some(match &node.expr {
            Expr::Call(call) if call.func_name.starts_with(char::is_alphabetic) => {
                (self.name_before(first), last)
            }
            Expr::Select(select) if select.test => (self.name_before(first), last),
            Expr::Select(select) => (first, self.name_behind(first, &select.field).unwrap_or(last)),
            // `-1` is one literal, and its token the digits.
            Expr::Literal(_) if first > 0 && self.chars.get(first - 1) == Some(&'-') => (first - 1, last),
            _ => (first, last),
        })
    }

    /// Where the name that ends before this character begins.
    fn name_before(&self, at: usize) -> usize {
        let before = |end: usize, skip: fn(char) -> bool| {
            self.chars[..end].iter().rposition(|c| !skip(*c)).map_or(0, |last| last + 1)
        };
        before(before(at, char::is_whitespace), |c| c.is_alphanumeric() || c == '_')
    }

    /// The last character of the name that stands behind this one.
    fn name_behind(&self, at: usize, name: &str) -> Option<usize> {
        let begins = self.chars.iter().skip(at + 1).position(|c| !c.is_whitespace())?;
        Some(at + begins + name.chars().count())
    }
}

/// The names read in an expression that nothing inside it binds, and the functions called.
pub(super) fn names(root: &IdedExpr, places: &Places<'_>) -> Reads {
    let mut reads = Reads::default();
    collect_names(root, places, &mut Vec::new(), &mut reads);
    reads
}

/// Whether it reads any variable.
pub(super) fn reads_something(root: &IdedExpr) -> bool {
    !names(root, &Places::new("", &SourceInfo::default())).variables.is_empty()
}

/// The characters from the first to behind the last of a node.
///
/// The parser keeps one token of each: a name, a literal, an operator, a dot, an opening bracket. A node reaches from
/// the first to the last of those below it, and to the other end of every bracket that is open between them.
pub(super) fn span(
    root: &IdedExpr,
    places: &Places<'_>,
    brackets: &[(usize, usize)],
) -> Option<(usize, usize)> {
    let (mut start, mut end) = (usize::MAX, 0);
    let mut nodes = vec![root];
    while let Some(node) = nodes.pop() {
        nodes.extend(children(node));
        if let Some((first, last)) = places.of(node) {
            (start, end) = (start.min(first), end.max(last + 1));
        }
    }
    for (open, close) in brackets {
        if (start..end).contains(open) {
            end = end.max(close + 1);
        }
    }
    for (open, close) in brackets {
        if (start..end).contains(close) {
            start = start.min(*open);
        }
    }
    (start < end).then_some((start, end))
}

fn collect_names(node: &IdedExpr, places: &Places<'_>, bound: &mut Vec<String>, reads: &mut Reads) {
    let named = |name: &str| Name {
        name: name.to_owned(),
        at: places.of(node).map(|(first, last)| match &node.expr {
            Expr::Select(select) if !select.test => last + 1 - select.field.chars().count(),
            _ => first,
        }),
    };
    let free =
        |name: &str, bound: &[String]| !name.starts_with('@') && bound.iter().all(|other| other != name);
    match &node.expr {
        Expr::Ident(name) if free(name, bound) && reads.variables.iter().all(|other| other.name != *name) => {
            reads.variables.push(named(name));
        }
        Expr::Call(call) if reads.functions.iter().all(|other| other.name != call.func_name) => {
            reads.functions.push(named(&call.func_name));
        }
        Expr::Select(select) => {
            if let Expr::Ident(of) = &select.operand.expr
                && free(of, bound)
                && reads.fields.iter().all(|(other, field)| other != of || field.name != select.field)
            {
                reads.fields.push((of.clone(), named(&select.field)));
            }
        }
        Expr::Comprehension(comprehension) => {
            collect_names(&comprehension.iter_range, places, bound, reads);
            collect_names(&comprehension.accu_init, places, bound, reads);
            let depth = bound.len();
            bound.extend([comprehension.iter_var.clone(), comprehension.accu_var.clone()]);
            bound.extend(comprehension.iter_var2.clone());
            for node in [&comprehension.loop_cond, &comprehension.loop_step, &comprehension.result] {
                collect_names(node, places, bound, reads);
            }
            return bound.truncate(depth);
        }
        _ => {}
    }
    children(node).into_iter().for_each(|child| collect_names(child, places, bound, reads));
}

fn children(node: &IdedExpr) -> Vec<&IdedExpr> {
    match &node.expr {
        Expr::Call(call) => call.target.iter().map(AsRef::as_ref).chain(&call.args).collect(),
        Expr::Select(select) => vec![&select.operand],
        Expr::List(list) => list.elements.iter().collect(),
        Expr::Map(map) => map.entries.iter().flat_map(|entry| of_entry(&entry.expr)).collect(),
        Expr::Struct(object) => object.entries.iter().flat_map(|entry| of_entry(&entry.expr)).collect(),
        Expr::Comprehension(it) => {
            vec![&it.iter_range, &it.accu_init, &it.loop_cond, &it.loop_step, &it.result]
        }
        Expr::Ident(_) | Expr::Literal(_) | Expr::Unspecified => Vec::new(),
    }
}

fn of_entry(entry: &EntryExpr) -> Vec<&IdedExpr> {
    match entry {
        EntryExpr::MapEntry(entry) => vec![&entry.key, &entry.value],
        EntryExpr::StructField(field) => vec![&field.value],
    }
}
