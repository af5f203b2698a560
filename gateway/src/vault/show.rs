//! A plan for people, and as JSON. What Vault says is escaped: it may hold anything.

use std::fmt::Write as _;

use doorward_certs::vault::setup::{Change, Plan, Verdict};
use serde_json::{Value, json};

/// The plan, one line for each thing and one for each field that differs; the last line counts.
pub(super) fn text(plan: &Plan) -> String {
    let mut out = String::new();
    let longest = plan
        .changes
        .iter()
        .map(|change| change.path.len())
        .max()
        .unwrap_or_default();
    for change in &plan.changes {
        let path = &change.path;
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{} {path:<longest$}  {}", mark(change.verdict), change.what);
        if let Some(conflict) = &change.conflict {
            let _ = writeln!(out, "    {}", escaped(conflict));
        }
        for field in &change.fields {
            let name = &field.field;
            let _ = match (&field.old, &field.new) {
                (Value::String(old), Value::String(new)) if new.contains('\n') => {
                    writeln!(out, "    {name}:{}", lines(old, new))
                }
                (_, new) if change.verdict == Verdict::Create => writeln!(out, "    {name}: {}", value(new)),
                (old, new) => writeln!(out, "    {name}: {} → {}", value(old), value(new)),
            };
        }
    }
    let _ = writeln!(out, "{}", counts(plan));
    out
}

/// The same as JSON.
pub(super) fn json(plan: &Plan) -> Value {
    json!({ "changes": plan.changes })
}

/// A long text that changes: the lines that go and come, without those before and after that stay.
fn lines(old: &str, new: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.trim_end().lines().collect(), new.trim_end().lines().collect());
    let before = old.iter().zip(&new).take_while(|(old, new)| old == new).count();
    let rest = old.len().min(new.len()) - before;
    let after = old
        .iter()
        .rev()
        .zip(new.iter().rev())
        .take(rest)
        .take_while(|(old, new)| old == new)
        .count();
    let gone = old[before..old.len() - after]
        .iter()
        .map(|line| format!("\n      - {}", escaped(line)));
    let come = new[before..new.len() - after]
        .iter()
        .map(|line| format!("\n      + {}", escaped(line)));
    gone.chain(come).collect()
}

/// How many things stand how.
pub(super) fn counts(plan: &Plan) -> String {
    if plan.is_done() {
        return format!("nothing to do: all {} are as they have to be", plan.changes.len());
    }
    let mut parts = Vec::new();
    for (verdict, word) in [
        (Verdict::Create, "to make"),
        (Verdict::Change, "to change"),
        (Verdict::Same, "as they have to be"),
        (Verdict::Conflict, "in the way"),
    ] {
        let count = plan.count(verdict);
        if count > 0 {
            parts.push(format!("{count} {word}"));
        }
    }
    parts.join(", ")
}

/// The places where something is in the way.
pub(super) fn conflicts(plan: &Plan) -> Vec<&Change> {
    plan.changes
        .iter()
        .filter(|change| change.verdict == Verdict::Conflict)
        .collect()
}

fn mark(verdict: Verdict) -> char {
    match verdict {
        Verdict::Create => '+',
        Verdict::Change => '~',
        Verdict::Same => '=',
        Verdict::Conflict => '!',
    }
}

fn value(value: &Value) -> String {
    match value {
        Value::Null => "(nothing)".to_owned(),
        Value::String(text) if text.contains('\n') => {
            let lines: Vec<String> = text
                .trim_end()
                .lines()
                .map(|line| format!("\n      | {}", escaped(line)))
                .collect();
            lines.concat()
        }
        // JSON escapes control characters; what is left that could fool a terminal is escaped here.
        other => escaped(&other.to_string()),
    }
}

fn escaped(text: &str) -> String {
    text.chars()
        .flat_map(|character| match character {
            '"' | '\\' | '\'' | '→' => vec![character],
            other => other.escape_debug().collect(),
        })
        .collect()
}
