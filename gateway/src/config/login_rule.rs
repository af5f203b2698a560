//! `[oidc.login]`: how a login is made of who somebody is: from a claim, by a template, or by a table in a file.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use doorward_certs::Login;

use super::{
    ClaimPath,
    document::{Document, Fault, Faults, Section, name, text},
    issuer::{claim_path, domain},
    read::existing,
};

/// How a login is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoginRule {
    /// Of a claim's value.
    Claim {
        /// Which; the person's name if none is given.
        claim: Option<ClaimPath>,
        /// The value must be an address of this domain, in lower case; its local part is what is used.
        domain: Option<String>,
        /// What the value is put into.
        template: Option<Template>,
    },
    /// By a table from names of people to logins; who is not in it has none.
    Table {
        /// The TOML file, which is read again when it changes.
        file: PathBuf,
    },
}

/// A text with one place for the value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    before: String,
    after: String,
}

impl Template {
    /// Reads a text with `{user}` in it once.
    ///
    /// # Errors
    /// The place is missing, or something stands beside it that no login may have.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || "must contain `{user}` once, and besides it only a-z, 0-9, `_`, `.`, `-`".to_owned();
        let (before, after) = text.split_once("{user}").ok_or_else(wrong)?;
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_.-".contains(&byte);
        match before.bytes().chain(after.bytes()).all(plain) {
            true => Ok(Self {
                before: before.to_owned(),
                after: after.to_owned(),
            }),
            false => Err(wrong()),
        }
    }

    /// The text with the value in its place. Not a login yet.
    #[must_use]
    pub fn fill(&self, value: &str) -> String {
        format!("{}{value}{}", self.before, self.after)
    }
}

/// The table of a [`LoginRule::Table`]: names exactly as the issuer has them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoginTable(BTreeMap<String, Login>);

impl LoginTable {
    /// Reads `"name" = "login"` below `[logins]`.
    ///
    /// # Errors
    /// Every fault with its line.
    pub fn load(file: &Path) -> Result<Self, Faults> {
        let text = fs::read_to_string(file)
            .map_err(|error| Faults(vec![Fault::of_file(file, format!("cannot be read: {error}"))]))?;
        Document::new(file, &text)
            .read(|top| top.required_section("logins", |logins| Some(Self(logins.entries(name::<Login>)))))
    }

    /// Every login in it.
    pub(crate) fn logins(&self) -> impl Iterator<Item = &Login> {
        self.0.values()
    }

    /// The login of somebody, if they have one.
    #[must_use]
    pub fn of(&self, user: &str) -> Option<&Login> {
        self.0.get(user)
    }
}

pub(super) fn read(section: &Section<'_>, base: &Path, others: &mut Vec<Fault>) -> Option<LoginRule> {
    if section.has("table-file") {
        let file = section.optional("table-file", existing(base));
        for other in ["claim", "domain", "template"] {
            if section.has(other) {
                section.fault_at(other, format!("`{other}` has no meaning beside `table-file`"));
            }
        }
        let file = file?;
        if let Err(Faults(faults)) = LoginTable::load(&file) {
            others.extend(faults);
        }
        return Some(LoginRule::Table { file });
    }
    let claim = section.optional("claim", claim_path);
    let domain = section.optional("domain", domain);
    let template = section.optional("template", |value| Template::parse(&text(value)?));
    if !["claim", "domain", "template"].into_iter().any(|key| section.has(key)) {
        section.fault("a login rule needs `claim`, `domain`, `template` or `table-file`");
    }
    Some(LoginRule::Claim {
        claim: if section.has("claim") { Some(claim?) } else { None },
        domain: if section.has("domain") { Some(domain?) } else { None },
        template: if section.has("template") { Some(template?) } else { None },
    })
}
