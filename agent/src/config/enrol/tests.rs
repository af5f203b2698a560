//! `[enrol]` and `[enrol.vault]`, good and bad.

use std::path::Path;
use std::time::Duration;

use doorward_certs::vault::PodLogin;

use super::super::{
    Config,
    tests::{GOOD, faults, folder},
};
use super::Enrol;

const TOKEN: &str = "service-account-token-file = '/var/run/secrets/doorward/token'\n";

#[test]
fn a_pod_proves_itself_by_a_token_of_its_service_account() {
    let folder = folder();
    let text = format!("{GOOD}[enrol]\n{TOKEN}");
    let config = Config::parse(&folder.path().join("agent.toml"), &text).unwrap();
    let enrol = config.enrol.unwrap();
    assert_eq!(enrol.token_file(), Path::new("/var/run/secrets/doorward/token"));
    assert!(matches!(enrol, Enrol::Gateway { .. }));
    assert!(config.masks.files.iter().any(|file| file == enrol.token_file()));
    let both = GOOD.replace("login", "x") + "join-token-file = 'j'\n[enrol]\nservice-account-token = 'secret'\n";
    let all = faults(&both);
    assert!(all.iter().any(|fault| fault.contains("one or the other")), "{all:?}");
    assert!(
        all.iter()
            .any(|fault| fault.contains("service-account-token-file is missing")),
        "{all:?}"
    );
    assert!(!all.concat().contains("secret"), "{all:?}");
}

#[test]
fn or_at_vault_whose_token_is_masked_as_well() {
    let folder = folder();
    let file = folder.path().join("agent.toml");
    let text = format!("{GOOD}[enrol.vault]\naddress = 'https://vault.example:8200'\nmethod = 'jwt'\n{TOKEN}");
    let config = Config::parse(&file, &text).unwrap();
    let Some(Enrol::Vault(at)) = config.enrol else {
        panic!("{:?}", config.enrol)
    };
    assert!(config.masks.files.contains(&at.settings.token_file));
    assert_eq!(at.settings.method, PodLogin::Jwt);
    assert_eq!(
        [
            &at.settings.mount,
            &at.settings.role,
            &at.settings.host_mount,
            &at.settings.host_role
        ],
        ["doorward-agents", "doorward-agent", "ssh-host", "doorward-host"]
    );
    assert_eq!(
        (at.life, at.settings.timeout),
        (Duration::from_secs(86_400), Duration::from_secs(10))
    );
}

#[test]
fn what_is_wrong_with_it_is_said_with_its_line() {
    let place = "[enrol.vault]\naddress = 'https://vault.example:8200'\nmethod = 'kubernetes'\n";
    for (text, expected) in [
        ("[enrol.vault]\n".to_owned(), "address is missing"),
        (place.to_owned(), "service-account-token-file is missing"),
        (
            format!("[enrol.vault]\naddress = 'http://vault.example'\nmethod = 'jwt'\n{TOKEN}"),
            "16: address: must be https",
        ),
        (
            format!("[enrol.vault]\naddress = 'https://u:pw@vault.example'\nmethod = 'jwt'\n{TOKEN}"),
            "16: address: must be scheme, host and port alone",
        ),
        (format!("{place}{TOKEN}mount = '../sys'\n"), "19: mount: must be names"),
        (format!("{place}{TOKEN}role = 'a/b'\n"), "19: role: must be a name"),
        (
            format!("{place}{TOKEN}host-role = ''\n"),
            "19: host-role: must be a name",
        ),
        (format!("{place}{TOKEN}ca = 'none.pem'\n"), "19: ca: "),
        (
            format!("{place}{TOKEN}certificate-life = '1s'\n"),
            "19: certificate-life: must be from",
        ),
        (format!("{place}{TOKEN}timeout = '2m'\n"), "19: timeout: must be from"),
        (format!("{place}{TOKEN}token = 'hvs.x'\n"), "19: unknown key 'token'"),
        (
            format!("[enrol]\n{TOKEN}{place}{TOKEN}"),
            "a token for the gateway, and [enrol.vault]: one or the other",
        ),
    ] {
        let all = faults(&format!("{GOOD}{text}"));
        assert!(all.iter().any(|fault| fault.contains(expected)), "{expected}: {all:#?}");
        assert!(
            !all.concat().contains("pw@") && !all.concat().contains("hvs."),
            "{all:?}"
        );
    }
    let all = faults(&format!(
        "{GOOD}[enrol.vault]\naddress = 'https://vault.example'\nmethod = 'ldap'\n{TOKEN}"
    ));
    assert!(all[0].contains("method: 'ldap' is none of"), "{all:?}");
}
