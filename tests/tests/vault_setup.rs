//! `doorward-gateway vault` and `doctor` on a real Vault: what is set up works, and lets through nothing else.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Output, Stdio};

use anyhow::{Context as _, Result, ensure};
use doorward_certs::{HostKey, key};
use doorward_dev::issuer::{self, Issuer};
use doorward_dev::parts::Vault;
use doorward_dev::parts::vault::{Api, Storage};
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::parts::{Had, Place, own_vault};
use tokio::process::Command;

const PLACE: Place = Place {
    program: env!("CARGO_BIN_EXE_doorward-all"),
    tmp: env!("CARGO_TARGET_TMPDIR"),
    file: "vault_setup",
};

/// A gateway's folder, with a Vault for an authority and an issuer that answers.
struct Bench {
    vault: Vault,
    issuer: Issuer,
    folder: TempDir,
}

impl Bench {
    async fn start(test: &str) -> Result<Option<Self>> {
        let Had::Here(vault) = own_vault(PLACE, test, Storage::File).await? else {
            return Ok(None);
        };
        let issuer = Issuer::start(issuer::Settings::default()).await?;
        let folder = tempfile::tempdir()?;
        let bench = Self { vault, issuer, folder };
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
        fs::write(bench.path("tls.crt"), made.cert.pem())?;
        bench.private("tls.key", &made.signing_key.serialize_pem())?;
        bench.private("admin-token", bench.vault.root().token().context("a token")?)?;
        for name in ["role-id", "secret-id"] {
            bench.private(name, "")?;
        }
        let policy =
            "[[role]]\nname = \"developer\"\ngroups = [\"developers\"]\nworkspaces = [\"*\"]\nallow = [\"shell\"]\n";
        fs::write(bench.path("policy.toml"), policy)?;
        key::load_or_create(&bench.path("gateway.key"))?;
        bench.configure("gateway")?;
        Ok(Some(bench))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn private(&self, name: &str, text: &str) -> Result<()> {
        fs::write(self.path(name), text)?;
        Ok(fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o600))?)
    }

    fn configure(&self, sign_as: &str) -> Result<()> {
        let (vault, ca, issuer) = (self.vault.url(), self.vault.ca_file().display(), self.issuer.url());
        let text = format!(
            r#"state-directory = "state"
[listen]
address = "127.0.0.1:0"
certificate = "tls.crt"
key = "tls.key"
[oidc]
issuer = "{issuer}"
client-id = "doorward"
audience = "doorward-gateway"
[authority.vault]
address = "{vault}"
ca = "{ca}"
sign-as = "{sign_as}"
[authority.vault.login]
method = "approle"
role-id-file = "role-id"
secret-id-file = "secret-id"
[link]
key = "gateway.key"
[records]
directory = "records"
[policy]
file = "policy.toml"
[[workspace]]
name = "devenv-0"
uid = "uid-0"
address = "127.0.0.1:1"
login = "node"
"#
        );
        Ok(fs::write(self.path("gateway.toml"), text)?)
    }

    async fn run(&self, words: &[&str]) -> Result<Output> {
        let config = self.path("gateway.toml");
        let mut command = Command::new(PLACE.program);
        command.arg("gateway").args(words).arg("--config").arg(config);
        if words[0] == "vault" {
            command.arg("--token-file").arg(self.path("admin-token"));
        }
        // There is nobody to ask.
        command.stdin(Stdio::null());
        // What the environment says of Vault changes nothing.
        command
            .env("VAULT_ADDR", "https://127.0.0.1:1")
            .env("VAULT_TOKEN", "another");
        Ok(command.output().await?)
    }

    /// Runs, and holds the exit code against what is due.
    async fn ends(&self, words: &[&str], code: i32) -> Result<String> {
        let output = self.run(words).await?;
        let said = format!(
            "{}{}",
            String::from_utf8(output.stdout)?,
            String::from_utf8(output.stderr)?
        );
        ensure!(
            output.status.code() == Some(code),
            "{words:?}: {} {said}",
            output.status
        );
        let token = self.vault.root().token().context("a token")?;
        ensure!(!said.contains(token), "the administrator's token was shown");
        Ok(said)
    }

    /// Fills the files of the gateway's login, and logs in as it.
    async fn gateway(&self) -> Result<Api> {
        let root = self.vault.root();
        let role = "auth/approle/role/doorward-gateway";
        let id = root.read(&format!("{role}/role-id")).await?["data"]["role_id"].clone();
        let secret = root.write(&format!("{role}/secret-id"), &json!({})).await?["data"]["secret_id"].clone();
        self.private("role-id", id.as_str().context("an id")?)?;
        self.private("secret-id", secret.as_str().context("a secret")?)?;
        let login = json!({ "role_id": id, "secret_id": secret });
        let answer = root.write("auth/approle/login", &login).await?;
        Ok(root.with_token(answer["auth"]["client_token"].as_str().context("a token")?))
    }

    async fn doctor(&self) -> Result<Vec<Value>> {
        let output = self.run(&["doctor", "--json"]).await?;
        Ok(serde_json::from_slice(&output.stdout)?)
    }
}

fn of<'a>(findings: &'a [Value], check: &str) -> Vec<&'a Value> {
    findings.iter().filter(|one| one["check"] == check).collect()
}

fn all_well(findings: &[Value], checks: &[&str]) -> Result<()> {
    for check in checks {
        let found = of(findings, check);
        ensure!(
            !found.is_empty() && found.iter().all(|one| one["verdict"] == "ok"),
            "{check}: {found:#?}"
        );
    }
    Ok(())
}

fn subject() -> Result<String> {
    Ok(HostKey::generate()?.public_key().to_openssh()?)
}

/// What a gateway asks for, changed as told; a null takes a parameter away.
fn request(change: &Value) -> Result<Value> {
    let mut ask = json!({
        "public_key": subject()?, "cert_type": "user", "valid_principals": "node", "key_id": "user=bob session=x", "ttl": "60s",
        "extensions": { "shell@doorward": "" }, "critical_options": {},
    });
    let object = ask.as_object_mut().context("an object")?;
    for (name, value) in change.as_object().context("an object")? {
        object.insert(name.clone(), value.clone());
    }
    object.retain(|_, value| !value.is_null());
    Ok(ask)
}

async fn refuses(api: &Api, path: &str, change: Value) -> Result<()> {
    let answered = api.write(path, &request(&change)?).await;
    ensure!(answered.is_err(), "{path} signed {change}: {answered:?}");
    Ok(())
}

#[tokio::test]
async fn vault_is_set_up_once_and_signs_what_it_has_to_and_nothing_else() -> Result<()> {
    let test = "vault_is_set_up_once_and_signs_what_it_has_to_and_nothing_else";
    let Some(bench) = Bench::start(test).await? else {
        return Ok(());
    };
    let planned = bench.ends(&["vault", "plan"], 2).await?;
    ensure!(planned.contains("+ ssh/roles/doorward-session"), "{planned}");
    bench.ends(&["vault", "apply"], 3).await?;
    bench.ends(&["vault", "apply", "--yes"], 0).await?;
    let planned = bench.ends(&["vault", "plan"], 0).await?;
    ensure!(planned.contains("nothing to do"), "{planned}");
    let again = bench.ends(&["vault", "apply", "--yes"], 0).await?;
    ensure!(again.contains("nothing to do"), "{again}");

    let gateway = bench.gateway().await?;
    let (session, link) = ("ssh/sign/doorward-session", "ssh/sign/doorward-link");
    gateway.write(session, &request(&json!({}))?).await?;
    let own = json!({ "valid_principals": "doorward-gateway", "extensions": {} });
    gateway.write(link, &request(&own)?).await?;
    let host = json!({ "valid_principals": "devenv-0,devenv-0.doorward", "cert_type": "host", "extensions": { "workspace@doorward": "uid-0" } });
    gateway.write("ssh-host/sign/doorward-host", &request(&host)?).await?;
    for change in [
        json!({ "valid_principals": null }),
        json!({ "valid_principals": "" }),
        json!({ "valid_principals": "," }),
        json!({ "valid_principals": "*" }),
        json!({ "valid_principals": "root" }),
        json!({ "valid_principals": "node,root" }),
        json!({ "valid_principals": "doorward-gateway" }),
        json!({ "cert_type": "host" }),
        json!({ "cert_type": null }),
        json!({ "ttl": "3600s" }),
        json!({ "ttl": null }),
        json!({ "key_id": null }),
        json!({ "extensions": { "permit-user-rc": "" } }),
        json!({ "critical_options": { "force-command": "sh" } }),
        json!({ "public_key": "ecdsa-sha2-nistp256 AAAA" }),
    ] {
        refuses(&gateway, session, change).await?;
    }
    refuses(&gateway, link, json!({})).await?;
    refuses(&gateway, "ssh-host/sign/doorward-host", json!({})).await?;
    let elsewhere = json!({ "valid_principals": "elsewhere", "cert_type": "host", "extensions": {} });
    refuses(&gateway, "ssh-host/sign/doorward-host", elsewhere).await?;
    for path in [
        "sys/mounts",
        "sys/policies/acl/doorward-gateway",
        "ssh/roles/another",
        "auth/approle/role/doorward-gateway",
    ] {
        ensure!(gateway.read(path).await.is_err(), "the gateway may read {path}");
    }

    // Key id and principals stand in the audit log as they are, so that a session can be found by them.
    let signings = bench.vault.audit()?;
    let plain = |entry: &Value| {
        entry["type"] == "response"
            && entry["request"]["data"]["key_id"] == "user=bob session=x"
            && entry["request"]["data"]["valid_principals"] == "node"
            && entry["response"]["data"]["serial_number"]
                .as_str()
                .is_some_and(|serial| !serial.starts_with("hmac-"))
    };
    ensure!(signings.iter().any(plain), "no signing in plain text");

    let found = bench.doctor().await?;
    all_well(
        &found,
        &["vault", "vault-login", "vault-role", "ca-keys", "signing", "clock"],
    )?;
    let trials = bench.vault.audit()?;
    ensure!(
        trials.iter().any(|entry| entry["request"]["data"]["key_id"]
            .as_str()
            .is_some_and(|id| id.starts_with("user=doorward-doctor-trial-nobody "))),
        "the doctor's trial is not in the audit log"
    );
    Ok(())
}

#[tokio::test]
async fn what_somebody_widened_is_told_and_narrowed_again() -> Result<()> {
    let Some(bench) = Bench::start("what_somebody_widened_is_told_and_narrowed_again").await? else {
        return Ok(());
    };
    let root = bench.vault.root();
    root.write(
        "sys/mounts/ssh",
        &json!({ "type": "ssh", "description": "was here before" }),
    )
    .await?;
    root.write(
        "ssh/config/ca",
        &json!({ "generate_signing_key": true, "key_type": "ed25519" }),
    )
    .await?;
    let key = root.read("ssh/config/ca").await?["data"]["public_key"].clone();
    bench.ends(&["vault", "apply", "--yes"], 0).await?;
    ensure!(
        root.read("ssh/config/ca").await?["data"]["public_key"] == key,
        "the CA's key was changed"
    );
    bench.gateway().await?;

    let role = json!({
        "key_type": "ca", "allow_user_certificates": true, "allow_host_certificates": true, "allowed_users": "*",
        "allow_user_key_ids": true, "allowed_extensions": "*", "ttl": 0,
    });
    root.write("ssh/roles/doorward-session", &role).await?;
    let found = bench.doctor().await?;
    let told: Vec<_> = of(&found, "vault-role")
        .into_iter()
        .filter(|one| one["verdict"] == "warning")
        .collect();
    for expected in [
        "lets anyone in",
        "passes for a workspace",
        "any extension",
        "any critical option",
        "32 days",
    ] {
        let found = told
            .iter()
            .any(|one| one["text"].as_str().is_some_and(|text| text.contains(expected)));
        ensure!(found, "{expected}: {told:#?}");
    }
    let planned = bench.ends(&["vault", "plan"], 2).await?;
    ensure!(planned.contains("allowed_users: \"*\" → \"node\""), "{planned}");
    bench.ends(&["vault", "apply", "--yes"], 0).await?;
    all_well(&bench.doctor().await?, &["vault-role", "signing"])?;

    bench.vault.seal().await?;
    let found = bench.doctor().await?;
    let sealed = of(&found, "vault");
    ensure!(
        sealed
            .iter()
            .any(|one| one["verdict"] == "broken" && one["text"] == "is sealed"),
        "{sealed:#?}"
    );
    Ok(())
}

#[tokio::test]
async fn people_sign_for_themselves_and_nobody_else() -> Result<()> {
    let Some(bench) = Bench::start("people_sign_for_themselves_and_nobody_else").await? else {
        return Ok(());
    };
    bench.configure("user")?;
    bench.ends(&["vault", "apply", "--yes"], 0).await?;
    bench.ends(&["vault", "plan"], 0).await?;
    let gateway = bench.gateway().await?;
    let session = "ssh/sign/doorward-session";
    refuses(&gateway, session, json!({})).await?;

    let root = bench.vault.root();
    let login = json!({ "role": "doorward-user", "jwt": bench.issuer.access_token("bob")? });
    let answer = root.write("auth/jwt/login", &login).await?;
    let bob = root.with_token(answer["auth"]["client_token"].as_str().context("a token")?);
    for own in ["bob", "node"] {
        bob.write(session, &request(&json!({ "valid_principals": own }))?)
            .await?;
    }
    for other in [
        json!("alice"),
        json!("bob,alice"),
        json!(""),
        json!(","),
        json!(null),
        json!("doorward-gateway"),
    ] {
        refuses(&bob, session, json!({ "valid_principals": other })).await?;
    }
    refuses(
        &bob,
        "ssh/sign/doorward-link",
        json!({ "valid_principals": "doorward-gateway", "extensions": {} }),
    )
    .await?;
    ensure!(
        bob.read("ssh/roles/doorward-session").await.is_err(),
        "a person may read roles"
    );
    all_well(&bench.doctor().await?, &["vault-login", "vault-role", "ca-keys"])
}
