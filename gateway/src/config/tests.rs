//! Configurations good and bad. Every fault has its file and line, and none hides another.

mod authorize;
mod outside;
mod token_review;
mod up_time;
mod wake;

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
    assert_eq!(config.oidc[0].authorized_parties, ["doorward"]);
    assert_eq!(config.oidc[0].scopes, ["openid"]);
    assert_eq!(config.oidc[0].user_claim.names(), ["preferred_username"]);
    assert_eq!(config.oidc[0].token_kind, TokenKind::Access);
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
            "[listen]",
            "workspace-names = [\"ok-*\", \"*\"]\n[listen]",
            "gateway.toml:2: `workspace-names`: `*` is no pattern of names: at least two of a-z, 0-9 and -, then one *, such as `devenv-*`",
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
            "keys-cool-down = \"10ms\"",
            "token = \"opaque\"",
            "gateway.toml:9: opaque tokens need [oidc.introspection]",
        ),
        (
            "keys-cool-down = \"10ms\"",
            "introspection = { client-id = \"x\", client-secret-file = \"missing\" }",
            "gateway.toml:13: `client-secret-file`: ",
        ),
        (
            "keys-cool-down = \"10ms\"",
            "introspection = { client-id = \"x\", client-secret-file = \"policy.toml\" }",
            "can be read by others",
        ),
        (
            "keys-cool-down = \"10ms\"",
            "introspection = { client-id = \"x\", client-secret-file = \"introspection\", endpoint = \"http://x.org\" }",
            "gateway.toml:13: `endpoint`: must be https",
        ),
        (
            "keys-cool-down = \"10ms\"",
            "introspection = { client-id = \"x\", client-secret-file = \"introspection\", cache = \"1h\" }",
            "gateway.toml:13: `cache`: must be from",
        ),
        (
            "keys-cool-down = \"10ms\"",
            "dpop = \"maybe\"",
            "gateway.toml:13: `dpop`: must be \"off\"",
        ),
        (
            "keys-cool-down = \"10ms\"",
            "name = \"two words\"",
            "gateway.toml:13: `name`: must be at most 64 letters",
        ),
        (
            "keys-cool-down = \"10ms\"",
            "email-domains = [\"*.x.org\"]",
            "gateway.toml:13: `email-domains`: `*.x.org` is no domain",
        ),
        (
            "keys-cool-down = \"10ms\"",
            "login = {}",
            "gateway.toml:13: a login rule needs",
        ),
        (
            "keys-cool-down = \"10ms\"",
            "login = { template = \"dev-*{user}\" }",
            "gateway.toml:13: `template`: must contain `{user}` once",
        ),
        (
            "keys-cool-down = \"10ms\"",
            "login = { template = \"{user}{user}\" }",
            "gateway.toml:13: `template`: must contain `{user}` once",
        ),
        (
            "keys-cool-down = \"10ms\"",
            "login = { table-file = \"logins.toml\", claim = \"email\" }",
            "gateway.toml:13: `claim` has no meaning beside `table-file`",
        ),
        (
            "keys-cool-down = \"10ms\"",
            "login = { table-file = \"policy.toml\" }",
            "policy.toml:1: the section [logins] is missing",
        ),
        (
            "[authority.local]",
            "[session]\nrecheck-interval = \"2h\"\n[authority.local]",
            "gateway.toml:15: `recheck-interval`: must be from",
        ),
        (
            "user-ca = \"user-ca\"",
            "user-ca = \"missing\"",
            "gateway.toml:15: `user-ca`: missing does not exist",
        ),
        (
            "[authority.local]",
            "[authority.hsm]",
            "the section [authority.local] or [authority.vault] is missing",
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
fn several_issuers_are_told_apart() {
    let one = "[[oidc]]\nissuer = \"https://one.example\"\nclient-id = \"doorward\"\naudience = \"doorward-gateway\"\n";
    let text = testing::text("https://issuer.example", "");
    let (before, rest) = text.split_once("[oidc]").unwrap();
    let (_, after) = rest.split_once("[authority.local]").unwrap();
    let with = |issuers: &str| load(&format!("{before}{issuers}[authority.local]{after}")).0;
    let two = one.replace("one.example", "two.example");
    let config = with(&format!("{one}{two}")).unwrap();
    let prefixes: Vec<_> = config.oidc.iter().map(|one| one.groups_prefix.as_str()).collect();
    assert_eq!(prefixes, ["", "two.example:"]);
    assert_eq!(config.oidc[0].email_domains, None);
    assert!(config.oidc[1].email_domains.as_ref().unwrap().is_empty());
    let opaque = "token = \"opaque\"\nintrospection = { client-id = \"x\", client-secret-file = \"introspection\" }\n";
    for (issuers, said) in [
        (
            one.repeat(2),
            "the issuer `https://one.example` is there more than once",
        ),
        (
            format!("{one}{}", one.replace("one.example", "one.example/other")),
            "two issuers are called `one.example`",
        ),
        (
            format!("{one}{opaque}{two}{opaque}"),
            "only one issuer may have opaque tokens",
        ),
        (String::new(), "the section [oidc] is missing"),
    ] {
        let faults = with(&issuers).unwrap_err().to_string();
        assert!(faults.contains(said), "{faults}");
    }
}

/// `explain`: by the files alone, with the locks of the state folder; the exit code says it as well.
#[test]
fn the_command_explains() {
    use crate::{explain, locks::Locks, policy::Verdict};
    let (config, folder) = load(&testing::text("https://issuer.example", ""));
    let config = config.unwrap();
    let who = |groups: &[&str]| explain::Supposed {
        user: "bob".to_owned(),
        groups: groups.iter().map(|&group| group.to_owned()).collect(),
        email: None,
        issuer: None,
    };
    let place = doorward_certs::WorkspaceName::try_from("devenv-0").unwrap();
    let granted = explain::offline(&config, &who(&["developers"]), &place).unwrap();
    assert_eq!(
        (granted.verdict, granted.login.as_deref()),
        (Verdict::Granted, Some("node"))
    );
    let text = explain::text(&granted);
    assert!(text.starts_with("bob may enter devenv-0 as node\n"), "{text}");
    assert!(
        text.contains("  + developer: member by the group `developers`"),
        "{text}"
    );
    let denied = explain::text(&explain::offline(&config, &who(&["a"]), &place).unwrap());
    assert!(denied.starts_with("bob may not enter devenv-0"), "{denied}");
    assert!(denied.contains("  - developer: none of its groups"), "{denied}");
    let file = folder.path().join("gateway.toml");
    let exit = |more: &[&str]| {
        let args = [
            "doorward-gateway",
            "explain",
            "--config",
            file.to_str().unwrap(),
            "--user",
            "bob",
        ];
        let args = args.into_iter().chain(more.iter().copied()).map(Into::into);
        format!("{:?}", crate::cli::main_with(args))
    };
    let code = |code: u8| format!("{:?}", std::process::ExitCode::from(code));
    assert_eq!(exit(&["--groups", "x,developers", "devenv-0"]), code(0));
    assert_eq!(exit(&["--groups", "developers", "--json", "devenv-0"]), code(0));
    assert_eq!(exit(&["devenv-0"]), code(1));
    assert_eq!(exit(&["--email", "bob", "devenv-0"]), code(64));
    assert_eq!(exit(&["../x"]), code(64));
    assert_eq!(exit(&["--issuer", "nobody", "devenv-0"]), code(78));
    fs::create_dir(folder.path().join("state")).unwrap();
    let lock = r#"[{"kind":"user","name":"bob","by":"alice","at":"2026-01-01T00:00:00Z","reason":"away"}]"#;
    fs::write(folder.path().join("state/locks.json"), lock).unwrap();
    assert_eq!(Locks::open(&config.state_directory).unwrap().list().len(), 1);
    let locked = explain::offline(&config, &who(&["developers"]), &place).unwrap();
    assert_eq!(locked.verdict, Verdict::Locked);
    assert!(explain::text(&locked).contains("you are locked: away"));
    assert_eq!(exit(&["--groups", "developers", "devenv-0"]), code(1));
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
    let [gateway, issuers, cluster, vault, s3, exports, roles] = samples[..] else {
        panic!("seven samples")
    };
    crate::record::fixture::install_provider();
    let (before, rest) = gateway.split_once("[oidc]").unwrap();
    let (_, after) = rest.split_once("[authority.local]").unwrap();
    let (several, _) = load(&format!("{before}{issuers}\n[authority.local]{after}"));
    let several = several.unwrap();
    assert_eq!(several.oidc.len(), 2);
    assert_eq!(
        (
            several.oidc[0].user_prefix.as_str(),
            several.oidc[1].user_prefix.as_str()
        ),
        ("", "partner:")
    );
    crate::policy::Roles::parse(Path::new("policy.toml"), roles).unwrap();
    // Every default that is commented out, said aloud; files that are not there stay unsaid.
    let unsaid = [
        "ca ",
        "namespace",
        "owner",
        "join",
        "prefix",
        "workspaces-claim",
        "workspace-names",
        "groups =",
    ];
    let aloud = |sample: &str| -> String {
        let line = |line: &str| match line.strip_prefix("# ") {
            Some(key) if !unsaid.iter().any(|name| key.starts_with(name)) => format!("{key}\n"),
            _ => format!("{line}\n"),
        };
        sample.lines().map(line).collect()
    };
    let show = |config: Config| {
        let text = format!("{config:?}");
        let folder = config.state_directory.parent().unwrap().display().to_string();
        text.replace(&folder, "")
    };
    let local = &gateway[gateway.find("[authority.local]").unwrap()..gateway.find("[link]").unwrap()];
    for sample in [
        gateway.to_owned(),
        gateway.replace(local, vault),
        format!("{gateway}\n{s3}"),
        format!("{gateway}\n[kubernetes]\n{cluster}"),
        format!("{gateway}\n{exports}"),
    ] {
        let ((as_shown, _), (said_aloud, _)) = (load(&sample), load(&aloud(&sample)));
        assert_eq!(show(as_shown.unwrap()), show(said_aloud.unwrap()));
    }

    for code in crate::refusal::RefusalCode::ALL {
        let row = format!("| `{}` | {}", code.as_str(), code.status().as_u16());
        assert!(document.contains(&row), "{row}");
    }
    assert_eq!(document.matches("| `").count(), crate::refusal::RefusalCode::ALL.len());
}
