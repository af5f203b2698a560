//! The login that is made of who somebody is, by the issuer's rule.
//!
//! What comes out is a [`Login`], which no wildcard, list, space, control or foreign letter survives; `root` comes out of
//! a table alone, where somebody wrote it down on purpose. A rule that finds no login is a refusal where the login
//! would be used, never another login.

use std::{path::PathBuf, sync::Arc};

use arc_swap::ArcSwap;
use doorward_certs::{Login, NameError};
use serde_json::{Map, Value};

use super::{Email, token};
use crate::config::{Faults, LoginRule, LoginTable, Oidc};

/// Why a rule makes no login of somebody. The text is for the person.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoginFault {
    /// The claim is not there, is no text, or is an address that its issuer has not verified.
    #[error("your token has no usable claim that a login could be made of")]
    Missing,
    /// The address is of another domain, or no address.
    #[error("your name is no address of the domain {0}, which logins are made of here")]
    Domain(String),
    /// What came out is no login.
    #[error("no login can be made of your name: {0}")]
    Form(NameError),
    /// `root` is nobody's name.
    #[error("no login can be made of your name: `root` is given by a table alone")]
    Root,
    /// The table does not have the person.
    #[error("the table of logins does not name you")]
    Unlisted,
}

/// What a rule came to before any table was looked into.
pub(super) enum Wish {
    Made(Result<Login, LoginFault>),
    Lookup(String),
}

/// Applies the rule to a token's claims.
pub(super) fn wish(claims: &Map<String, Value>, settings: &Oidc, user: &str, email: Option<&Email>) -> Option<Wish> {
    Some(match settings.login.as_ref()? {
        LoginRule::Table { .. } => Wish::Lookup(user.to_owned()),
        LoginRule::Claim {
            claim,
            domain,
            template,
        } => {
            let value = match claim {
                None => Ok(user.to_owned()),
                // An address that nobody verified is anybody's word.
                Some(path) if *path == settings.email_claim => {
                    email.map(ToString::to_string).ok_or(LoginFault::Missing)
                }
                Some(path) => match token::at(claims, path) {
                    Ok(Some(Value::String(text))) => Ok(text.clone()),
                    _ => Err(LoginFault::Missing),
                },
            };
            let made = value.and_then(|value| make(&value, domain.as_deref()));
            Wish::Made(made.and_then(|value| {
                let text = template
                    .as_ref()
                    .map_or_else(|| value.clone(), |template| template.fill(&value));
                match Login::try_from(text) {
                    Ok(login) if login.as_str() == "root" => Err(LoginFault::Root),
                    Ok(login) => Ok(login),
                    Err(error) => Err(LoginFault::Form(error)),
                }
            }))
        }
    })
}

/// The value, or its local part where it must be an address of a domain.
fn make(value: &str, domain: Option<&str>) -> Result<String, LoginFault> {
    let value = match domain {
        None => value.to_owned(),
        Some(domain) => match Email::parse(value) {
            Some(email) if email.domain() == domain => email.local().to_owned(),
            _ => return Err(LoginFault::Domain(domain.to_owned())),
        },
    };
    // A template would make a login of nothing.
    match value.is_empty() {
        true => Err(LoginFault::Form(NameError::Login)),
        false => Ok(value),
    }
}

/// The table of one issuer, read again when its file changes.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) file: Option<PathBuf>,
    pub(super) table: Arc<ArcSwap<LoginTable>>,
}

impl Table {
    pub(super) fn open(settings: &Oidc) -> Result<Self, Faults> {
        match &settings.login {
            Some(LoginRule::Table { file }) => Ok(Self {
                table: Arc::new(ArcSwap::from_pointee(LoginTable::load(file)?)),
                file: Some(file.clone()),
            }),
            _ => Ok(Self::default()),
        }
    }

    /// What a wish comes to.
    pub(super) fn grant(&self, wish: Option<Wish>) -> Option<Result<Login, LoginFault>> {
        Some(match wish? {
            Wish::Made(made) => made,
            Wish::Lookup(user) => self.table.load().of(&user).cloned().ok_or(LoginFault::Unlisted),
        })
    }
}
