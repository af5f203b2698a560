//! The e-mail address of a person: only one that its issuer says it has verified, for a domain for which the issuer may speak.
//!
//! The local part counts byte for byte, the domain without the case of ASCII letters (RFC 5321, section 2.4). A domain is
//! one as it travels: ASCII, no trailing dot. A subdomain is another domain.

use std::fmt;

use doorward_certs::WorkspaceName;
use serde_json::{Map, Value};

use super::token::{at, claim};
use crate::{config::Oidc, refusal::Refusal};

/// A checked e-mail address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Email {
    local: String,
    /// In lower case.
    domain: String,
}

impl Email {
    /// Reads `local@domain`; nothing if it is not of that form.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (local, domain) = text.split_once('@')?;
        let plain = |byte: u8| byte.is_ascii_graphic() && !b"\"(),:;<>[]\\@".contains(&byte);
        if local.is_empty() || local.len() > 64 || !local.bytes().all(plain) {
            return None;
        }
        // A domain has the form of a workspace's name: labels of letters, digits and hyphens.
        let domain = WorkspaceName::try_from(domain.to_ascii_lowercase().as_str()).ok()?;
        domain.as_str().contains('.').then(|| Self {
            local: local.to_owned(),
            domain: domain.into(),
        })
    }

    /// What stands before the `@`.
    #[must_use]
    pub fn local(&self) -> &str {
        &self.local
    }

    /// The domain, in lower case.
    #[must_use]
    pub fn domain(&self) -> &str {
        &self.domain
    }
}

impl fmt::Display for Email {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}@{}", self.local, self.domain)
    }
}

/// The address of a token's claims, if it counts. `email_verified` must be `true`, not a text that says so.
pub(super) fn verified(claims: &Map<String, Value>, settings: &Oidc) -> Result<Option<Email>, Refusal> {
    let text = match at(claims, &settings.email_claim)? {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) => text,
        Some(_) => return Err(claim("email-claim")),
    };
    if claims.get("email_verified") != Some(&Value::Bool(true)) {
        return Ok(None);
    }
    let speaks = |email: &Email| {
        settings
            .email_domains
            .as_ref()
            .is_none_or(|domains| domains.contains(email.domain()))
    };
    Ok(Email::parse(text).filter(speaks))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_exact_but_for_the_case_of_its_domain() {
        let email = Email::parse("Bob.Smith+x@Example.ORG").unwrap();
        assert_eq!((email.local(), email.domain()), ("Bob.Smith+x", "example.org"));
        assert_ne!(Email::parse("bob@x.org"), Email::parse("Bob@x.org"));
        for bad in [
            "",
            "bob",
            "@x.org",
            "bob@",
            "bob@org",
            "bob@x.org.",
            "bob@.x.org",
            "bob@x..org",
            "bob@evil.org@x.org",
            "\"bob@evil.org\"@x.org",
            "bob @x.org",
            "bob\n@x.org",
            "bob\0@x.org",
            "bob,eve@x.org",
            "bob@x.org,y.org",
            "bob@x.org ",
            "b\u{43e}b@x.org",
            "bob@\u{445}.org",
            "bob@[127.0.0.1]",
            "<bob@x.org>",
        ] {
            assert_eq!(Email::parse(bad), None, "{bad:?}");
        }
        assert_eq!(Email::parse(&format!("{}@x.org", "a".repeat(65))), None);
    }
}
