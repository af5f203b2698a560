//! Configurations good and bad. Every fault has its file and line, and none hides another.

use std::{fs, path::Path};

use super::*;
use crate::testing;

fn load(text: &str) -> (Result<Config, Faults>, tempfile::TempDir) {
    let folder = testing::folder();
    let file = folder.path().join("gateway.toml");
    fs::write(&file, text).unwrap();
    (Config::load(&file), folder)
}

/// The faults of a good configuration with one replacement, without the folder's name.
fn faults(from: &str, to: &str) -> Vec<String> {
    let text = testing::text("https://issuer.example", "");
    assert!(text.contains(from), "{from}");
    let (result, folder) = load(&text.replacen(from, to, 1));
    let Err(Faults(faults)) = result else {
        panic!("{to:?} was taken")
    };
    let folder = format!("{}/", folder.path().display());
    faults
        .iter()
        .map(|fault| fault.to_string().replace(&folder, ""))
        .collect()
}

#[test]
fn a_good_file_is_read_with_its_defaults() {
    let (config, folder) = load(&testing::text("https://issuer.example", ""));
    let config = config.unwrap();
    assert_eq!(config.state_directory, folder.path().join("state"));
    assert_eq!(config.oidc.authorized_parties, ["doorward"]);
    assert_eq!(config.oidc.scopes, ["openid"]);
    assert_eq!(config.oidc.user_claim.names(), ["preferred_username"]);
    assert_eq!(config.oidc.token_kind, TokenKind::Access);
    assert_eq!(config.authority.certificate_life, Duration::from_secs(180));
    assert_eq!(config.records.commit_interval, Duration::from_millis(20));
    assert_eq!(config.limits.drain, Duration::from_secs(30));
    assert_eq!(config.workspaces.len(), 2);
    let without_admin = testing::text("https://issuer.example", "").replace("[admin]\naddress = \"127.0.0.1:0\"\n", "");
    assert!(load(&without_admin).0.unwrap().admin.address.ip().is_loopback());
}

#[test]
fn each_fault_is_named_with_its_line() {
    for (from, to, expected) in [
        (
            "[listen]",
            "colour = \"red\"\n[listen]",
            "gateway.toml:2: unknown key `colour` in the file",
        ),
        (
            "state-directory = \"state\"\n",
            "",
            "`state-directory` is missing in the file",
        ),
        (
            "address = \"127.0.0.1:0\"",
            "address = 8443",
            "gateway.toml:3: `address`: expected a string, found an integer",
        ),
        (
            "address = \"127.0.0.1:0\"",
            "address = \"localhost\"",
            "gateway.toml:3: `address`: invalid socket address",
        ),
        (
            "reload-interval = \"10ms\"",
            "reload-interval = \"soon\"",
            "gateway.toml:6: `reload-interval`: `soon` is no duration",
        ),
        (
            "reload-interval = \"10ms\"",
            "reload-interval = \"2h\"",
            "gateway.toml:6: `reload-interval`: must be from 10ms to 1h",
        ),
        (
            "\"https://issuer.example\"",
            "\"http://issuer.example\"",
            "gateway.toml:10: `issuer`: must be https",
        ),
        (
            "\"https://issuer.example\"",
            "\"http://10.0.0.1/\"",
            "gateway.toml:10: `issuer`: must be https",
        ),
        (
            "\"https://issuer.example\"",
            "\"https://issuer.example?a=b\"",
            "gateway.toml:10: `issuer`: must have no query",
        ),
        (
            "\"https://issuer.example\"",
            "\"https://u:p@issuer.example\"",
            "gateway.toml:10: `issuer`: must have no query",
        ),
        (
            "\"https://issuer.example\"",
            "\"issuer\"",
            "gateway.toml:10: `issuer`: `issuer` is no URL",
        ),
        (
            "keys-cool-down = \"10ms\"",
            "algorithms = [\"HS256\"]",
            "gateway.toml:13: `algorithms`: a symmetric algorithm",
        ),
        (
            "keys-cool-down = \"10ms\"",
            "algorithms = [\"none\"]",
            "gateway.toml:13: `algorithms`: a symmetric algorithm",
        ),
        (
            "keys-cool-down = \"10ms\"",
            "algorithms = []",
            "gateway.toml:13: `algorithms` must name at least one",
        ),
        (
            "keys-cool-down = \"10ms\"",
            "algorithms = [\"rs256\"]",
            "gateway.toml:13: `algorithms`: `rs256` is no signature",
        ),
        (
            "keys-cool-down = \"10ms\"",
            "groups-form = \"guess\"",
            "gateway.toml:13: `groups-form`: must be \"array\"",
        ),
        (
            "keys-cool-down = \"10ms\"",
            "groups-claim = \"a..b\"",
            "gateway.toml:13: `groups-claim`: a claim path",
        ),
        (
            "keys-cool-down = \"10ms\"",
            "ca = \"missing.pem\"",
            "missing.pem cannot be read",
        ),
        (
            "keys-cool-down = \"10ms\"",
            "scopes = [\"groups\"]",
            "gateway.toml:13: `scopes` must contain \"openid\"",
        ),
        (
            "keys-cool-down = \"10ms\"",
            "authorized-parties = []",
            "gateway.toml:13: `authorized-parties` must name",
        ),
        (
            "keys-cool-down = \"10ms\"",
            "client-secret = \"x\"",
            "gateway.toml:13: unknown key `client-secret` in [oidc]",
        ),
        (
            "user-ca = \"user-ca\"",
            "user-ca = \"missing\"",
            "gateway.toml:15: `user-ca`: missing does not exist",
        ),
        (
            "[authority.local]",
            "[authority.hsm]",
            "the section [authority.local] is missing",
        ),
        (
            "name = \"devenv-1\"",
            "name = \"devenv-0\"",
            "the workspace `devenv-0` is there more than once",
        ),
        (
            "uid = \"uid-1\"",
            "uid = \"uid-0\"",
            "the uid `uid-0` belongs to more than one workspace",
        ),
        ("name = \"devenv-1\"", "name = \"DevEnv\"", "gateway.toml:30: `name`: "),
        (
            "address = \"127.0.0.1:1\"",
            "address = \"127.0.0.1\"",
            "gateway.toml:26: `address`: `127.0.0.1` is not of the form",
        ),
        ("login = \"node\"", "login = \"node\\n\"", "gateway.toml:27: `login`: "),
        (
            "file = \"policy.toml\"",
            "file = \"missing.toml\"",
            "missing.toml cannot be read",
        ),
        (
            "certificate = \"tls.crt\"",
            "certificate = \"policy.toml\"",
            "policy.toml: holds no certificate",
        ),
        ("key = \"tls.key\"", "key = \"user-ca\"", "holds no usable private key"),
    ] {
        let found = faults(from, to);
        assert!(found.iter().any(|fault| fault.contains(expected)), "{to:?}: {found:#?}");
    }
}

#[test]
fn all_faults_come_at_once_with_those_of_the_files_it_names() {
    let text = testing::text("http://issuer.example", "[limits]\nsessions = 0\nspeed = 1\n")
        .replace("client-id = \"doorward\"\n", "")
        .replace("login = \"node\"\nowner", "owner");
    let folder = testing::folder();
    fs::write(folder.path().join("policy.toml"), "[[role]]\nname = 1\n").unwrap();
    fs::write(folder.path().join("tls.crt"), "no certificate").unwrap();
    let file = folder.path().join("gateway.toml");
    fs::write(&file, text).unwrap();
    let Err(Faults(faults)) = Config::load(&file) else {
        panic!("taken")
    };
    let of = |name: &str| faults.iter().filter(|fault| fault.file.ends_with(name)).count();
    assert_eq!((of("gateway.toml"), of("tls.crt")), (5, 1), "{faults:#?}");
    assert!(of("policy.toml") >= 2, "{faults:#?}");
}

#[test]
fn key_files_that_others_can_read_are_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    for name in ["tls.key", "user-ca", "host-ca", "gateway.key", "join"] {
        let folder = testing::folder();
        let key = folder.path().join(name);
        if !key.exists() {
            testing::private(&key, "x");
        }
        let text = testing::text("https://issuer.example", "join-token-file = \"join\"");
        let file = folder.path().join("gateway.toml");
        fs::write(&file, text).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
        let Err(faults) = Config::load(&file) else {
            panic!("{name} was taken")
        };
        assert!(
            faults.to_string().contains("can be read by others (mode 0644)"),
            "{name}: {faults}"
        );
    }
}

#[test]
fn a_certificate_and_a_key_that_do_not_fit_are_refused() {
    let folder = testing::folder();
    let first = fs::read(folder.path().join("tls.crt")).unwrap();
    testing::write_certificate(folder.path(), "localhost");
    fs::write(folder.path().join("tls.crt"), first).unwrap();
    let file = folder.path().join("gateway.toml");
    fs::write(&file, testing::text("https://issuer.example", "")).unwrap();
    assert!(
        Config::load(&file)
            .unwrap_err()
            .to_string()
            .contains("does not fit its key")
    );
}

#[test]
fn a_file_that_is_not_there_or_no_toml_is_a_fault() {
    assert!(
        Config::load(Path::new("/nowhere/gateway.toml"))
            .unwrap_err()
            .to_string()
            .contains("cannot be read")
    );
    for text in ["= 1", "[listen\n", "a = \"\u{0}\"", "[listen]\n[listen]\n"] {
        let (result, _folder) = load(text);
        assert!(result.is_err(), "{text:?}");
    }
    let (result, folder) = load("");
    fs::write(folder.path().join("gateway.toml"), [0xff, 0xfe]).unwrap();
    assert!(result.is_err() && Config::load(&folder.path().join("gateway.toml")).is_err());
}

/// The command: faults on stderr, 78; usage is 64.
#[test]
fn the_command_checks_a_configuration() {
    let exit = |args: &[&str]| {
        let args = std::iter::once("doorward-gateway")
            .chain(args.iter().copied())
            .map(Into::into);
        format!("{:?}", crate::cli::main_with(args))
    };
    let code = |code: u8| format!("{:?}", std::process::ExitCode::from(code));
    let (_, folder) = load(&testing::text("https://issuer.example", ""));
    let file = folder.path().join("gateway.toml");
    let name = file.to_str().unwrap();
    assert_eq!(exit(&["check-config", "--config", name]), code(0));
    fs::write(&file, "nothing = true").unwrap();
    assert_eq!(exit(&["check-config", "--config", name]), code(78));
    assert_eq!(exit(&["run", "--config", name]), code(78));
    assert_eq!(exit(&["check-config"]), code(64));
    assert_eq!(exit(&["dance"]), code(64));
    assert_eq!(exit(&["--version"]), code(0));
}

/// The samples in the document are good, its defaults are those of the code, and its codes are all there are.
#[test]
fn the_document_tells_the_truth() {
    let document = include_str!("../../../docs/gateway.md");
    let samples: Vec<_> = document
        .split("```toml\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect();
    let [gateway, roles] = samples[..] else {
        panic!("two samples")
    };
    crate::policy::Roles::parse(Path::new("policy.toml"), roles).unwrap();
    let (as_shown, _) = load(gateway);
    // Every default that is commented out, said aloud; files that are not there stay unsaid.
    let aloud: String = gateway
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(key) if !key.starts_with("ca ") && !key.starts_with("owner") && !key.starts_with("join") => key,
            _ => line,
        })
        .collect::<Vec<_>>()
        .join("\n");
    let (said_aloud, _) = load(&aloud);
    let show = |config: Config| {
        let text = format!("{config:?}");
        let folder = config.state_directory.parent().unwrap().display().to_string();
        text.replace(&folder, "")
    };
    assert_eq!(show(as_shown.unwrap()), show(said_aloud.unwrap()));

    for code in crate::refusal::RefusalCode::ALL {
        let row = format!("| `{}` | {}", code.as_str(), code.status().as_u16());
        assert!(document.contains(&row), "{row}");
    }
    assert_eq!(document.matches("| `").count(), crate::refusal::RefusalCode::ALL.len());
}
