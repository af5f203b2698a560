//! `doorward-gateway explain`: why somebody may enter a workspace, or may not, from the files alone.

use std::{collections::BTreeSet, fmt::Write as _};

use doorward_certs::WorkspaceName;

use crate::{
    authorize::Heard,
    config::{Config, Faults},
    locks::Locks,
    oidc::{Email, Person, supposed},
    policy::{Explanation, Policy, Roles, Verdict},
    workspace::Directory,
};

/// Somebody who is supposed to have shown a token.
#[derive(Debug, Clone)]
pub struct Supposed {
    /// The name by which people and records call the person.
    pub user: String,
    /// The groups.
    pub groups: BTreeSet<String>,
    /// The verified e-mail address.
    pub email: Option<Email>,
    /// The name of their issuer; the first one if none is given.
    pub issuer: Option<String>,
}

/// Why nothing can be explained.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    /// The policy file.
    #[error("{0}")]
    Policy(#[from] Faults),
    /// The locks of the state folder.
    #[error("the locks cannot be read: {0}")]
    Locks(#[source] std::io::Error),
    /// No issuer of that name.
    #[error("no issuer of the configuration is called `{}`", .0.escape_debug())]
    Issuer(String),
}

/// Explains, as the gateway with this configuration and its locks would decide.
///
/// # Errors
/// A file cannot be used, or there is no such issuer.
pub fn offline(config: &Config, who: &Supposed, name: &WorkspaceName) -> Result<Explanation, ExplainError> {
    let policy = Policy::new(Roles::load(&config.policy.file)?);
    let workspaces = Directory::new(config.workspaces.iter().cloned());
    let issuer = config
        .oidc
        .iter()
        .find(|one| who.issuer.as_ref().is_none_or(|wanted| *wanted == one.name));
    let issuer = issuer.ok_or_else(|| ExplainError::Issuer(who.issuer.clone().unwrap_or_default()))?;
    let login = supposed(issuer, &who.user, who.email.as_ref());
    let person = Person {
        user: &who.user,
        groups: &who.groups,
        workspaces: &BTreeSet::new(),
        email: who.email.as_ref(),
        login: login.as_ref(),
        cluster: None,
    };
    let locks = Locks::open(&config.state_directory).map_err(ExplainError::Locks)?;
    let explanation = policy.explain(person, name, workspaces.find(name).as_ref(), true, &Heard::nothing());
    Ok(explanation.with_lock(locks.against(&who.user, Some(name.as_str())).as_ref()))
}

/// The explanation for people: one line for the verdict, one for each role.
#[must_use]
pub fn text(explanation: &Explanation) -> String {
    let said = match explanation.verdict {
        Verdict::Granted => "may enter",
        Verdict::Denied => "may not enter",
        Verdict::Locked => "may not enter for now",
    };
    let mut out = format!("{} {said} {}", shown(&explanation.user), explanation.workspace);
    if let Some(login) = &explanation.login {
        let _ = write!(out, " as {login}");
    }
    if let Some(why) = &explanation.why {
        let _ = write!(out, ": {}", shown(why));
    }
    out.push('\n');
    if !explanation.capabilities.is_empty() {
        let _ = writeln!(out, "  allowed: {}", explanation.capabilities.join(", "));
    }
    if let (Some(longest), Some(recording)) = (&explanation.longest, &explanation.recording) {
        let input = if recording.input { "recorded" } else { "not recorded" };
        let _ = writeln!(
            out,
            "  longest session {longest}; recorded {}: {} bytes may wait for {}; input {input}; output of commands whole up to {} bytes",
            recording.mode, recording.unacked, recording.stall, recording.bulk_limit
        );
    }
    for rule in &explanation.rules {
        let mark = if rule.applies { "+" } else { "-" };
        let _ = writeln!(out, "  {mark} {}: {}", shown(&rule.role), shown(&rule.why));
    }
    out
}

/// What others chose, harmless for a terminal.
fn shown(text: &str) -> String {
    text.chars()
        .map(
            |character| match character.is_control() || crate::oidc::is_hidden(character) {
                true => '\u{fffd}',
                false => character,
            },
        )
        .collect()
}
