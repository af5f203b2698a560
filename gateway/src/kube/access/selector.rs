//! Label selectors as Kubernetes has them, on the labels of a workspace's pod.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::kube::discover::rule::CUT;

/// A selector as it is written.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Written {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) match_labels: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) match_expressions: Option<Vec<Expression>>,
}

/// One condition as it is written.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Expression {
    pub(super) key: String,
    pub(super) operator: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) values: Option<Vec<String>>,
}

/// A selector that was checked: all of its conditions have to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Selector(Vec<Condition>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Condition {
    In(String, BTreeSet<String>),
    NotIn(String, BTreeSet<String>),
    Exists(String),
    DoesNotExist(String),
}

impl Selector {
    /// Checks what is written.
    ///
    /// # Errors
    /// What is wrong, in a sentence.
    pub(super) fn read(written: Written) -> Result<Self, String> {
        let labels = written.match_labels.unwrap_or_default();
        let expressions = written.match_expressions.unwrap_or_default();
        if labels.len() + expressions.len() > MOST_CONDITIONS {
            return Err(format!("a selector has at most {MOST_CONDITIONS} conditions"));
        }
        let labels = labels.into_iter().map(|(key, value)| {
            let (key, value) = (self::key(key)?, self::value(value)?);
            Ok(Condition::In(key, BTreeSet::from([value])))
        });
        let expressions = expressions.into_iter().map(|one| {
            let key = self::key(one.key)?;
            let values = one.values.unwrap_or_default();
            if values.len() > MOST_VALUES {
                return Err(format!("a condition has at most {MOST_VALUES} values"));
            }
            let count = values.len();
            let values: BTreeSet<String> = values.into_iter().map(self::value).collect::<Result<_, _>>()?;
            match (one.operator.as_str(), count) {
                ("In" | "NotIn", 0) => Err(format!("`{}` needs values", one.operator)),
                ("In", _) => Ok(Condition::In(key, values)),
                ("NotIn", _) => Ok(Condition::NotIn(key, values)),
                ("Exists", 0) => Ok(Condition::Exists(key)),
                ("DoesNotExist", 0) => Ok(Condition::DoesNotExist(key)),
                ("Exists" | "DoesNotExist", _) => Err(format!("`{}` takes no values", one.operator)),
                _ => Err("an operator is none of In, NotIn, Exists and DoesNotExist".to_owned()),
            }
        });
        labels.chain(expressions).collect::<Result<_, String>>().map(Self)
    }

    /// Whether it means an object with these labels. It means none whose labels are not known whole.
    pub(super) fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        let holds = |condition: &Condition| match condition {
            Condition::In(key, values) => labels.get(key).is_some_and(|value| values.contains(value)),
            Condition::NotIn(key, values) => labels.get(key).is_none_or(|value| !values.contains(value)),
            Condition::Exists(key) => labels.contains_key(key),
            Condition::DoesNotExist(key) => !labels.contains_key(key),
        };
        !labels.contains_key(CUT) && self.0.iter().all(holds)
    }
}

/// A label's key: an optional DNS prefix, and a name.
fn key(text: String) -> Result<String, String> {
    let (prefix, name) = text
        .rsplit_once('/')
        .map_or((None, text.as_str()), |(prefix, name)| (Some(prefix), name));
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
    let good_prefix = |prefix: &str| !prefix.is_empty() && prefix.len() <= 253 && prefix.bytes().all(plain);
    match !name.is_empty() && is_name(name) && prefix.is_none_or(good_prefix) {
        true => Ok(text),
        false => Err("a key of the selector is not one that a label can have".to_owned()),
    }
}

fn value(text: String) -> Result<String, String> {
    match text.is_empty() || is_name(&text) {
        true => Ok(text),
        false => Err("a value of the selector is not one that a label can have".to_owned()),
    }
}

fn is_name(text: &str) -> bool {
    let end = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    text.len() <= 63 && text.bytes().all(plain) && end(text.bytes().next()) && end(text.bytes().last())
}

/// Conditions of one selector.
pub(super) const MOST_CONDITIONS: usize = 16;
/// Values of one condition.
pub(super) const MOST_VALUES: usize = 32;

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(written: Value) -> Result<Selector, String> {
        Selector::read(serde_json::from_value(written).map_err(|error| error.to_string())?)
    }

    fn labels(of: &[(&str, &str)]) -> BTreeMap<String, String> {
        of.iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn selectors_mean_what_kubernetes_means_by_them() {
        let (plain, other, none) = (
            labels(&[("app", "a"), ("example.test/tier", "x")]),
            labels(&[("app", "b")]),
            labels(&[]),
        );
        let one = |operator: &str, values: Value| {
            let mut one = json!({"key": "app", "operator": operator});
            if values != Value::Null {
                one["values"] = values;
            }
            json!({"matchExpressions": [one]})
        };
        for (written, expected) in [
            (json!({}), [true, true, true]),
            (json!({"matchLabels": {"app": "a"}}), [true, false, false]),
            (
                json!({"matchLabels": {"example.test/tier": "x", "app": "a"}}),
                [true, false, false],
            ),
            (one("In", json!(["a", "b"])), [true, true, false]),
            (one("NotIn", json!(["a"])), [false, true, true]),
            (one("Exists", Value::Null), [true, true, false]),
            (one("DoesNotExist", json!([])), [false, false, true]),
        ] {
            let selector = read(written.clone()).unwrap();
            assert_eq!(
                [&plain, &other, &none].map(|one| selector.matches(one)),
                expected,
                "{written}"
            );
        }
        // Of labels that are not known whole nothing can be said, not even that one is missing.
        let cut = labels(&[("app", "a"), (CUT, "")]);
        for written in [json!({}), one("Exists", Value::Null), one("NotIn", json!(["z"]))] {
            assert!(!read(written).unwrap().matches(&cut));
        }
    }

    #[test]
    fn what_is_no_selector_is_refused() {
        let many: Vec<Value> = (0..40)
            .map(|n| json!({"key": format!("k{n}"), "operator": "Exists"}))
            .collect();
        let values: Vec<String> = (0..40).map(|n| format!("v{n}")).collect();
        for (written, why) in [
            (json!({"matchLabels": {"": "a"}}), "a key"),
            (json!({"matchLabels": {"a/b/c": "a"}}), "a key"),
            (json!({"matchLabels": {"a": "b\u{0}"}}), "a value"),
            (json!({"matchLabels": {"a": "x".repeat(64)}}), "a value"),
            (json!({"matchLabels": {"\u{430}pp": "a"}}), "a key"),
            (
                json!({"matchExpressions": [{"key": "a", "operator": "Gt", "values": ["1"]}]}),
                "operator",
            ),
            (
                json!({"matchExpressions": [{"key": "a", "operator": "in", "values": ["1"]}]}),
                "operator",
            ),
            (
                json!({"matchExpressions": [{"key": "a", "operator": "In"}]}),
                "needs values",
            ),
            (
                json!({"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["1"]}]}),
                "no values",
            ),
            (
                json!({"matchExpressions": [{"key": "a", "operator": "In", "values": values}]}),
                "values",
            ),
            (json!({"matchExpressions": many}), "conditions"),
            (json!({"matchFields": []}), "unknown field"),
        ] {
            let refused = read(written).unwrap_err();
            assert!(refused.contains(why), "{why}: {refused}");
        }
    }
}
