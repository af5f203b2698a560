//! The texts of the policies: for each path what may be done there, and with which parameters.
//!
//! A role says what may stand in a certificate; the policy says it again where an old server's role would not hold it:
//! no signing without principals, and one principal in a certificate that opens a session.

use std::fmt::Write as _;

use super::needs::{Names, Needs};
use crate::GATEWAY_PRINCIPAL;

/// What the gateway's own token may do.
pub(super) fn gateway(needs: &Needs) -> String {
    let mut text = String::from("# Doorward's gateway: asks for certificates, looks at the roles that sign them.\n");
    if needs.user_login.is_none() {
        text.push_str(&session(needs));
    }
    text.push_str(&link(needs));
    match &needs.agents {
        None => text.push_str(&host(needs)),
        // Said aloud: a no goes before every yes that another policy of this token might say.
        Some(_) => {
            text.push_str("\n# Host certificates are signed for agents alone.\n");
            for act in ["sign", "issue"] {
                text.push_str(may(&format!("{}/{act}/*", needs.host_mount), "deny").trim_start());
            }
            text.push_str(&may("sys/capabilities-self", "update"));
        }
    }
    for path in [
        format!("{}/config/ca", needs.user_mount),
        format!("{}/config/ca", needs.host_mount),
        format!("{}/roles/{}", needs.user_mount, needs.session_role),
        format!("{}/roles/{}", needs.user_mount, needs.link_role),
        format!("{}/roles/{}", needs.host_mount, needs.host_role),
        "auth/token/lookup-self".to_owned(),
    ] {
        text.push_str(&may(&path, "read"));
    }
    for path in ["auth/token/renew-self", "auth/token/revoke-self"] {
        text.push_str(&may(path, "update"));
    }
    text
}

/// What the token of an agent may do: have its own host certificate signed, for the minute that it lives.
pub(super) fn agent(needs: &Needs) -> String {
    let mut text = String::from("# An agent of Doorward: asks for its own host certificate, nothing else.\n");
    text.push_str(&host(needs));
    text
}

/// What the token of a person may do: have sessions signed, for the minute that it lives.
pub(super) fn user(needs: &Needs) -> String {
    let mut text = String::from("# A person at Doorward: asks for the certificate of a session, nothing else.\n");
    text.push_str(&session(needs));
    text
}

fn session(needs: &Needs) -> String {
    let principals: &[String] = match (&needs.logins, &needs.user_login) {
        (Names::These(logins), None) => logins,
        // A policy cannot name the person; the role's template does.
        _ => &[],
    };
    let path = format!("{}/sign/{}", needs.user_mount, needs.session_role);
    signing(&path, "user", principals, &["", "*,*", "* *"])
}

fn link(needs: &Needs) -> String {
    let path = format!("{}/sign/{}", needs.user_mount, needs.link_role);
    signing(&path, "user", &[GATEWAY_PRINCIPAL.to_owned()], &[""])
}

fn host(needs: &Needs) -> String {
    let path = format!("{}/sign/{}", needs.host_mount, needs.host_role);
    signing(&path, "host", &[], &["", ",*", " *"])
}

fn may(path: &str, capability: &str) -> String {
    format!("\npath \"{path}\" {{\n  capabilities = [\"{capability}\"]\n}}\n")
}

/// The right to have a certificate signed: these parameters, these of them always, and no others.
fn signing(path: &str, kind: &str, principals: &[String], never: &[&str]) -> String {
    let quoted = |all: &mut dyn Iterator<Item = &str>| {
        let all: Vec<String> = all.map(|one| format!("\"{one}\"")).collect();
        format!("[{}]", all.join(", "))
    };
    let mut text = format!("\npath \"{path}\" {{\n  capabilities = [\"update\"]\n");
    text.push_str(
        "  required_parameters = [\"public_key\", \"valid_principals\", \"cert_type\", \"key_id\", \"ttl\"]\n",
    );
    text.push_str("  allowed_parameters = {\n");
    let principals = quoted(&mut principals.iter().map(String::as_str));
    let kind = format!("[\"{kind}\"]");
    for (name, values) in [
        ("public_key", "[]"),
        ("valid_principals", &principals),
        ("cert_type", &kind),
        ("key_id", "[]"),
        ("ttl", "[]"),
        ("extensions", "[]"),
        // Asked for as the empty map; the role closes the rest.
        ("critical_options", "[]"),
    ] {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "    \"{name}\" = {values}");
    }
    let never = quoted(&mut never.iter().copied());
    let _ = writeln!(
        text,
        "  }}\n  denied_parameters = {{\n    \"valid_principals\" = {never}\n  }}\n}}"
    );
    text
}
