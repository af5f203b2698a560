//! Templates for names: `{pod}`, `{namespace}`, `{owner}`, `{ordinal}`, `{label:KEY}`, `{annotation:KEY}` between plain text.
//!
//! What comes out is text that somebody with rights in a namespace chose. Whoever uses it checks it first.

use std::{collections::BTreeSet, fmt};

/// A template that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Plain(String),
    Field(Field),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Field {
    Pod,
    Namespace,
    Owner,
    Ordinal,
    Label(String),
    Annotation(String),
}

/// Where a template's values come from.
pub(super) trait Values {
    fn pod(&self) -> Option<&str>;
    fn namespace(&self) -> &str;
    fn owner(&self) -> Option<&str>;
    fn label(&self, key: &str) -> Option<&str>;
    fn annotation(&self, key: &str) -> Option<&str>;
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// A sentence that says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > LONGEST {
            return Err(format!("a template has at most {LONGEST} bytes"));
        }
        let (mut parts, mut rest) = (Vec::new(), text);
        while let Some((plain, after)) = rest.split_once('{') {
            let (inner, after) = after.split_once('}').ok_or("a `{` without its `}`")?;
            parts.extend(plain_part(plain)?);
            parts.push(Part::Field(Field::parse(inner)?));
            rest = after;
        }
        parts.extend(plain_part(rest)?);
        match parts.is_empty() {
            true => Err("is no template".to_owned()),
            false => Ok(Self(parts)),
        }
    }

    /// The text without any field, if it has none.
    #[must_use]
    pub fn plain(&self) -> Option<&str> {
        match self.0.as_slice() {
            [Part::Plain(text)] => Some(text),
            _ => None,
        }
    }

    /// Fills the fields; otherwise the name of one that there is no value for.
    pub(super) fn fill(&self, values: &dyn Values) -> Result<String, String> {
        let mut out = String::new();
        for part in &self.0 {
            out += match part {
                Part::Plain(text) => text,
                Part::Field(field) => field.of(values).ok_or_else(|| field.to_string())?,
            };
            if out.len() > LONGEST_VALUE {
                return Err("a value that is short enough".to_owned());
            }
        }
        Ok(out)
    }

    pub(super) fn labels(&self, into: &mut BTreeSet<String>) {
        into.extend(self.0.iter().filter_map(|part| match part {
            Part::Field(Field::Label(key)) => Some(key.clone()),
            _ => None,
        }));
    }

    pub(super) fn annotations(&self, into: &mut BTreeSet<String>) {
        into.extend(self.0.iter().filter_map(|part| match part {
            Part::Field(Field::Annotation(key)) => Some(key.clone()),
            _ => None,
        }));
    }
}

impl Field {
    fn parse(text: &str) -> Result<Self, String> {
        Ok(match text.split_once(':') {
            None if text == "pod" => Self::Pod,
            None if text == "namespace" => Self::Namespace,
            None if text == "owner" => Self::Owner,
            None if text == "ordinal" => Self::Ordinal,
            Some(("label", key)) if is_key(key) => Self::Label(key.to_owned()),
            Some(("annotation", key)) if is_key(key) => Self::Annotation(key.to_owned()),
            _ => {
                return Err(format!(
                    "`{{{}}}` is none of {{pod}}, {{namespace}}, {{owner}}, {{ordinal}}, {{label:KEY}}, {{annotation:KEY}}",
                    text.escape_debug()
                ));
            }
        })
    }

    fn of<'v>(&self, values: &'v dyn Values) -> Option<&'v str> {
        match self {
            Self::Pod => values.pod(),
            Self::Namespace => Some(values.namespace()),
            Self::Owner => values.owner(),
            Self::Ordinal => {
                let (_, ordinal) = values.pod()?.rsplit_once('-')?;
                (!ordinal.is_empty() && ordinal.bytes().all(|byte| byte.is_ascii_digit())).then_some(ordinal)
            }
            Self::Label(key) => values.label(key),
            Self::Annotation(key) => values.annotation(key),
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod => formatter.write_str("a pod"),
            Self::Namespace => formatter.write_str("a namespace"),
            Self::Owner => formatter.write_str("an owner"),
            Self::Ordinal => formatter.write_str("an ordinal"),
            Self::Label(key) => write!(formatter, "the label `{key}`"),
            Self::Annotation(key) => write!(formatter, "the annotation `{key}`"),
        }
    }
}

fn plain_part(text: &str) -> Result<Option<Part>, String> {
    match text.contains('}') {
        true => Err("a `}` without its `{`".to_owned()),
        false => Ok((!text.is_empty()).then(|| Part::Plain(text.to_owned()))),
    }
}

/// A key of a label or an annotation: `name` or `domain/name`.
pub(crate) fn is_key(text: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'/');
    !text.is_empty() && text.len() <= 317 && text.bytes().all(good)
}

const LONGEST: usize = 1024;
const LONGEST_VALUE: usize = 1024;
