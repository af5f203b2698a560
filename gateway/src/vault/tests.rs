//! Planning and setting up, against a Vault that holds what it is given.

use std::{fs, path::PathBuf};

use clap::Parser as _;
use serde_json::json;
use tempfile::TempDir;

use super::{
    fake::{FakeVault, ROOT},
    *,
};
use crate::{cli::Cli, testing};

/// A folder with a configuration whose authority is this Vault.
pub(crate) fn folder(vault: &str, issuer: &str, more: &str) -> (TempDir, PathBuf) {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let folder = testing::folder();
    let local = "[authority.local]\nuser-ca = \"user-ca\"\nhost-ca = \"host-ca\"\n";
    let ours = format!(
        "[authority.vault]\naddress = \"{vault}\"\n{more}\n[authority.vault.login]\nmethod = \"token-file\"\ntoken-file = \"token\"\n"
    );
    let text = testing::text(issuer, "");
    assert!(text.contains(local));
    testing::private(&folder.path().join("token"), &format!("{ROOT}\n"));
    let file = folder.path().join("gateway.toml");
    fs::write(&file, text.replace(local, &ours)).unwrap();
    (folder, file)
}

fn command(words: &[&str]) -> Command {
    let all = ["doorward-gateway", "vault"].into_iter().chain(words.iter().copied());
    match Cli::try_parse_from(all).unwrap().command {
        crate::cli::Command::Vault { command } => *command,
        other => panic!("{other:?}"),
    }
}

struct Bench {
    vault: FakeVault,
    folder: TempDir,
    file: PathBuf,
}

impl Bench {
    async fn start(more: &str) -> Self {
        let vault = FakeVault::start().await;
        let (folder, file) = folder(&vault.url, "https://issuer.example", more);
        Self { vault, folder, file }
    }

    async fn run(&self, what: &str, more: &[&str]) -> Result<u8, Error> {
        let token = self.folder.path().join("token");
        let (config, token) = (self.file.to_str().unwrap(), token.to_str().unwrap());
        let mut words = vec![what, "--config", config, "--token-file", token];
        words.extend(more);
        run(&command(&words), false).await
    }
}

const AS_USER: &str = "sign-as = \"user\"";

#[tokio::test]
async fn a_set_up_is_planned_then_made_then_there() {
    for more in ["", AS_USER] {
        let bench = Bench::start(more).await;
        assert_eq!(bench.run("plan", &[]).await.unwrap(), 2);
        assert_eq!(bench.run("plan", &["--json"]).await.unwrap(), 2);
        assert_eq!(bench.vault.writes(), 0, "a plan writes nothing");
        assert_eq!(bench.run("apply", &["--yes"]).await.unwrap(), 0);
        let made = bench.vault.writes();
        assert!(made >= 10, "{made}");
        assert_eq!(bench.run("plan", &[]).await.unwrap(), 0);
        assert_eq!(bench.run("apply", &["--yes"]).await.unwrap(), 0);
        assert_eq!(bench.vault.writes(), made, "the second time changes nothing");

        // The roles know the accounts of the configuration, and people's auth method.
        let role = bench
            .vault
            .state
            .held
            .with(|held| held["ssh/roles/doorward-session"].clone());
        let users = role["allowed_users"].as_str().unwrap().to_owned();
        match more {
            "" => assert_eq!(users, "node"),
            _ => assert_eq!(users, "{{identity.entity.aliases.auth_of_the_fake.name}},node"),
        }

        // Somebody widens a role: one thing is written, and it is narrow again.
        bench
            .vault
            .change("ssh/roles/doorward-session", "allowed_users", json!("*"));
        assert_eq!(bench.run("plan", &[]).await.unwrap(), 2);
        assert_eq!(bench.run("apply", &["--yes"]).await.unwrap(), 0);
        assert_eq!(bench.vault.writes(), made + 1);
        assert_eq!(bench.run("plan", &[]).await.unwrap(), 0);
    }
}

#[tokio::test]
async fn nothing_is_written_unasked_or_over_others() {
    let bench = Bench::start("").await;
    // There is nobody to ask.
    let refused = bench.run("apply", &[]).await.unwrap_err();
    assert!(
        matches!(refused, Error::NobodyToAsk) && refused.exit_code() == 3,
        "{refused}"
    );
    bench
        .vault
        .put("sys/mounts/ssh", &json!({ "type": "kv", "description": "payroll" }));
    assert_eq!(bench.run("plan", &[]).await.unwrap(), 1);
    let refused = bench.run("apply", &["--yes"]).await.unwrap_err();
    assert!(
        matches!(&refused, Error::InTheWay(path) if path == "sys/mounts/ssh"),
        "{refused}"
    );
    assert_eq!((refused.exit_code(), bench.vault.writes()), (1, 0));
}

#[tokio::test]
async fn a_vault_that_does_not_keep_what_it_took_is_told() {
    let bench = Bench::start("").await;
    let path = "ssh/roles/doorward-link";
    bench
        .vault
        .state
        .forgets
        .with(|forgets| *forgets = Some(path.to_owned()));
    let refused = bench.run("apply", &["--yes"]).await.unwrap_err();
    assert!(refused.to_string().contains(path), "{refused}");
}

#[tokio::test]
async fn a_token_is_taken_from_a_private_file_alone_and_never_shown() {
    use std::os::unix::fs::PermissionsExt as _;
    let bench = Bench::start("").await;
    let token = bench.folder.path().join("other");
    let config = bench.file.to_str().unwrap();
    let words = [
        "apply",
        "--config",
        config,
        "--yes",
        "--token-file",
        token.to_str().unwrap(),
    ];
    for (text, mode, expected) in [
        (ROOT, 0o644, "can be read by others"),
        ("", 0o600, "holds no token"),
        ("two words", 0o600, "holds no token"),
        ("not-the-token", 0o600, "permission denied"),
    ] {
        fs::write(&token, text).unwrap();
        fs::set_permissions(&token, fs::Permissions::from_mode(mode)).unwrap();
        let refused = run(&command(&words), false).await.unwrap_err();
        let said = format!("{refused} {refused:?}");
        assert!(said.contains(expected), "{expected}: {said}");
        assert!(!said.contains(ROOT) && !said.contains("not-the-token"), "{said}");
    }
    assert_eq!(bench.vault.writes(), 0);
    // There is no argument for a token.
    assert!(
        Cli::try_parse_from([
            "doorward-gateway",
            "vault",
            "apply",
            "--config",
            config,
            "--token",
            ROOT
        ])
        .is_err()
    );
}

#[tokio::test]
async fn what_cannot_be_is_refused_before_vault_is_asked() {
    let bench = Bench::start("link-role = \"doorward-session\"").await;
    let refused = bench.run("plan", &[]).await.unwrap_err();
    assert!(refused.to_string().contains("pass for a gateway"), "{refused}");
    assert_eq!(refused.exit_code(), 64);

    let bench = Bench::start("").await;
    let text = fs::read_to_string(&bench.file).unwrap();
    let jwt = "method = \"jwt\"\nrole = \"doorward-gateway\"\njwt-file = \"token\"\n";
    fs::write(
        &bench.file,
        text.replace("method = \"token-file\"\ntoken-file = \"token\"\n", jwt),
    )
    .unwrap();
    let refused = bench.run("plan", &[]).await.unwrap_err();
    assert!(refused.to_string().contains("--login-issuer"), "{refused}");
    let whose = [
        "--login-issuer",
        "https://cluster.example",
        "--login-subject",
        "gateway",
    ];
    assert_eq!(bench.run("plan", &whose).await.unwrap(), 2);

    let (_folder, file) = {
        let folder = testing::folder();
        let file = folder.path().join("gateway.toml");
        fs::write(&file, testing::text("https://issuer.example", "")).unwrap();
        (folder, file)
    };
    let refused = run(&command(&["plan", "--config", file.to_str().unwrap()]), false)
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("names no Vault"), "{refused}");
    assert_eq!(refused.exit_code(), 78);
}

#[tokio::test]
async fn a_plan_without_a_token_asks_nobody() {
    let (_folder, file) = folder("http://127.0.0.1:1", "https://issuer.example", "");
    assert_eq!(
        run(&command(&["plan", "--config", file.to_str().unwrap()]), false)
            .await
            .unwrap(),
        2
    );
}

/// What Vault holds may be made to fool a terminal.
#[test]
fn what_vault_says_is_escaped() {
    let hostile = "\u{1b}]0;x\u{7}\u{202e}";
    let steps = Vec::from_iter(sample_steps());
    let mut live = Live::new();
    for step in &steps {
        live.insert(step.path.clone(), step.body.clone());
    }
    let role = live.get_mut("ssh/roles/doorward-link").unwrap();
    role.insert("allowed_users".to_owned(), hostile.into());
    let policy = live.get_mut("sys/policies/acl/doorward-gateway").unwrap();
    let wider = policy["policy"]
        .as_str()
        .unwrap()
        .replace("[\"node\"]", &format!("[{hostile}]"));
    policy.insert("policy".to_owned(), wider.into());
    let text = show::text(&Plan::of(steps, &live));
    assert!(text.contains("allowed_users") && text.contains("→"), "{text}");
    // Of the policy the one line that differs.
    let lines = |mark: &str| text.lines().filter(|line| line.starts_with(mark)).count();
    assert_eq!((lines("      - "), lines("      + ")), (1, 1), "{text}");
    assert!(
        !text
            .chars()
            .any(|one| (one.is_control() && one != '\n') || one == '\u{202e}'),
        "{text:?}"
    );
}

fn sample_steps() -> Vec<Step> {
    let (_folder, file) = folder("http://127.0.0.1:1", "https://issuer.example", "");
    let config = Config::load(&file).unwrap();
    let Command::Plan { about, .. } = command(&["plan", "--config", "x"]) else {
        panic!("another command")
    };
    let settings = needs::settings(&config).unwrap();
    steps(&needs::needs(&config, settings, &about.details).unwrap())
}
