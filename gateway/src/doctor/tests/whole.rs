//! The whole examination, against an issuer, a Vault and agents that are as they are told to be.

use std::{fs, path::PathBuf, time::SystemTime};

use doorward_certs::{Authority, HostRequest, Local, WorkspaceName, WorkspaceUid};
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    super::{About, Finding, Verdict, examine, exit_code},
    has, of,
};
use crate::{
    guarded::Guarded,
    link::fake::{FakeAgent, Manner},
    oidc::fake::{Answer, FakeIssuer, Key},
    testing,
    vault::{
        fake::{FakeVault, ROOT},
        tests::folder as vault_folder,
    },
};

struct Bench {
    issuer: FakeIssuer,
    folder: TempDir,
    file: PathBuf,
}

/// A discovery document that offers all that log-in wants.
fn discovery(issuer: &FakeIssuer) -> Value {
    let url = &issuer.url;
    json!({
        "issuer": url, "jwks_uri": format!("{url}/keys"),
        "authorization_endpoint": format!("{url}/auth"), "token_endpoint": format!("{url}/token"),
        "device_authorization_endpoint": format!("{url}/device"), "code_challenge_methods_supported": ["S256"],
    })
}

impl Bench {
    async fn start() -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let issuer = FakeIssuer::start(&[&Key::new("one", Algorithm::ES256)]).await;
        issuer.discovery_answers(Answer::Text(discovery(&issuer).to_string()));
        let folder = testing::folder();
        let file = folder.path().join("gateway.toml");
        fs::write(&file, testing::text(&issuer.url, "")).unwrap();
        Self { issuer, folder, file }
    }

    async fn examine(&self) -> Vec<Finding> {
        examine(&self.file, &About::default()).await
    }

    fn edit(&self, from: &str, to: &str) {
        let text = fs::read_to_string(&self.file).unwrap();
        assert!(text.contains(from), "{from}");
        fs::write(&self.file, text.replace(from, to)).unwrap();
    }

    /// An agent for `devenv-0` with a certificate of this folder's host CA, changed as told.
    async fn agent(&self, change: impl FnOnce(&mut Manner)) -> FakeAgent {
        let (user, host) = (self.folder.path().join("user-ca"), self.folder.path().join("host-ca"));
        let authority = Authority::Local(Local::from_files(&user, &host).unwrap());
        let mut manner = Manner::default();
        let request = HostRequest {
            subject: manner.key.public_key().clone(),
            workspace: WorkspaceName::try_from("devenv-0").unwrap(),
            workspace_uid: WorkspaceUid::try_from("uid-0").unwrap(),
            names: Vec::new(),
            valid_for: std::time::Duration::from_secs(3600),
        };
        let signed = authority.sign_host(&request, SystemTime::now()).await.unwrap();
        manner.certificate = Guarded::new(Some(signed.blob().to_vec()));
        change(&mut manner);
        let agent = FakeAgent::start(manner).await;
        self.edit(
            "uid = \"uid-0\"\naddress = \"127.0.0.1:1\"",
            &format!("uid = \"uid-0\"\naddress = \"{}\"", agent.address),
        );
        agent
    }
}

#[tokio::test]
async fn a_gateway_that_would_work_is_well() {
    let bench = Bench::start().await;
    let _agent = bench.agent(|_| {}).await;
    bench.edit(
        "[[workspace]]\nname = \"devenv-1\"\nuid = \"uid-1\"\naddress = \"127.0.0.1:1\"\nlogin = \"node\"\n",
        "",
    );
    let found = bench.examine().await;
    // What the machine of the test has of free space is its own affair.
    let ill: Vec<_> = found
        .iter()
        .filter(|one| one.verdict != Verdict::Ok && !one.text.contains("MiB free"))
        .collect();
    assert!(ill.is_empty(), "{ill:#?}");
    for (check, text) in [
        ("config", "no fault"),
        ("clock", "agrees"),
        ("issuer", "under its own name"),
        ("issuer-keys", "keys for ES256"),
        ("certificate", "is for localhost"),
        ("ca-keys", "SHA256:"),
        ("signing", "doorward-doctor-trial-nobody"),
        ("agent", "a link would come up (version fake"),
        ("records", "will be made"),
        ("state", "closed to others"),
        ("policy", "no role looks odd"),
    ] {
        has(&found, check, Verdict::Ok, text);
    }
    // It left nothing behind.
    for name in ["state", "records", "gateway.key"] {
        assert!(!bench.folder.path().join(name).exists(), "{name}");
    }
}

#[tokio::test]
async fn faults_of_the_configuration_are_each_a_finding() {
    let bench = Bench::start().await;
    bench.edit("client-id = \"doorward\"\n", "");
    bench.edit("[records]\n", "[records]\nspeed = 1\n");
    let found = bench.examine().await;
    assert_eq!(
        (of(&found, "config", "").len(), exit_code(&found)),
        (2, 2),
        "{found:#?}"
    );
    has(&found, "config", Verdict::Broken, "`client-id` is missing");
}

#[tokio::test]
async fn an_issuer_that_is_not_right_is_told() {
    let bench = Bench::start().await;
    let good = discovery(&bench.issuer);
    let with = |name: &str, value: Value| {
        let mut changed = good.clone();
        changed[name] = value;
        Answer::Text(changed.to_string())
    };
    for (answer, verdict, expected) in [
        (
            with("issuer", "https://other.example".into()),
            Verdict::Broken,
            "calls itself `https://other.example`",
        ),
        (
            with("jwks_uri", "http://10.0.0.1/keys".into()),
            Verdict::Broken,
            "which is not https",
        ),
        (
            with("token_endpoint", Value::Null),
            Verdict::Broken,
            "no place to log in",
        ),
        (
            with("code_challenge_methods_supported", json!(["plain"])),
            Verdict::Broken,
            "PKCE with S256",
        ),
        (
            with("device_authorization_endpoint", Value::Null),
            Verdict::Warning,
            "no device grant",
        ),
        (Answer::Status(503), Verdict::Broken, "answers 503"),
        (Answer::Redirect, Verdict::Broken, "answers 302"),
        (Answer::Text("<html>".into()), Verdict::Broken, "no discovery document"),
    ] {
        bench.issuer.discovery_answers(answer);
        has(&bench.examine().await, "issuer", verdict, expected);
    }
    bench.issuer.discovery_answers(Answer::Text(good.to_string()));
    asks_about_tokens(&bench).await;
    bench.issuer.publish(&[&Key::new("two", Algorithm::RS256)]);
    bench.edit("keys-cool-down", "algorithms = [\"ES256\"]\nkeys-cool-down");
    has(&bench.examine().await, "issuer-keys", Verdict::Broken, "does not allow");
    let mut encrypts = Key::new("three", Algorithm::ES256).public;
    encrypts["use"] = "enc".into();
    bench.issuer.publish_values(vec![encrypts]);
    has(
        &bench.examine().await,
        "issuer-keys",
        Verdict::Broken,
        "no key for signatures",
    );
    bench.issuer.keys_answer(Answer::Status(500));
    has(&bench.examine().await, "issuer", Verdict::Broken, "answers 500");
    bench.issuer.vanish();
    has(&bench.examine().await, "issuer", Verdict::Broken, "cannot be asked");
}

/// Introspection, where it is configured: asked about a token that nobody has.
async fn asks_about_tokens(bench: &Bench) {
    testing::private(&bench.folder.path().join("introspection"), "a-secret-of-the-client\n");
    let asked = "[oidc.introspection]\nclient-id = \"doorward-gateway\"\nclient-secret-file = \"introspection\"\n[authority.local]";
    bench.edit("[authority.local]", asked);
    let found = bench.examine().await;
    has(&found, "introspection", Verdict::Broken, "where to ask about tokens");
    let mut with = discovery(&bench.issuer);
    with["introspection_endpoint"] = format!("{}/introspect", bench.issuer.url).into();
    bench.issuer.discovery_answers(Answer::Text(with.to_string()));
    for (answer, verdict, expected) in [
        (
            Answer::Text(json!({ "active": false }).to_string()),
            Verdict::Ok,
            "is not good",
        ),
        (
            Answer::Text(json!({ "active": true }).to_string()),
            Verdict::Broken,
            "any token",
        ),
        (Answer::Status(401), Verdict::Broken, "answered 401"),
        (Answer::Text("{}".into()), Verdict::Broken, "does not say whether"),
    ] {
        bench.issuer.introspection_answers(answer);
        let found = bench.examine().await;
        has(&found, "introspection", verdict, expected);
        assert!(!format!("{found:?}").contains("a-secret-of-the-client"));
    }
}

#[tokio::test]
async fn a_name_that_leads_nowhere_is_told() {
    let bench = Bench::start().await;
    bench.edit(
        "address = \"127.0.0.1:1\"\nlogin = \"node\"\nowner",
        "address = \"nowhere.invalid:7001\"\nlogin = \"node\"\nowner",
    );
    let found = bench.examine().await;
    assert!(
        of(&found, "dns", "nowhere.invalid")
            .iter()
            .all(|one| one.verdict == Verdict::Broken),
        "{found:#?}"
    );
    assert_eq!(of(&found, "dns", "nowhere.invalid").len(), 1);
}

#[tokio::test]
async fn an_agent_that_is_not_right_is_told() {
    // Nobody listens there.
    let bench = Bench::start().await;
    has(&bench.examine().await, "agent", Verdict::Broken, "cannot connect");
    for (change, verdict, expected) in [
        (
            Box::new(|manner: &mut Manner| manner.workspace = "other\u{1b}".into()) as Box<dyn FnOnce(&mut Manner)>,
            Verdict::Broken,
            "another workspace answered",
        ),
        (Box::new(|manner| manner.version = 99), Verdict::Broken, "version 99"),
        (
            Box::new(|manner| {
                manner.certificate = Guarded::new(None);
                manner.token = Some("0123456789abcdef0123".into());
            }),
            Verdict::Warning,
            "asks to be enrolled",
        ),
        (
            Box::new(|manner| manner.certificate = Guarded::new(Some(vec![0; 32]))),
            Verdict::Broken,
            "host certificate is refused",
        ),
    ] {
        let bench = Bench::start().await;
        let _agent = bench.agent(change).await;
        let found = bench.examine().await;
        has(&found, "agent", verdict, expected);
        assert!(
            !format!("{found:?}").contains("0123456789abcdef0123"),
            "a join token was shown"
        );
    }
    // Another host CA than the one that signed for the agent.
    let bench = Bench::start().await;
    let _agent = bench.agent(|_| {}).await;
    fs::remove_file(bench.folder.path().join("host-ca")).unwrap();
    fs::remove_file(bench.folder.path().join("user-ca")).unwrap();
    Local::create_files(
        &bench.folder.path().join("user-ca"),
        &bench.folder.path().join("host-ca"),
    )
    .unwrap();
    has(
        &bench.examine().await,
        "agent",
        Verdict::Broken,
        "host certificate is refused",
    );
}

#[tokio::test]
async fn a_vault_that_is_not_right_is_told() {
    let vault = FakeVault::start().await;
    let (folder, file) = vault_folder(&vault.url, "http://127.0.0.1:1/realms/none", "");
    let look = async || examine(&file, &About::default()).await;

    // Nothing is set up.
    let found = look().await;
    has(&found, "vault", Verdict::Ok, "is active");
    has(&found, "vault-login", Verdict::Ok, "is let in");
    assert_eq!(of(&found, "vault-role", "").len(), 3);
    has(&found, "vault-role", Verdict::Broken, "is not there");
    has(&found, "ca-keys", Verdict::Broken, "");
    has(&found, "signing", Verdict::Broken, "");

    // Everything is.
    let token = folder.path().join("token");
    let words = ["doorward-gateway", "vault", "apply", "--yes", "--config"].map(Into::into);
    let more = [file.clone().into(), "--token-file".into(), token.clone().into()];
    let applied = crate::cli::Cli::parsed(words.into_iter().chain(more));
    let crate::cli::Command::Vault { command } = applied.command else {
        panic!("another command")
    };
    assert_eq!(crate::vault::run(&command, false).await.unwrap(), 0);
    let found = look().await;
    assert!(
        of(&found, "vault-role", "")
            .iter()
            .all(|one| one.verdict == Verdict::Ok),
        "{found:#?}"
    );
    has(&found, "ca-keys", Verdict::Ok, "SHA256:");
    has(&found, "signing", Verdict::Broken, "the fake signs nothing");

    // Roles that somebody changed.
    for (role, field, value, verdict, expected) in [
        (
            "ssh/roles/doorward-session",
            "allowed_users",
            json!("*"),
            Verdict::Warning,
            "lets anyone in as anyone",
        ),
        (
            "ssh/roles/doorward-session",
            "allowed_users",
            json!("root"),
            Verdict::Broken,
            "refuses the accounts node",
        ),
        (
            "ssh-host/roles/doorward-host",
            "allowed_domains",
            json!("devenv-0"),
            Verdict::Broken,
            "refuses the names devenv-0.doorward",
        ),
        (
            "ssh/roles/doorward-session",
            "allow_empty_principals",
            json!(true),
            Verdict::Warning,
            "without principals",
        ),
        (
            "ssh/roles/doorward-session",
            "allowed_critical_options",
            json!(""),
            Verdict::Warning,
            "any critical option",
        ),
        (
            "ssh/roles/doorward-session",
            "max_ttl",
            json!(10),
            Verdict::Broken,
            "allows 10 s",
        ),
        (
            "ssh/roles/doorward-session",
            "allow_host_certificates",
            json!(true),
            Verdict::Warning,
            "passes for a workspace",
        ),
        (
            "ssh/roles/doorward-link",
            "max_ttl",
            json!(0),
            Verdict::Warning,
            "32 days",
        ),
        (
            "ssh-host/roles/doorward-host",
            "allowed_extensions",
            json!(""),
            Verdict::Broken,
            "workspace@doorward",
        ),
    ] {
        let before = vault.state.held.with(|held| held[role][field].clone());
        vault.change(role, field, value);
        has(&look().await, "vault-role", verdict, expected);
        vault.change(role, field, before);
    }

    // A token that is not let in, then Vault's own troubles.
    testing::private(&token, "another-token\n");
    let found = look().await;
    has(&found, "vault-login", Verdict::Broken, "permission denied");
    assert!(!format!("{found:?}").contains("another-token"));
    testing::private(&token, ROOT);
    for (status, verdict, expected) in [
        (503, Verdict::Broken, "is sealed"),
        (501, Verdict::Broken, "is not initialised"),
        (429, Verdict::Ok, "a standby"),
        (0, Verdict::Broken, "is not Vault"),
    ] {
        vault.state.health.with(|health| *health = Some(status));
        has(&look().await, "vault", verdict, expected);
    }
    drop(vault);
    has(&look().await, "vault", Verdict::Broken, "cannot be asked");
}

#[tokio::test]
async fn nobody_to_sign_for_is_no_fault() {
    let bench = Bench::start().await;
    let text = fs::read_to_string(&bench.file).unwrap();
    let at = text.find("[[workspace]]").unwrap();
    fs::write(&bench.file, &text[..at]).unwrap();
    let found = bench.examine().await;
    has(&found, "signing", Verdict::Ok, "there is no workspace");
    assert!(of(&found, "agent", "").is_empty());
    // An odd policy is told by the role's name.
    fs::write(
        bench.folder.path().join("policy.toml"),
        "[[role]]\nname = \"all\"\ngroups = [\"everyone\"]\nworkspaces = [\"*\"]\nallow = [\"shell\"]\n",
    )
    .unwrap();
    has(
        &bench.examine().await,
        "policy",
        Verdict::Warning,
        "lets all of them in",
    );
}
