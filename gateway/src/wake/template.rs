//! Texts of the configuration with places for what is known of a workspace and of who wakes it.
//!
//! A place is `{word}` without spaces; what is between braces in any other way stands for itself, as GraphQL has it. What is
//! filled in is data: in an address it is percent-encoded, in a body it is the inside of a JSON string.

use serde_json::Value;
use url::Url;

use crate::{config::trustworthy, kube::discover::rule::Kept, workspace::Workspace};

/// A text with places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Place(Fact),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Fact {
    Workspace,
    Owner,
    User,
    Namespace,
    Pod,
    Object,
    LastUse,
    KeepUntil,
    Label(String),
    Annotation(String),
}

/// What a text is for: which places it may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Somebody wakes a workspace.
    Wake,
    /// The use of a workspace is told.
    Use,
}

/// What the places are filled with.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The workspace that is meant.
    pub workspace: &'a Workspace,
    /// The person who asks.
    pub user: &'a str,
    /// When it was used last, and until when it is kept awake, each in RFC 3339 or empty.
    pub usage: Option<(&'a str, &'a str)>,
}

impl Template {
    /// Reads a text.
    ///
    /// # Errors
    /// It has a place for something that is not known.
    pub fn parse(text: &str, scope: Scope) -> Result<Self, String> {
        let (mut parts, mut rest) = (Vec::new(), text);
        let mut plain = String::new();
        while let Some(begin) = rest.find('{') {
            plain += &rest[..begin];
            let inside = &rest[begin + 1..];
            let end = inside.find(|one: char| one == '}' || one == '{' || one.is_whitespace());
            match end {
                Some(end) if end > 0 && inside[end..].starts_with('}') => {
                    let place = Part::Place(Fact::parse(&inside[..end], scope)?);
                    if !plain.is_empty() {
                        parts.push(Part::Text(std::mem::take(&mut plain)));
                    }
                    parts.push(place);
                    rest = &inside[end + 1..];
                }
                _ => {
                    plain.push('{');
                    rest = inside;
                }
            }
        }
        plain += rest;
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(Self(parts))
    }

    /// Adds the keys of the labels and annotations that it asks for.
    pub(super) fn keys(&self, into: &mut Kept) {
        for part in &self.0 {
            match part {
                Part::Place(Fact::Label(key)) => drop(into.labels.insert(key.clone())),
                Part::Place(Fact::Annotation(key)) => drop(into.annotations.insert(key.clone())),
                _ => {}
            }
        }
    }

    /// The text with the facts in their places, each as `write` has it.
    ///
    /// # Errors
    /// One of them is not known of this workspace: a sentence for operators.
    fn fill_with(&self, facts: &Facts<'_>, write: impl Fn(&str) -> Result<String, String>) -> Result<String, String> {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Text(plain) => text += plain,
                Part::Place(fact) => text += &write(fact.of(facts)?)?,
            }
        }
        Ok(text)
    }

    /// The text with the facts as they are.
    ///
    /// # Errors
    /// One of them is not known of this workspace.
    pub fn fill(&self, facts: &Facts<'_>) -> Result<String, String> {
        self.fill_with(facts, |text| Ok(text.to_owned()))
    }
}

impl Fact {
    fn parse(word: &str, scope: Scope) -> Result<Self, String> {
        let key = |key: &str| match key.is_empty() || key.len() > 317 {
            true => Err(format!("`{{{}}}` names no label or annotation", word.escape_debug())),
            false => Ok(key.to_owned()),
        };
        match word.split_once(':') {
            None => match word {
                "workspace" => Ok(Self::Workspace),
                "owner" => Ok(Self::Owner),
                "user" if scope == Scope::Wake => Ok(Self::User),
                "last-use" if scope == Scope::Use => Ok(Self::LastUse),
                "keep-until" if scope == Scope::Use => Ok(Self::KeepUntil),
                "namespace" => Ok(Self::Namespace),
                "pod" => Ok(Self::Pod),
                "object" => Ok(Self::Object),
                _ => Err(unknown(word, scope)),
            },
            Some(("label", name)) => key(name).map(Self::Label),
            Some(("annotation", name)) => key(name).map(Self::Annotation),
            Some(_) => Err(unknown(word, scope)),
        }
    }

    fn of<'a>(&self, facts: &Facts<'a>) -> Result<&'a str, String> {
        let workspace = facts.workspace;
        let place = workspace.place.as_ref();
        let found = match self {
            Self::Workspace => Some(workspace.name.as_str()),
            Self::Owner => workspace.owner.as_deref(),
            Self::User => Some(facts.user),
            // That nobody has asked for it is told as well.
            Self::LastUse | Self::KeepUntil => {
                let usage = facts
                    .usage
                    .ok_or("the use of the workspace is not what this is about")?;
                return Ok(if *self == Self::LastUse { usage.0 } else { usage.1 });
            }
            Self::Namespace => place.map(|place| place.namespace.as_str()),
            Self::Pod => place.and_then(|place| place.pod.as_deref()),
            Self::Object => place.and_then(|place| Some(place.owner.as_ref()?.name.as_str())),
            Self::Label(key) => place.and_then(|place| place.labels.get(key).map(String::as_str)),
            Self::Annotation(key) => place.and_then(|place| place.annotations.get(key).map(String::as_str)),
        };
        found
            .filter(|text| !text.is_empty())
            .ok_or_else(|| format!("nothing is known of {} for {self:?}", workspace.name))
    }
}

fn unknown(word: &str, scope: Scope) -> String {
    let own = match scope {
        Scope::Wake => "{user}",
        Scope::Use => "{last-use}, {keep-until}",
    };
    format!(
        "`{{{}}}` is no place: there are {{workspace}}, {{owner}}, {own}, {{namespace}}, {{pod}}, {{object}}, \
         {{label:KEY}} and {{annotation:KEY}}; a brace of your own has a space after it",
        word.escape_debug()
    )
}

/// An address with places in its path and query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    template: Template,
    /// The address with something harmless in its places: where it leads is fixed.
    origin: Url,
}

impl Address {
    /// Reads an address over TLS, or on loopback, without a password.
    ///
    /// # Errors
    /// It is none, or what is filled in could change where it leads.
    pub fn parse(text: &str, scope: Scope) -> Result<Self, String> {
        let template = Template::parse(text, scope)?;
        let written = |with: &str| -> Result<Url, String> {
            let text: String = template
                .0
                .iter()
                .map(|part| match part {
                    Part::Text(plain) => plain.as_str(),
                    Part::Place(_) => with,
                })
                .collect();
            Url::parse(&text).map_err(|error| format!("`{}` is no URL: {error}", text.escape_debug()))
        };
        let (origin, other) = (written("x")?, written("y")?);
        if origin[..url::Position::BeforePath] != other[..url::Position::BeforePath] {
            return Err("must not have a place before its path".to_owned());
        }
        if !trustworthy(&origin) {
            return Err("must be https, or http on loopback".to_owned());
        }
        match origin.username().is_empty() && origin.password().is_none() && origin.fragment().is_none() {
            true => Ok(Self { template, origin }),
            false => Err("must hold no password and no fragment".to_owned()),
        }
    }

    /// Where it leads.
    pub(crate) fn origin(&self) -> &Url {
        &self.origin
    }

    /// Adds the keys of the labels and annotations that it asks for.
    pub(super) fn keys(&self, into: &mut Kept) {
        self.template.keys(into);
    }

    /// The address with the facts in their places.
    pub(super) fn fill(&self, facts: &Facts<'_>) -> Result<Url, String> {
        let text = self.template.fill_with(facts, encoded)?;
        let url = Url::parse(&text).map_err(|error| error.to_string())?;
        match url[..url::Position::BeforePath] == self.origin[..url::Position::BeforePath] {
            true => Ok(url),
            false => Err("the filled address leads elsewhere".to_owned()),
        }
    }
}

/// Percent-encoded (RFC 3986), so that it is one segment of a path or one value of a query, whatever is in it.
fn encoded(text: &str) -> Result<String, String> {
    if matches!(text, "." | "..") {
        return Err("a name that is a step in a path stands in no address".to_owned());
    }
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte.into()),
            _ => out += &format!("%{byte:02X}"),
        }
    }
    Ok(out)
}

/// A JSON body whose strings have places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Json(Value, Scope);

impl Json {
    /// Takes a value whose strings are templates.
    ///
    /// # Errors
    /// One of them is none.
    pub fn new(value: Value, scope: Scope) -> Result<Self, String> {
        walk(&value, &|text| Template::parse(text, scope).map(|_| String::new()))?;
        Ok(Self(value, scope))
    }

    /// Adds the keys of the labels and annotations that it asks for.
    pub(super) fn keys(&self, into: &mut Kept) {
        let mut open = vec![&self.0];
        while let Some(value) = open.pop() {
            match value {
                Value::String(text) => {
                    if let Ok(template) = Template::parse(text, self.1) {
                        template.keys(into);
                    }
                }
                Value::Array(all) => open.extend(all),
                Value::Object(all) => open.extend(all.values()),
                _ => {}
            }
        }
    }

    /// The body with the facts inside its strings: no fact can end one.
    pub(super) fn fill(&self, facts: &Facts<'_>) -> Result<String, String> {
        walk(&self.0, &|text| Template::parse(text, self.1)?.fill(facts)).map(|value| value.to_string())
    }
}

fn walk(value: &Value, fill: &impl Fn(&str) -> Result<String, String>) -> Result<Value, String> {
    Ok(match value {
        Value::String(text) => Value::String(fill(text)?),
        Value::Array(all) => Value::Array(all.iter().map(|one| walk(one, fill)).collect::<Result<_, _>>()?),
        Value::Object(all) => Value::Object(
            all.iter()
                .map(|(key, one)| Ok((key.clone(), walk(one, fill)?)))
                .collect::<Result<_, String>>()?,
        ),
        other => other.clone(),
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use doorward_certs::{Login, WorkspaceName};
    use serde_json::json;

    use super::*;
    use crate::workspace::{Place, State};

    /// A sleeping workspace that a rule of this name has found.
    pub(crate) fn workspace(name: &str, rule: &str) -> Workspace {
        Workspace {
            name: WorkspaceName::try_from(name).unwrap(),
            login: Login::try_from("node").unwrap(),
            owner: Some("bob".to_owned()),
            place: Some(Place {
                namespace: "devenv".to_owned(),
                rule: rule.to_owned(),
                labels: BTreeMap::from([("user".to_owned(), "\"}],x/../é?&#".to_owned())]),
                ..Place::default()
            }),
            state: State::Asleep,
            life: None,
            notes: crate::workspace::Notes::default(),
        }
    }

    #[test]
    fn what_is_filled_in_stays_where_its_place_is() {
        let workspace = workspace("devenv-0", "r");
        let facts = Facts {
            workspace: &workspace,
            user: "bob@x.org",
            usage: None,
        };
        let address = Address::parse("https://api.example/v1/{workspace}/{label:user}?by={user}", Scope::Wake).unwrap();
        assert_eq!(
            address.fill(&facts).unwrap().as_str(),
            "https://api.example/v1/devenv-0/%22%7D%5D%2Cx%2F..%2F%C3%A9%3F%26%23?by=bob%40x.org"
        );
        let body = Json::new(
            json!({"query": "mutation { start(id: $id) { id } }", "variables": {"id": "{label:user}"}, "n": [1, null]}),
            Scope::Wake,
        );
        let filled: Value = serde_json::from_str(&body.unwrap().fill(&facts).unwrap()).unwrap();
        assert_eq!(filled["variables"]["id"], "\"}],x/../é?&#");
        assert_eq!(filled["query"], "mutation { start(id: $id) { id } }");
        assert_eq!(filled["n"], json!([1, null]));
        let missing = Template::parse("{pod}", Scope::Wake).unwrap().fill(&facts).unwrap_err();
        assert!(missing.contains("devenv-0"), "{missing}");
        let steps = Workspace {
            owner: Some("..".to_owned()),
            ..workspace.clone()
        };
        let facts = Facts {
            workspace: &steps,
            user: "bob",
            usage: None,
        };
        Address::parse("https://x/{owner}", Scope::Wake)
            .unwrap()
            .fill(&facts)
            .unwrap_err();
    }

    #[test]
    fn addresses_lead_where_the_configuration_says_and_nowhere_else() {
        for bad in [
            "http://api.example/{workspace}",
            "https://{workspace}.example/",
            "https://api.example:{workspace}/",
            "{user}://api.example/",
            "https://u:p@api.example/",
            "https://api.example/#{user}",
            "https://api.example/{no}",
            "https://api.example/{label:}",
            "ftp://api.example/",
            "/start",
        ] {
            Address::parse(bad, Scope::Wake).unwrap_err();
        }
        for good in [
            "http://127.0.0.1:8080/{workspace}",
            "https://api.example/a{b c}/{owner}",
        ] {
            Address::parse(good, Scope::Wake).unwrap();
        }
    }

    #[test]
    fn who_wakes_and_when_it_was_used_each_have_their_own_places() {
        let workspace = workspace("devenv-0", "r");
        let facts = Facts {
            workspace: &workspace,
            user: "",
            usage: Some(("2026-06-01T12:00:00Z", "")),
        };
        let body = Json::new(json!({"used": "{last-use}", "until": "{keep-until}"}), Scope::Use).unwrap();
        assert_eq!(
            body.fill(&facts).unwrap(),
            json!({"until": "", "used": "2026-06-01T12:00:00Z"}).to_string()
        );
        Template::parse("{last-use}", Scope::Wake).unwrap_err();
        Template::parse("{user}", Scope::Use).unwrap_err();
    }
}
