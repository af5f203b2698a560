//! A real Vault as the gateway sees it: each way to log in, a CA file that changes, clocks that differ.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};
use doorward_certs::Authority;
use doorward_certs::vault::setup::GatewayLogin;
use doorward_certs::vault::{Login, Settings, Vault as Signer};
use doorward_dev::issuer::{self, Issuer};
use doorward_dev::parts::Vault;
use doorward_dev::parts::vault::Storage;
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::parts::{Had, Place, name_of, own_vault};
use tests::reviewer::Reviewer;
use tests::signing::{code, set_up, settings, sign_at};
use tests::until;

const PLACE: Place = Place {
    program: env!("CARGO_BIN_EXE_doorward-all"),
    tmp: env!("CARGO_TARGET_TMPDIR"),
    file: "vault_logins",
};
const ROLE: &str = "doorward-gateway";

/// A Vault of the test's own, and a folder for what a gateway logs in with.
struct Bench {
    vault: Vault,
    folder: TempDir,
}

impl Bench {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        Ok(fs::write(self.path(name), text)?)
    }

    fn token_file(&self) -> Result<Settings> {
        let token_file = self.path("token");
        settings(&self.vault, Login::TokenFile { token_file })
    }

    /// A Vault token with the gateway's policy and nothing else.
    async fn vault_token(&self) -> Result<String> {
        let ask = json!({"policies": [ROLE], "no_default_policy": true, "ttl": "1h"});
        let made = self.vault.root().write("auth/token/create", &ask).await?;
        Ok(made["auth"]["client_token"].as_str().context("a token")?.to_owned())
    }

    /// A gateway that logs in with a token from a file, and the token.
    async fn ready(&self) -> Result<String> {
        let policy = GatewayLogin::TokenFile { policy: ROLE.into() };
        set_up(&self.vault, &self.token_file()?, policy).await?;
        let token = self.vault_token().await?;
        self.write("token", &token)?;
        Ok(token)
    }
}

fn on<F: Future<Output = Result<()>>>(test: impl FnOnce(Bench) -> F) -> Result<()> {
    let name = name_of(&test);
    tokio::runtime::Runtime::new()?.block_on(async {
        let Had::Here(vault) = own_vault(PLACE, name, Storage::File).await? else {
            return Ok(());
        };
        let folder = tempfile::tempdir()?;
        test(Bench { vault, folder }).await
    })
}

fn authority(settings: Settings) -> Result<Authority> {
    Ok(Authority::Vault(Signer::new(settings)?))
}

async fn signs(settings: &Settings, expected: &str) -> Result<()> {
    // A new one each time: what was logged in before plays no part.
    let found = code(&authority(settings.clone())?).await;
    let why = sign_at(&authority(settings.clone())?, SystemTime::now()).await;
    ensure!(found == expected, "{found}, and not {expected}: {why:?}");
    Ok(())
}

#[test]
fn the_pods_service_account_logs_in_and_no_other() -> Result<()> {
    on(async |bench| {
        let reviewer = Reviewer::start().await?;
        let root = bench.vault.root();
        // Vault in a pod finds the CA of its cluster by itself; what is configured already, the set-up leaves alone.
        root.write("sys/auth/kubernetes", &json!({"type": "kubernetes"}))
            .await?;
        let cluster = json!({"kubernetes_host": reviewer.url(), "kubernetes_ca_cert": reviewer.ca()});
        root.write("auth/kubernetes/config", &cluster).await?;
        let login = Login::Kubernetes {
            mount: "kubernetes".into(),
            role: ROLE.into(),
            jwt_file: bench.path("jwt"),
        };
        let settings = settings(&bench.vault, login)?;
        let role = GatewayLogin::Kubernetes {
            mount: "kubernetes".into(),
            role: ROLE.into(),
            service_account: ROLE.into(),
            namespace: "doorward".into(),
            api_server: "https://kubernetes.default.svc".into(),
        };
        set_up(&bench.vault, &settings, role).await?;
        let token = reviewer.token(ROLE)?;
        bench.write("jwt", &token)?;
        signs(&settings, "signed").await?;
        bench.write("jwt", &reviewer.token("another")?)?;
        signs(&settings, "vault-login-refused").await?;
        reviewer.end(&token);
        bench.write("jwt", &token)?;
        signs(&settings, "vault-login-refused").await?;
        // The kubelet replaces the file while we run.
        bench.write("jwt", &reviewer.token(ROLE)?)?;
        signs(&settings, "signed").await
    })
}

#[test]
fn a_jwt_of_an_issuer_logs_in_where_it_names_the_gateway() -> Result<()> {
    on(async |bench| {
        let issuer = Issuer::start(issuer::Settings::default()).await?;
        let login = Login::Jwt {
            mount: "jwt".into(),
            role: ROLE.into(),
            jwt_file: bench.path("jwt"),
        };
        let settings = settings(&bench.vault, login)?;
        let subject = issuer.access_claims("bob")?["sub"]
            .as_str()
            .context("a sub")?
            .to_owned();
        let role = GatewayLogin::Jwt {
            mount: "jwt".into(),
            role: ROLE.into(),
            issuer: issuer.url().to_owned(),
            subject,
            audience: "doorward-gateway".into(),
        };
        set_up(&bench.vault, &settings, role).await?;
        bench.write("jwt", &issuer.access_token("bob")?)?;
        signs(&settings, "signed").await?;
        bench.write("jwt", &issuer.access_token("alice")?)?;
        signs(&settings, "vault-login-refused").await?;
        let mut claims = issuer.access_claims("bob")?;
        claims["aud"] = Value::from("another");
        let header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::ES256);
        bench.write("jwt", &issuer.sign(&header, &claims)?)?;
        signs(&settings, "vault-login-refused").await
    })
}

#[test]
fn a_token_file_that_is_replaced_is_read_again() -> Result<()> {
    on(async |bench| {
        let token = bench.ready().await?;
        let signer = Signer::new(bench.token_file()?)?;
        signer.look().await?;
        bench.write("token", &bench.vault_token().await?)?;
        // The one before is good no more: what signs from here on was read again.
        let ended = json!({ "token": token });
        bench.vault.root().write("auth/token/revoke", &ended).await?;
        signer.look().await?;
        let found = code(&Authority::Vault(signer)).await;
        ensure!(found == "signed", "{found}");
        bench.write("token", &token)?;
        signs(&bench.token_file()?, "vault-login-refused").await
    })
}

#[test]
fn a_ca_file_that_is_replaced_is_believed_as_it_is_now() -> Result<()> {
    on(async |bench| {
        bench.ready().await?;
        let right = fs::read_to_string(bench.vault.ca_file())?;
        let other = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?
            .cert
            .pem();
        bench.write("ca.pem", &other)?;
        let signer = Signer::new(Settings {
            ca: Some(bench.path("ca.pem")),
            ..bench.token_file()?
        })?;
        let looked = signer.look().await.err().context("a stranger's CA vouches for it")?;
        ensure!(looked.code() == "vault-tls", "{looked:?}");
        bench.write("ca.pem", &right)?;
        // A login that failed a moment ago is not tried again at once.
        until("the right CA is believed", async || Ok(signer.look().await.ok())).await?;
        // What is no certificate changes nothing, and is told in the log.
        for broken in ["", "-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n"] {
            bench.write("ca.pem", broken)?;
            signer.look().await.with_context(|| format!("after `{broken}`"))?;
        }
        fs::remove_file(bench.path("ca.pem"))?;
        signer.look().await.context("without the file")?;
        // One that does not vouch for it any more is heeded as well, on connections that stand.
        bench.write("ca.pem", &other)?;
        ensure!(signer.look().await.is_err(), "the old CA is still believed");
        bench.write("ca.pem", &right)?;
        until("the right CA is believed again", async || Ok(signer.look().await.ok())).await?;
        let found = code(&Authority::Vault(signer)).await;
        ensure!(found == "signed", "{found}");
        Ok(())
    })
}

#[test]
fn clocks_ten_minutes_apart_are_told_and_a_few_seconds_are_not() -> Result<()> {
    on(async |bench| {
        bench.ready().await?;
        let signer = authority(bench.token_file()?)?;
        let now = SystemTime::now();
        for off in [Duration::from_secs(5), Duration::from_secs(600)] {
            for clock in [now + off, now - off] {
                let signed = sign_at(&signer, clock).await;
                if off.as_secs() < 60 {
                    signed?;
                    continue;
                }
                let error = signed.err().context("signed by clocks that are 10 minutes apart")?;
                let mut said = error.to_string();
                let mut cause = std::error::Error::source(&error);
                while let Some(next) = cause {
                    said.push_str(&next.to_string());
                    cause = next.source();
                }
                ensure!(said.contains("clock skew"), "{said}");
            }
        }
        Ok(())
    })
}
