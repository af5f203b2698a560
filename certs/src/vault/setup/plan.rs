//! What has to change: each step held against what a Vault holds now.
//!
//! Nothing is ever removed, an existing CA key is never touched, and what an auth method believes is changed only at a
//! mount that was made for Doorward: others may live on it.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};

use super::step::{ACCESSOR_OF, Kind, OURS, Step, accessor_of};

/// What a Vault holds now, by path below `/v1/`; a path with nothing is not there.
pub type Live = BTreeMap<String, Map<String, Value>>;

/// What has to change, in the order in which it can be done.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// One for each step.
    pub changes: Vec<Change>,
}

/// One step, and how it stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// How it stands.
    pub verdict: Verdict,
    /// Where it is written, below `/v1/`.
    pub path: String,
    /// What it is for.
    pub what: &'static str,
    /// The fields that differ.
    pub fields: Vec<Difference>,
    /// Why it cannot be done, if it cannot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conflict: Option<String>,
    #[serde(skip)]
    pub(super) step: Step,
    /// What is written.
    #[serde(skip)]
    pub(super) body: Map<String, Value>,
}

/// How a step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// There is nothing yet.
    Create,
    /// Something differs.
    Change,
    /// Nothing differs.
    Same,
    /// Something that is not ours stands in the way.
    Conflict,
}

/// A field that differs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// Its name.
    pub field: String,
    /// What it is now; null where it is not there.
    pub old: Value,
    /// What it has to be.
    pub new: Value,
}

impl Plan {
    /// Holds the steps against what there is.
    #[must_use]
    pub fn of(steps: Vec<Step>, live: &Live) -> Self {
        let changes = steps
            .into_iter()
            .map(|mut step| {
                if let Some(mount) = names_accessor(&step.body)
                    && let Some(accessor) = of_auth(live, &mount, "accessor")
                {
                    name_accessor(&mut step.body, &mount, accessor);
                }
                judge(step, live)
            })
            .collect();
        Self { changes }
    }

    /// How many steps stand like that.
    #[must_use]
    pub fn count(&self, verdict: Verdict) -> usize {
        self.changes.iter().filter(|change| change.verdict == verdict).count()
    }

    /// Whether everything is as it has to be.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.count(Verdict::Same) == self.changes.len()
    }
}

/// What an auth method's mount says of itself.
fn of_auth<'a>(live: &'a Live, mount: &str, field: &str) -> Option<&'a str> {
    live.get(&format!("sys/auth/{mount}"))?.get(field)?.as_str()
}

/// The mount whose accessor is still to be put in, if there is one.
pub(super) fn names_accessor(body: &Map<String, Value>) -> Option<String> {
    body.values().find_map(|value| match value {
        Value::String(text) => {
            let (_, rest) = text.split_once(ACCESSOR_OF)?;
            Some(rest.split_once(')')?.0.to_owned())
        }
        Value::Object(inner) => names_accessor(inner),
        _ => None,
    })
}

/// Puts the accessor of a mount where a step names it.
pub(super) fn name_accessor(body: &mut Map<String, Value>, mount: &str, accessor: &str) {
    for value in body.values_mut() {
        match value {
            Value::String(text) => *text = text.replace(&accessor_of(mount), accessor),
            Value::Object(inner) => name_accessor(inner, mount, accessor),
            _ => {}
        }
    }
}

fn judge(step: Step, live: &Live) -> Change {
    let Some(found) = live.get(&step.path) else {
        return created(step);
    };
    if matches!(step.kind, Kind::Engine | Kind::Auth) {
        let there = found.get("type").and_then(Value::as_str).unwrap_or_default();
        let wanted = step.body.get("type").and_then(Value::as_str).unwrap_or_default();
        // One plugin under two names.
        if there == wanted || (wanted == "jwt" && there == "oidc") {
            return same(step);
        }
        let text = format!("there is a mount of the type `{there}` here: choose another");
        return conflicting(step, text, Vec::new());
    }
    let mut body = step.body.clone();
    let differences = match step.kind {
        Kind::CaKey | Kind::AuthCluster => Vec::new(),
        Kind::Tuning => widened(&mut body, found),
        _ => differing(&body, found),
    };
    if differences.is_empty() {
        return same(step);
    }
    let ours = |mount| of_auth(live, mount, "description").is_some_and(|text| text.starts_with(OURS));
    if step.kind == Kind::AuthConfig && !step.auth_mount().is_some_and(ours) {
        let text = "this auth method is used by others and believes somebody else: choose another mount for Doorward";
        return conflicting(step, text.to_owned(), differences);
    }
    made(step, Verdict::Change, differences, None, body)
}

fn created(step: Step) -> Change {
    let fields = step
        .body
        .iter()
        .filter(|(_, value)| !is_nothing(value))
        .map(|(name, value)| Difference {
            field: name.clone(),
            old: Value::Null,
            new: value.clone(),
        })
        .collect();
    let body = step.body.clone();
    made(step, Verdict::Create, fields, None, body)
}

fn same(step: Step) -> Change {
    made(step, Verdict::Same, Vec::new(), None, Map::new())
}

fn conflicting(step: Step, text: String, fields: Vec<Difference>) -> Change {
    made(step, Verdict::Conflict, fields, Some(text), Map::new())
}

fn made(
    step: Step,
    verdict: Verdict,
    fields: Vec<Difference>,
    conflict: Option<String>,
    body: Map<String, Value>,
) -> Change {
    Change {
        verdict,
        path: step.path.clone(),
        what: step.what,
        fields,
        conflict,
        step,
        body,
    }
}

fn differing(wanted: &Map<String, Value>, found: &Map<String, Value>) -> Vec<Difference> {
    wanted
        .iter()
        .filter(|(name, value)| !agree(name, value, found.get(*name)))
        .map(|(name, value)| Difference {
            field: name.clone(),
            old: found.get(name).cloned().unwrap_or_default(),
            new: value.clone(),
        })
        .collect()
}

/// Lists that others may have filled: `wanted` becomes the union, and what it adds is returned.
fn widened(wanted: &mut Map<String, Value>, found: &Map<String, Value>) -> Vec<Difference> {
    let mut differences = Vec::new();
    for (name, value) in wanted.iter_mut() {
        let there = words(found.get(name).unwrap_or(&Value::Null));
        let missing: Vec<String> = words(value).into_iter().filter(|word| !there.contains(word)).collect();
        if missing.is_empty() {
            *value = there.into();
            continue;
        }
        let all: Vec<String> = there.iter().cloned().chain(missing).collect();
        *value = all.into();
        differences.push(Difference {
            field: name.clone(),
            old: there.into(),
            new: value.clone(),
        });
    }
    differences
}

/// Whether a field says what it has to. Vault writes lists as arrays or with commas, in an order of its own; leaves out what
/// an old version does not know; and trims texts.
fn agree(name: &str, wanted: &Value, found: Option<&Value>) -> bool {
    let found = found.unwrap_or(&Value::Null);
    if wanted == found || (is_nothing(wanted) && is_nothing(found)) {
        return true;
    }
    match wanted {
        Value::Array(_) => {
            let (mut wanted, mut found) = (words(wanted), words(found));
            wanted.sort();
            found.sort();
            wanted == found
        }
        Value::String(text) if LISTS.contains(&name) => {
            let sorted = |text: &str| {
                let mut all: Vec<String> = text.split(',').map(str::to_owned).collect();
                all.sort();
                all
            };
            found.as_str().is_some_and(|found| sorted(found) == sorted(text))
        }
        Value::String(text) => found.as_str().is_some_and(|found| found.trim() == text.trim()),
        _ => false,
    }
}

fn words(value: &Value) -> Vec<String> {
    let all = value.as_array().map(Vec::as_slice).unwrap_or_default();
    all.iter()
        .map(|one| one.as_str().map_or_else(|| one.to_string(), str::to_owned))
        .collect()
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::String(text) => text.is_empty(),
        Value::Array(all) => all.is_empty(),
        Value::Object(all) => all.is_empty(),
        Value::Number(number) => number.as_f64() == Some(0.0),
    }
}

/// Texts that are lists with commas.
const LISTS: [&str; 4] = [
    "allowed_users",
    "allowed_domains",
    "allowed_extensions",
    "allowed_critical_options",
];
