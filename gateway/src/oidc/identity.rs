//! Who a person is, proved by a token that was checked.

use std::{collections::BTreeSet, fmt, net::IpAddr, time::SystemTime};

use doorward_certs::{Login, Secret, UserToken, WorkspaceName};
use zeroize::Zeroizing;

use super::{Email, LoginFault};
use crate::kube::rights::Subject;

/// A person whose token was checked. Only the check in this module makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub(super) user: String,
    pub(super) issuer: String,
    pub(super) subject: String,
    pub(super) login_session: Option<String>,
    pub(super) groups: BTreeSet<String>,
    pub(super) workspaces: BTreeSet<WorkspaceName>,
    pub(super) email: Option<Email>,
    pub(super) login: Option<Result<Login, LoginFault>>,
    pub(super) cluster: Option<Subject>,
    pub(super) issued: SystemTime,
    pub(super) expires: SystemTime,
}

impl Identity {
    /// The name by which people and records call the person: 1 to 256 bytes without control characters.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The issuer of the token, exactly as configured.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The issuer's own name for the person (`sub`).
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The groups, each exactly as the token has it.
    #[must_use]
    pub fn groups(&self) -> &BTreeSet<String> {
        &self.groups
    }

    /// The workspaces that the issuer says are the person's own; they are, where the workspace itself names nobody.
    #[must_use]
    pub fn workspaces(&self) -> &BTreeSet<WorkspaceName> {
        &self.workspaces
    }

    /// The issuer's name for the person's login there (`sid`), if the token has one.
    #[must_use]
    pub fn login_session(&self) -> Option<&str> {
        self.login_session.as_deref()
    }

    /// The e-mail address, if the issuer says that it was verified and may speak for its domain.
    #[must_use]
    pub fn email(&self) -> Option<&Email> {
        self.email.as_ref()
    }

    /// The login that the issuer's rule makes of the person, or why it makes none; nothing where there is no rule.
    #[must_use]
    pub fn login(&self) -> Option<&Result<Login, LoginFault>> {
        self.login.as_ref()
    }

    /// What roles look at.
    #[must_use]
    pub fn person(&self) -> Person<'_> {
        Person {
            user: &self.user,
            groups: &self.groups,
            workspaces: &self.workspaces,
            email: self.email.as_ref(),
            login: self.login.as_ref(),
            cluster: self.cluster.as_ref(),
        }
    }

    /// When the token was issued.
    #[must_use]
    pub fn issued(&self) -> SystemTime {
        self.issued
    }

    /// When the token ends (without leeway).
    #[must_use]
    pub fn expires(&self) -> SystemTime {
        self.expires
    }

    /// The same with a verified address.
    #[cfg(test)]
    pub(crate) fn with_email(mut self, email: &str) -> Self {
        self.email = Email::parse(email);
        self
    }

    /// The same, to whom the issuer has assigned these workspaces.
    #[cfg(test)]
    pub(crate) fn with_workspaces(mut self, names: &[&str]) -> Self {
        self.workspaces = names
            .iter()
            .map(|&name| WorkspaceName::try_from(name).unwrap())
            .collect();
        self
    }

    /// The same with what a rule made of the name.
    #[cfg(test)]
    pub(crate) fn with_login(mut self, login: Result<Login, LoginFault>) -> Self {
        self.login = Some(login);
        self
    }

    /// The same as somebody whom the API server knows.
    #[cfg(test)]
    pub(crate) fn with_cluster(mut self, said: Subject) -> Self {
        self.cluster = Some(said);
        self
    }

    /// A person for tests, with a token that ends in an hour.
    #[cfg(test)]
    pub(crate) fn for_test(user: &str, groups: &[&str]) -> Self {
        Self {
            user: user.to_owned(),
            issuer: "https://issuer.example".to_owned(),
            subject: format!("subject-of-{user}"),
            login_session: None,
            groups: groups.iter().map(|&group| group.to_owned()).collect(),
            workspaces: BTreeSet::new(),
            email: None,
            login: None,
            cluster: None,
            issued: SystemTime::now(),
            expires: SystemTime::now() + std::time::Duration::from_secs(3600),
        }
    }
}

/// What roles look at: somebody, proved or supposed.
#[derive(Debug, Clone, Copy)]
pub struct Person<'a> {
    /// The name by which people and records call the person.
    pub user: &'a str,
    /// The groups.
    pub groups: &'a BTreeSet<String>,
    /// The workspaces that the issuer says are the person's own.
    pub workspaces: &'a BTreeSet<WorkspaceName>,
    /// The verified e-mail address.
    pub email: Option<&'a Email>,
    /// The login that a rule makes of the person, or why it makes none.
    pub login: Option<&'a Result<Login, LoginFault>>,
    /// What the API server said of the person, where it was the one who knew them.
    pub cluster: Option<&'a Subject>,
}

/// A token as it came in, and how it was shown.
#[derive(Debug)]
pub struct Presented {
    pub(super) token: BearerToken,
    pub(super) proof: Option<ShownProof>,
    /// The address, or of IPv6 the network, from which it was shown.
    pub(super) source: IpAddr,
}

/// The proof that came beside a token (RFC 9449), and the request that it must be about. Not checked yet.
#[derive(Debug)]
pub struct ShownProof {
    /// The proof, a JWT.
    pub jwt: BearerToken,
    /// The method of the request.
    pub method: String,
    /// Host and port, as the request names them.
    pub host: String,
    /// The path of the request.
    pub path: String,
}

impl Presented {
    /// A bearer token (RFC 6750).
    #[must_use]
    pub fn bearer(token: BearerToken) -> Self {
        Self {
            token,
            proof: None,
            source: IpAddr::from([0; 16]),
        }
    }

    /// A token with the proof of its holder's key.
    #[must_use]
    pub fn with_proof(token: BearerToken, proof: ShownProof) -> Self {
        Self {
            proof: Some(proof),
            ..Self::bearer(token)
        }
    }

    /// The same, shown from this address: so that nobody's nonsense keeps others out.
    #[must_use]
    pub fn from(self, peer: IpAddr) -> Self {
        Self {
            source: crate::listen::network(peer),
            ..self
        }
    }

    /// The host that the request names, if there is a proof that must be for it.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        self.proof.as_ref().map(|proof| proof.host.as_str())
    }

    /// The token, to be kept.
    #[must_use]
    pub fn into_token(self) -> BearerToken {
        self.token
    }

    /// The token alone.
    #[must_use]
    pub fn token(&self) -> &BearerToken {
        &self.token
    }
}

/// A bearer token as it came in: wiped when dropped, never shown.
#[derive(Clone)]
pub struct BearerToken(Zeroizing<String>);

impl BearerToken {
    /// Takes a token that is at most [`BearerToken::LONGEST`] bytes and of the characters that RFC 6750 allows.
    ///
    /// # Errors
    /// The token is empty, too long, or has another character.
    pub fn new(token: &str) -> Result<Self, MalformedToken> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
        if token.is_empty() || token.len() > Self::LONGEST || !token.bytes().all(allowed) {
            return Err(MalformedToken);
        }
        Ok(Self(Zeroizing::new(token.to_owned())))
    }

    /// The longest token that is looked at, in bytes.
    pub const LONGEST: usize = 16 * 1024;

    pub(super) fn expose(&self) -> &str {
        &self.0
    }

    /// The token for the platform whose workspace the person has woken, where the configuration says so.
    pub(crate) fn for_platform(&self) -> &str {
        &self.0
    }

    /// The token for an authority that signs in the person's own name.
    pub(crate) fn for_signing(&self) -> UserToken {
        UserToken::new(Secret::new(self.0.as_str().to_owned()))
    }
}

impl fmt::Debug for BearerToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("BearerToken(…)")
    }
}

/// What was given as a bearer token cannot be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the bearer token is empty, longer than 16 KiB, or has characters that no token has")]
pub struct MalformedToken;
