//! `doorward explain`: who may enter what, and which rule says so.

use doorward_audit::printable;
use serde::Deserialize;
use serde_json::Value;

use super::open;
use crate::cli::ExplainArgs;
use crate::error::Error;
use crate::home::Home;
use crate::{name, say};

/// The gateway's explanation, as far as it is shown as text.
#[derive(Debug, Deserialize)]
struct Explanation {
    user: String,
    workspace: String,
    verdict: String,
    /// In a sentence, where there is more to say.
    why: Option<String>,
    login: Option<String>,
    #[serde(default)]
    capabilities: Vec<String>,
    #[serde(default)]
    longest: Value,
    #[serde(default)]
    recording: Value,
    #[serde(default)]
    rules: Vec<Rule>,
}

#[derive(Debug, Deserialize)]
struct Rule {
    role: String,
    applies: bool,
    #[serde(default)]
    why: String,
}

/// `doorward explain`.
pub(crate) async fn explain(home: &Home, args: &ExplainArgs) -> Result<(), Error> {
    let workspace = name::workspace(&args.workspace)?;
    let (gateway, pass) = open(home).await?;
    let mut url = gateway.at(&["v1", "explain"]);
    url.query_pairs_mut().append_pair("workspace", workspace.as_str());
    let groups = (!args.groups.is_empty()).then(|| args.groups.join(","));
    let pairs = [
        ("user", args.user.as_deref()),
        ("groups", groups.as_deref()),
        ("email", args.email.as_deref()),
    ];
    for (name, value) in pairs {
        if let Some(value) = value {
            url.query_pairs_mut().append_pair(name, value);
        }
    }
    let answer = gateway.web.get(&url, Some(&pass)).await?;
    if args.json {
        return say::print_json(&answer.json::<Value>()?);
    }
    say::print(&answer.json::<Explanation>()?.text())
}

impl Explanation {
    fn text(&self) -> String {
        let mut rows = vec![
            ("user", self.user.clone()),
            ("workspace", self.workspace.clone()),
            ("verdict", self.verdict.clone()),
        ];
        for (name, text) in [("why", &self.why), ("login", &self.login)] {
            if let Some(text) = text {
                rows.push((name, text.clone()));
            }
        }
        if !self.capabilities.is_empty() {
            rows.push(("allowed", self.capabilities.join(" ")));
        }
        for (name, value) in [("longest", &self.longest), ("recording", &self.recording)] {
            if let Some(text) = plain(value) {
                rows.push((name, text));
            }
        }
        let mut text = String::new();
        for (name, value) in rows {
            text.push_str(&format!("{name:<10} {}\n", printable(value.as_bytes())));
        }
        if !self.rules.is_empty() {
            let row = |rule: &Rule| {
                let applies = if rule.applies { "yes" } else { "no" };
                vec![rule.role.clone(), applies.to_owned(), rule.why.clone()]
            };
            let rows: Vec<Vec<String>> = self.rules.iter().map(row).collect();
            text.push('\n');
            text.push_str(&say::table(&["ROLE", "APPLIES", "WHY"], &rows));
        }
        text
    }
}

/// A value on one line; nothing for what says nothing.
fn plain(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        Value::Object(members) => {
            let members: Vec<String> = members
                .iter()
                .filter_map(|(name, value)| Some(format!("{name} {}", plain(value)?)))
                .collect();
            (!members.is_empty()).then(|| members.join(", "))
        }
        other => Some(other.to_string()),
    }
}
