//! `[authority.vault]`: where Vault is, how the gateway logs in, which mounts and roles it uses.

use std::{path::Path, time::Duration};

use doorward_certs::vault::{self, HostCertificates, Login, Settings, SignAs, is_mount, is_role};
use toml::de::DeValue;
use url::Url;

use super::{
    document::{Section, count, duration, text},
    read::{existing, path, secret},
};

/// Reads `[authority.vault]`.
pub(super) fn read(section: &Section<'_>, base: &Path) -> Option<Settings> {
    let address = section.required("address", address);
    let ca = section.optional("ca", existing(base));
    let namespace = section.optional("namespace", namespace);
    let user_mount = section.or("user-mount", "ssh".to_owned(), mount);
    let host_mount = section.or("host-mount", "ssh-host".to_owned(), mount);
    if user_mount == host_mount {
        section.fault_at(
            "host-mount",
            "`host-mount` must not be `user-mount`: one key must not vouch for both people and hosts",
        );
    }
    let session_role = section.or("session-role", "doorward-session".to_owned(), role);
    let link_role = section.or("link-role", "doorward-link".to_owned(), role);
    let host_role = section.or("host-role", "doorward-host".to_owned(), role);
    let hosts = section.or("host-certificates", HostCertificates::Gateway, |value| {
        match text(value)?.as_str() {
            "gateway" => Ok(HostCertificates::Gateway),
            "agents" => Ok(HostCertificates::Agents),
            _ => Err("must be \"gateway\" or \"agents\"".to_owned()),
        }
    });
    let as_user = section.or("sign-as", false, |value| match text(value)?.as_str() {
        "gateway" => Ok(false),
        "user" => Ok(true),
        _ => Err("must be \"gateway\" or \"user\"".to_owned()),
    });
    let timeout = section.or("timeout", Duration::from_secs(4), duration(SHORTEST, LONGEST));
    let signings_per_second = section.or("signings-per-second", 50, count(100_000));
    let signings_per_user_per_minute = section.or("signings-per-user-per-minute", 120, count(100_000));
    let login = section.required_section("login", |login| read_login(login, base));
    let user_login = section.section("user-login", |login| {
        let mount = login.or("mount", "jwt".to_owned(), mount);
        let role = login.or("role", "doorward-user".to_owned(), role);
        Some(SignAs::User { mount, role })
    });
    let sign_as = match (as_user, section.has("user-login")) {
        (false, false) => SignAs::Gateway,
        (false, true) => {
            section.fault_at("user-login", "`user-login` needs `sign-as = \"user\"`");
            return None;
        }
        (true, true) => user_login?,
        (true, false) => SignAs::User {
            mount: "jwt".to_owned(),
            role: "doorward-user".to_owned(),
        },
    };
    Some(Settings {
        address: address?,
        ca: if section.has("ca") { Some(ca?) } else { None },
        namespace: if section.has("namespace") {
            Some(namespace?)
        } else {
            None
        },
        user_mount,
        host_mount,
        session_role,
        link_role,
        host_role,
        hosts,
        sign_as,
        login: login?,
        timeout,
        signings_per_second: whole(signings_per_second),
        signings_per_user_per_minute: whole(signings_per_user_per_minute),
    })
}

fn read_login(section: &Section<'_>, base: &Path) -> Option<Login> {
    let method = section.required("method", |value| {
        let method = text(value)?;
        match method.as_str() {
            "kubernetes" | "jwt" | "approle" | "token-file" => Ok(method),
            _ => Err("must be \"kubernetes\", \"jwt\", \"approle\" or \"token-file\"".to_owned()),
        }
    })?;
    let mount = |section: &Section<'_>| section.or("mount", method.clone(), mount);
    let role = |section: &Section<'_>| section.required("role", role);
    match method.as_str() {
        "kubernetes" => {
            let (mount, role) = (mount(section), role(section));
            // The pod's own is there when the gateway runs, and not where its configuration is checked.
            let jwt_file = section.or("jwt-file", SERVICE_ACCOUNT.into(), path(base));
            Some(Login::Kubernetes {
                mount,
                role: role?,
                jwt_file,
            })
        }
        "jwt" => {
            let (mount, role) = (mount(section), role(section));
            let jwt_file = section.required("jwt-file", existing(base));
            Some(Login::Jwt {
                mount,
                role: role?,
                jwt_file: jwt_file?,
            })
        }
        "approle" => {
            let mount = mount(section);
            let role_id_file = section.required("role-id-file", existing(base));
            let secret_id_file = section.required("secret-id-file", secret(base));
            Some(Login::AppRole {
                mount,
                role_id_file: role_id_file?,
                secret_id_file: secret_id_file?,
            })
        }
        _ => Some(Login::TokenFile {
            token_file: section.required("token-file", secret(base))?,
        }),
    }
}

fn address(value: &DeValue<'_>) -> Result<Url, String> {
    vault::address(&text(value)?)
}

fn namespace(value: &DeValue<'_>) -> Result<String, String> {
    let text = text(value)?;
    match is_mount(text.trim_matches('/')) {
        true => Ok(text),
        false => Err("must be names of letters, digits, `-`, `_` and `.` with `/` between them".to_owned()),
    }
}

fn mount(value: &DeValue<'_>) -> Result<String, String> {
    let text = text(value)?;
    match is_mount(&text) {
        true => Ok(text),
        false => Err(
            "must be names of letters, digits, `-`, `_` and `.` with `/` between them, as in \"team/ssh\"".to_owned(),
        ),
    }
}

fn role(value: &DeValue<'_>) -> Result<String, String> {
    let text = text(value)?;
    match is_role(&text) {
        true => Ok(text),
        false => Err("must be a name of letters, digits, `-`, `_` and `.`".to_owned()),
    }
}

fn whole(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";
const SHORTEST: Duration = Duration::from_millis(100);
/// A person waits for it at the prompt.
const LONGEST: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{
        config::{AuthorityKind, Config, Faults},
        testing,
    };

    const LOCAL: &str = "[authority.local]\nuser-ca = \"user-ca\"\nhost-ca = \"host-ca\"\n";
    const LOGIN: &str = "[authority.vault.login]\nmethod = \"kubernetes\"\nrole = \"doorward-gateway\"\n";

    fn load(vault: &str) -> (Result<Config, Faults>, tempfile::TempDir) {
        let folder = testing::folder();
        for name in ["secret", "token"] {
            testing::private(&folder.path().join(name), "x");
        }
        fs::write(folder.path().join("open"), "x").unwrap();
        let text = testing::text("https://issuer.example", "").replace(LOCAL, vault);
        assert!(!text.contains("authority.local") || vault.contains("authority.local"));
        let file = folder.path().join("gateway.toml");
        fs::write(&file, text).unwrap();
        (Config::load(&file), folder)
    }

    fn good(vault: &str) -> Settings {
        match load(vault).0.unwrap().authority.kind {
            AuthorityKind::Vault(settings) => *settings,
            other => panic!("{other:?}"),
        }
    }

    const PLACE: &str = "[authority.vault]\naddress = \"https://vault.example:8200\"\n";

    #[test]
    fn the_defaults_are_those_that_the_set_up_makes() {
        let settings = good(&format!("{PLACE}{LOGIN}"));
        assert_eq!(
            (settings.user_mount.as_str(), settings.host_mount.as_str()),
            ("ssh", "ssh-host")
        );
        assert_eq!(settings.session_role, "doorward-session");
        assert_eq!(settings.sign_as, SignAs::Gateway);
        assert_eq!(settings.timeout, Duration::from_secs(4));
        assert_eq!(
            (settings.signings_per_second, settings.signings_per_user_per_minute),
            (50, 120)
        );
        assert_eq!(
            settings.login,
            Login::Kubernetes {
                mount: "kubernetes".into(),
                role: "doorward-gateway".into(),
                jwt_file: SERVICE_ACCOUNT.into(),
            }
        );
    }

    #[test]
    fn each_way_to_log_in_has_its_keys() {
        let login = |keys: &str| good(&format!("{PLACE}[authority.vault.login]\n{keys}")).login;
        let approle = login(
            "method = \"approle\"\nmount = \"team/approle\"\nrole-id-file = \"open\"\nsecret-id-file = \"secret\"\n",
        );
        assert!(matches!(approle, Login::AppRole { mount, .. } if mount == "team/approle"));
        let jwt = login("method = \"jwt\"\nrole = \"r\"\njwt-file = \"open\"\n");
        assert!(matches!(jwt, Login::Jwt { mount, .. } if mount == "jwt"));
        assert!(matches!(
            login("method = \"token-file\"\ntoken-file = \"token\"\n"),
            Login::TokenFile { .. }
        ));
    }

    #[test]
    fn signing_as_the_person_has_a_login_of_its_own() {
        let as_user = format!("{PLACE}sign-as = \"user\"\n{LOGIN}");
        let person = |mount: &str, role: &str| SignAs::User {
            mount: mount.into(),
            role: role.into(),
        };
        assert_eq!(good(&as_user).sign_as, person("jwt", "doorward-user"));
        let named = format!("{as_user}[authority.vault.user-login]\nmount = \"keycloak\"\nrole = \"people\"\n");
        assert_eq!(good(&named).sign_as, person("keycloak", "people"));
    }

    #[test]
    fn each_fault_is_named_with_its_line() {
        for (vault, expected) in [
            (
                format!("[authority.vault]\n{LOGIN}"),
                "14: `address` is missing in [authority.vault]",
            ),
            (PLACE.to_owned(), "14: the section [authority.vault.login] is missing"),
            (
                format!("[authority.vault]\naddress = \"http://vault.example:8200\"\n{LOGIN}"),
                "15: `address`: must be https (http only on loopback)",
            ),
            (
                format!("[authority.vault]\naddress = \"https://vault.example/path\"\n{LOGIN}"),
                "15: `address`: must be scheme, host and port alone",
            ),
            (
                format!("[authority.vault]\naddress = \"https://token@vault.example\"\n{LOGIN}"),
                "15: `address`: must be scheme, host and port alone",
            ),
            (format!("{PLACE}ca = \"missing.pem\"\n{LOGIN}"), "16: `ca`: "),
            (
                format!("{PLACE}namespace = \"a b\"\n{LOGIN}"),
                "16: `namespace`: must be names",
            ),
            (
                format!("{PLACE}user-mount = \"../sys\"\n{LOGIN}"),
                "16: `user-mount`: must be names",
            ),
            (
                format!("{PLACE}host-mount = \"ssh\"\n{LOGIN}"),
                "16: `host-mount` must not be `user-mount`",
            ),
            (
                format!("{PLACE}session-role = \"a/b\"\n{LOGIN}"),
                "16: `session-role`: must be a name",
            ),
            (
                format!("{PLACE}sign-as = \"root\"\n{LOGIN}"),
                "16: `sign-as`: must be \"gateway\" or \"user\"",
            ),
            (
                format!("{PLACE}host-certificates = \"nobody\"\n{LOGIN}"),
                "16: `host-certificates`: must be \"gateway\" or \"agents\"",
            ),
            (
                format!("{PLACE}timeout = \"10ms\"\n{LOGIN}"),
                "16: `timeout`: must be from 100ms to 30s",
            ),
            (
                format!("{PLACE}signings-per-second = 0\n{LOGIN}"),
                "16: `signings-per-second`: must be from 1",
            ),
            (
                format!("{PLACE}token = \"hvs.x\"\n{LOGIN}"),
                "16: unknown key `token` in [authority.vault]",
            ),
            (
                format!("{PLACE}{LOGIN}[authority.vault.user-login]\nrole = \"r\"\n"),
                "19: `user-login` needs `sign-as = \"user\"`",
            ),
            (
                format!("{PLACE}[authority.vault.login]\nmethod = \"ldap\"\n"),
                "17: `method`: must be \"kubernetes\"",
            ),
            (
                format!("{PLACE}[authority.vault.login]\nmethod = \"kubernetes\"\n"),
                "16: `role` is missing in [authority.vault.login]",
            ),
            (
                format!("{PLACE}[authority.vault.login]\nmethod = \"jwt\"\nrole = \"r\"\n"),
                "16: `jwt-file` is missing",
            ),
            (
                format!("{PLACE}[authority.vault.login]\nmethod = \"token-file\"\ntoken-file = \"open\"\n"),
                "18: `token-file`: open can be read by others",
            ),
            (
                format!(
                    "{PLACE}[authority.vault.login]\nmethod = \"approle\"\nrole-id-file = \"open\"\nsecret-id-file = \"open\"\n"
                ),
                "19: `secret-id-file`: open can be read by others",
            ),
            (
                format!("{PLACE}{LOGIN}secret-id-file = \"secret\"\n"),
                "19: unknown key `secret-id-file` in [authority.vault.login]",
            ),
            (format!("{LOCAL}{PLACE}{LOGIN}"), "there is [authority.local] as well"),
        ] {
            let (result, folder) = load(&vault);
            let Err(Faults(faults)) = result else {
                panic!("taken: {vault}")
            };
            let folder = format!("{}/", folder.path().display());
            let said: Vec<_> = faults
                .iter()
                .map(|fault| fault.to_string().replace(&folder, ""))
                .collect();
            let expected = match expected.starts_with(|first: char| first.is_ascii_digit()) {
                true => format!("gateway.toml:{expected}"),
                false => expected.to_owned(),
            };
            assert!(
                said.iter().any(|fault| fault.contains(&expected)),
                "{expected}: {said:#?}"
            );
        }
    }

    #[test]
    fn all_faults_come_at_once() {
        let vault = "[authority.vault]\naddress = \"x\"\nsign-as = 1\nuser-mount = \"/\"\n[authority.vault.login]\nmethod = 7\n";
        let Err(Faults(faults)) = load(vault).0 else {
            panic!("taken")
        };
        assert_eq!(faults.len(), 4, "{faults:#?}");
    }
}
