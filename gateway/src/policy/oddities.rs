//! What is allowed in a policy and hardly meant: roles for everybody, and roles for nobody.

use super::roles::{Role, Roles};
use crate::workspace::Workspace;

/// Something odd about a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Oddity {
    /// The role's name; empty for the file as a whole.
    pub role: String,
    /// What is odd.
    pub text: String,
    /// What to do about it.
    pub remedy: &'static str,
}

/// What is odd about these roles, for these workspaces.
#[must_use]
pub fn oddities(roles: &Roles, workspaces: &[Workspace]) -> Vec<Oddity> {
    if !roles.0.iter().any(Role::opens) {
        return vec![Oddity {
            role: String::new(),
            text: "no role opens any workspace: nobody may enter".to_owned(),
            remedy: "write a role for those who should",
        }];
    }
    roles.0.iter().flat_map(|role| of_role(role, workspaces)).collect()
}

fn of_role(role: &Role, workspaces: &[Workspace]) -> Vec<Oddity> {
    let mut all = Vec::new();
    let mut odd = |text: String, remedy| {
        all.push(Oddity {
            role: role.name.clone(),
            text,
            remedy,
        });
    };
    for group in role.group_names() {
        if let Some(why) = nobodys(group) {
            odd(
                format!("nobody can be in the group `{}`: {why}", group.escape_debug()),
                "write the group exactly as the issuer's tokens do",
            );
        } else if is_everybody(group) && role.opens() {
            odd(
                format!("the group `{group}` is usually everybody: this role lets all of them in"),
                "name a group that people are put into on purpose",
            );
        } else if group.starts_with('/') {
            odd(
                format!("the group `{group}` is a path: tokens must have full paths, or nobody is in it"),
                "see how the issuer writes groups; Keycloak's mapper has the switch `Full group path`",
            );
        }
    }
    for domain in role.domain_names() {
        if PUBLIC_MAIL.contains(&domain.as_str()) {
            odd(
                format!("anybody can have an address at {domain}: this role is for everybody"),
                "name people by `emails`, or use a domain that is your own",
            );
        }
    }
    // An owner's role covers what may be owned later.
    let covers = workspaces.iter().any(|workspace| role.names(workspace.name.as_str()));
    if !covers && !workspaces.is_empty() && !role.owner {
        odd(
            "no workspace of the configuration is meant by its `workspaces`".to_owned(),
            "correct the name or the pattern; patterns are exact but for * and ?",
        );
    }
    if role.login.as_ref().is_some_and(|login| login.as_str() == "root") {
        odd(
            "people enter as root: they can stop the agent that records them".to_owned(),
            "give an account of its own, with the rights that are needed",
        );
    }
    all
}

/// Why a token's groups can never hold this name; see the check of tokens.
fn nobodys(group: &str) -> Option<&'static str> {
    if group.is_empty() || group.len() > 256 {
        return Some("names have 1 to 256 bytes");
    }
    if group
        .chars()
        .any(|one| one.is_control() || matches!(one, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'))
    {
        return Some("it holds a control or direction character");
    }
    if group.trim() != group {
        return Some("it begins or ends with a space");
    }
    None
}

fn is_everybody(group: &str) -> bool {
    let name = group.trim_start_matches('/').to_lowercase();
    EVERYBODY.contains(&name.as_str()) || name.starts_with("default-roles-")
}

/// Groups and roles that identity providers give to everyone.
const EVERYBODY: [&str; 10] = [
    "everyone",
    "everybody",
    "all",
    "all users",
    "users",
    "authenticated",
    "authenticated users",
    "domain users",
    "offline_access",
    "uma_authorization",
];

/// Domains at which anybody can have an address.
const PUBLIC_MAIL: [&str; 12] = [
    "gmail.com",
    "googlemail.com",
    "outlook.com",
    "hotmail.com",
    "live.com",
    "yahoo.com",
    "icloud.com",
    "proton.me",
    "protonmail.com",
    "gmx.de",
    "web.de",
    "aol.com",
];

#[cfg(test)]
mod tests {
    use std::path::Path;

    use doorward_certs::{Login, WorkspaceName};

    use super::*;
    use crate::workspace::State;

    fn found(policy: &str) -> Vec<String> {
        let roles = Roles::parse(Path::new("policy.toml"), policy).unwrap();
        let workspace = Workspace {
            name: WorkspaceName::try_from("devenv-0").unwrap(),
            login: Login::try_from("node").unwrap(),
            owner: None,
            place: None,
            state: State::Running,
            life: None,
            notes: crate::workspace::Notes::default(),
        };
        oddities(&roles, &[workspace]).into_iter().map(|odd| odd.text).collect()
    }

    fn role(more: &str) -> String {
        format!("[[role]]\nname = \"r\"\nallow = [\"shell\"]\n{more}\n")
    }

    #[test]
    fn a_plain_role_is_not_odd() {
        let plain = role("groups = [\"developers\"]\nworkspaces = [\"devenv-*\"]");
        assert_eq!(found(&plain), Vec::<String>::new());
        // A role for owners covers what is owned later.
        assert_eq!(
            found(&role("groups = [\"developers\"]\nowner = true")),
            Vec::<String>::new()
        );
    }

    #[test]
    fn each_oddity_is_told() {
        for (more, expected) in [
            (
                "email-domains = [\"gmail.com\"]\nworkspaces = [\"*\"]",
                "anybody can have an address",
            ),
            ("groups = [\"everyone\"]\nworkspaces = [\"*\"]", "usually everybody"),
            (
                "groups = [\"default-roles-work\"]\nworkspaces = [\"*\"]",
                "usually everybody",
            ),
            (
                "groups = [\" developers\"]\nworkspaces = [\"*\"]",
                "begins or ends with a space",
            ),
            (
                "groups = [\"dev\\u0000\"]\nworkspaces = [\"*\"]",
                "control or direction",
            ),
            (
                "groups = [\"\\u202Edev\"]\nworkspaces = [\"*\"]",
                "control or direction",
            ),
            ("groups = [\"/developers\"]\nworkspaces = [\"*\"]", "is a path"),
            (
                "groups = [\"developers\"]\nworkspaces = [\"prod-*\"]",
                "no workspace of the configuration",
            ),
            (
                "groups = [\"developers\"]\nworkspaces = [\"*\"]\nlogin = \"root\"",
                "as root",
            ),
        ] {
            let told = found(&role(more));
            assert!(told.len() == 1 && told[0].contains(expected), "{expected}: {told:?}");
        }
        assert!(found("")[0].contains("nobody may enter"));
        let recordings_alone = "[[role]]\nname = \"r\"\nallow = []\ngroups = [\"a\"]\nworkspaces = [\"*\"]\n";
        assert!(found(recordings_alone)[0].contains("nobody may enter"));
    }
}
