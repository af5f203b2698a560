//! What Vault lets a pod have, and what not, by either method: a hostile pod has its own token, and asks for more.

use std::fs;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use doorward_certs::vault::setup::{Admin, AgentLogin, GatewayLogin, Names, Needs, steps};
use doorward_certs::vault::{HostSettings, HostSigner, PodLogin, Transport};
use doorward_certs::{CaKeys, HostKey, HostRequest, Secret, WorkspaceName, WorkspaceUid, wildcard_name};
use doorward_dev::parts::kube::TokenRequest;
use doorward_dev::parts::vault::{Api, Storage};
use doorward_dev::parts::{Cluster, KUBERNETES, VAULT, Vault};
use serde_json::{Value, json};
use tests::parts::{Had, can_be_had, fresh, name_of, own_vault, shared_cluster};
use tests::signing::{needs, settings};
use tests::until;

use super::super::PLACE;
use super::{answer, know_pods};

#[tokio::test]
async fn a_pods_token_gets_a_certificate_for_its_own_name_and_uid_alone() -> Result<()> {
    let name = name_of(&|| ());
    if !can_be_had(&[&KUBERNETES, &VAULT], PLACE, name).await? {
        return Ok(());
    }
    let (Had::Here(cluster), Had::Here(vault)) = (
        shared_cluster(PLACE, name).await?,
        own_vault(PLACE, name, Storage::File).await?,
    ) else {
        return Ok(());
    };
    let (own, other) = (
        Pod::make(cluster, "at-vault", "box-0", "default").await?,
        Pod::make(cluster, "at-vault", "box-1", "default").await?,
    );
    let foreign = Pod::make(cluster, "not-at-vault", "box-0", "default").await?;
    know_pods(cluster, &vault).await?;
    set_up(&vault, PodLogin::Jwt, "doorward-agents", None).await?;
    let token = own.token(cluster, Some("vault")).await?;
    let signer = |token: &str| signer(&vault, PodLogin::Jwt, "doorward-agents", token);

    // By the agent's own code: the answer is held against what was asked.
    let certificate = sign(&signer(&token)?, &vault, "box-0", &own.uid).await?;
    ensure!(certificate.contains(&own.uid), "{certificate}");
    // A lie about the UID comes back as the truth, and is not taken.
    let lie = sign(&signer(&token)?, &vault, "box-0", &other.uid).await;
    ensure!(code(&lie) == "answer-extensions", "{lie:?}");
    let name = sign(&signer(&token)?, &vault, "box-1", &own.uid).await;
    ensure!(code(&name) == "vault-role-refuses", "{name:?}");

    // Nor is Vault believed as to whom to trust: another CA's signature counts for nothing.
    let elsewhere = CaKeys::new([HostKey::generate()?.public_key().clone()])?;
    let untrusted = sign_for(&signer(&token)?, &elsewhere, "box-0", &own.uid).await;
    ensure!(code(&untrusted) == "certificate-untrusted-authority", "{untrusted:?}");

    // And by whatever else the pod may send.
    let pod = log_in(&vault, "doorward-agents", &token).await?;
    for (change, why) in [
        (json!({"valid_principals": "box-1"}), "another's name"),
        (json!({"valid_principals": "box-0,box-1"}), "another's name as well"),
        (json!({"valid_principals": "box-1.doorward"}), "another's second name"),
        (json!({"valid_principals": "x.box-0"}), "a name below its own"),
        (json!({"valid_principals": "*"}), "every name"),
        (json!({"valid_principals": ""}), "no name"),
        (
            json!({"extensions": {"workspace@doorward": other.uid}}),
            "another's UID",
        ),
        (json!({"cert_type": "user"}), "a user certificate"),
        (json!({"critical_options": {"force-command": "x"}}), "an option"),
        (json!({"ttl": "9000h"}), "for ever"),
    ] {
        let mut request = json!({
            "public_key": HostKey::generate()?.public_key().to_openssh()?, "cert_type": "host", "key_id": "mine",
            "ttl": "60s", "valid_principals": "box-0",
        });
        request
            .as_object_mut()
            .context("no object")?
            .extend(change.as_object().context("no object")?.clone());
        let (status, said) = answer(pod.write("ssh-host/sign/doorward-host", &request).await)?;
        ensure!(matches!(status, 400 | 403), "{why}: {status} {said}");
    }
    for path in [
        "ssh/sign/doorward-session",
        "ssh/sign/doorward-link",
        "ssh-host/issue/doorward-host",
        "auth/token/create",
    ] {
        let (status, said) = answer(pod.write(path, &json!({})).await)?;
        ensure!(status == 403, "{path}: {status} {said}");
    }

    // A token that outlives its one use, where somebody has set that up, is given back.
    let role = "auth/doorward-agents/role/doorward-agent";
    let usual = vault.root().read(role).await?["data"].clone();
    let mut stays = usual.clone();
    stays["token_type"] = json!("service");
    stays["token_no_default_policy"] = json!(false);
    vault.root().write(role, &stays).await?;
    sign(&signer(&token)?, &vault, "box-0", &own.uid).await?;
    let revoked = |entry: &Value| entry["type"] == "response" && entry["request"]["path"] == "auth/token/revoke-self";
    ensure!(
        vault
            .audit()?
            .iter()
            .any(|entry| revoked(entry) && entry["error"].is_null()),
        "it was not given back"
    );
    vault.root().write(role, &usual).await?;

    // Who may log in at all.
    let unbound = TokenRequest {
        pod: None,
        ..own.wanted(Some("vault"))
    };
    for (token, why) in [
        (
            own.token(cluster, Some("doorward")).await?,
            "the token that a gateway sees",
        ),
        (own.token(cluster, None).await?, "the token for the API server"),
        (cluster.token(unbound).await?, "a token that is bound to no pod"),
        (
            foreign.token(cluster, Some("vault")).await?,
            "a pod of another namespace",
        ),
    ] {
        let refused = sign(&signer(&token)?, &vault, "box-0", &own.uid).await;
        ensure!(code(&refused) == "vault-login-refused", "{why}: {refused:?}");
    }
    Ok(())
}

#[tokio::test]
async fn with_the_kubernetes_method_a_service_account_is_a_workspace() -> Result<()> {
    let name = name_of(&|| ());
    if !can_be_had(&[&KUBERNETES, &VAULT], PLACE, name).await? {
        return Ok(());
    }
    let (Had::Here(cluster), Had::Here(vault)) = (
        shared_cluster(PLACE, name).await?,
        own_vault(PLACE, name, Storage::File).await?,
    ) else {
        return Ok(());
    };
    let own = Pod::make(cluster, "at-vault-too", "box-0", "box-0").await?;
    let foreign = Pod::make(cluster, "not-at-vault-too", "box-0", "box-0").await?;
    ask_the_cluster(cluster, &vault).await?;
    set_up(&vault, PodLogin::Kubernetes, "pods", None).await?;
    let signer = |token: &str| signer(&vault, PodLogin::Kubernetes, "pods", token);
    let token = own.token(cluster, Some("vault")).await?;
    let certificate = sign(&signer(&token)?, &vault, "box-0", &own.uid).await?;
    ensure!(certificate.contains(&own.uid), "{certificate}");
    let name = sign(&signer(&token)?, &vault, "box-1", &own.uid).await;
    ensure!(code(&name) == "vault-role-refuses", "{name:?}");
    // What this method does not know: which pod of that account it is. So there must be one.
    let elsewhere = Pod::make(cluster, "at-vault-too", "stranger", "box-0").await?;
    let same = elsewhere.token(cluster, Some("vault")).await?;
    ensure!(sign(&signer(&same)?, &vault, "box-0", &elsewhere.uid).await.is_ok());

    for (token, why) in [
        (
            own.token(cluster, Some("doorward")).await?,
            "the token that a gateway sees",
        ),
        (
            foreign.token(cluster, Some("vault")).await?,
            "the account of that name in another namespace",
        ),
    ] {
        let refused = sign(&signer(&token)?, &vault, "box-0", &own.uid).await;
        ensure!(code(&refused) == "vault-login-refused", "{why}: {refused:?}");
    }
    // The API server forgets what it has confirmed after ten seconds.
    let path = "/api/v1/namespaces/at-vault-too/pods/box-0";
    cluster
        .admin()
        .delete_with(path, &json!({"gracePeriodSeconds": 0}))
        .await?;
    until("the deleted pod's token is refused", async || {
        let ended = sign(&signer(&token)?, &vault, "box-0", &own.uid).await;
        Ok((code(&ended) == "vault-login-refused").then_some(()))
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn vault_reads_whom_to_believe_from_the_cluster_itself() -> Result<()> {
    let name = name_of(&|| ());
    if !can_be_had(&[&KUBERNETES, &VAULT], PLACE, name).await? {
        return Ok(());
    }
    let (Had::Here(cluster), Had::Here(vault)) = (
        shared_cluster(PLACE, name).await?,
        own_vault(PLACE, name, Storage::File).await?,
    ) else {
        return Ok(());
    };
    let own = Pod::make(cluster, "at-vault-three", "box-0", "default").await?;
    // Until its admins say that anybody may read the keys, Vault cannot, and nothing is half done in silence.
    let refused = set_up(&vault, PodLogin::Jwt, "doorward-agents", Some(cluster)).await;
    ensure!(refused.is_err(), "Vault read what nobody may read");
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "keys-of-tokens"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole",
            "name": "system:service-account-issuer-discovery"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:unauthenticated"}],
    });
    cluster.admin().apply(&binding).await?;
    // The authoriser learns of a new binding by its own watch.
    until("Vault is set up", async || {
        Ok(set_up(&vault, PodLogin::Jwt, "doorward-agents", Some(cluster))
            .await
            .ok())
    })
    .await?;
    let config = vault.root().read("auth/doorward-agents/config").await?["data"].clone();
    ensure!(config["oidc_discovery_url"] == cluster.issuer(), "{config}");
    ensure!(config["jwt_validation_pubkeys"] == json!([]), "{config}");
    let signer = |token: &str| signer(&vault, PodLogin::Jwt, "doorward-agents", token);
    let token = own.token(cluster, Some("vault")).await?;
    let certificate = sign(&signer(&token)?, &vault, "box-0", &own.uid).await?;
    ensure!(certificate.contains(&own.uid), "{certificate}");
    // By another key, and of another issuer.
    let (signed, _) = token.rsplit_once('.').context("no JWT")?;
    let other = own.token(cluster, Some("doorward")).await?;
    let (_, signature) = other.rsplit_once('.').context("no JWT")?;
    let forged = sign(&signer(&format!("{signed}.{signature}"))?, &vault, "box-0", &own.uid).await;
    ensure!(code(&forged) == "vault-login-refused", "{forged:?}");
    Ok(())
}

/// A pod that nobody runs: all that matters of it is its name, its UID and its account.
struct Pod {
    namespace: &'static str,
    name: &'static str,
    account: &'static str,
    uid: String,
}

impl Pod {
    async fn make(
        cluster: &Cluster,
        namespace: &'static str,
        name: &'static str,
        account: &'static str,
    ) -> Result<Self> {
        cluster.namespace(namespace).await?;
        let admin = cluster.admin();
        if account != "default" {
            let object = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": account, "namespace": namespace}});
            admin.apply(&object).await?;
        }
        let object = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
            "spec": {"serviceAccountName": account, "containers": [{"name": "main", "image": "example.test/box:1"}]},
        });
        let made = admin
            .create(&format!("/api/v1/namespaces/{namespace}/pods"), &object)
            .await?;
        let uid = made["metadata"]["uid"].as_str().context("no uid")?.to_owned();
        Ok(Self {
            namespace,
            name,
            account,
            uid,
        })
    }

    fn wanted<'a>(&'a self, audience: Option<&'a str>) -> TokenRequest<'a> {
        TokenRequest {
            namespace: self.namespace,
            account: self.account,
            audience,
            pod: Some((self.name, &self.uid)),
            seconds: 600,
        }
    }

    async fn token(&self, cluster: &Cluster, audience: Option<&str>) -> Result<String> {
        Ok(cluster.token(self.wanted(audience)).await?)
    }
}

/// Makes Vault's Kubernetes method ask the cluster, as an account that may have tokens reviewed.
async fn ask_the_cluster(cluster: &Cluster, vault: &Vault) -> Result<()> {
    let (admin, root) = (cluster.admin(), vault.root());
    let object = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "vault", "namespace": "at-vault-too"}});
    admin.apply(&object).await?;
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "vault-reviews"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:auth-delegator"},
        "subjects": [{"kind": "ServiceAccount", "name": "vault", "namespace": "at-vault-too"}],
    });
    admin.apply(&binding).await?;
    let wanted = TokenRequest {
        namespace: "at-vault-too",
        account: "vault",
        audience: None,
        pod: None,
        seconds: 3600,
    };
    root.write("sys/auth/pods", &json!({"type": "kubernetes"})).await?;
    let cluster_is = json!({
        "kubernetes_host": cluster.url(), "kubernetes_ca_cert": fs::read_to_string(cluster.ca_file())?,
        "token_reviewer_jwt": cluster.token(wanted).await?, "disable_local_ca_jwt": true,
    });
    root.write("auth/pods/config", &cluster_is).await?;
    Ok(())
}

/// What `vault apply` does for such a layout; twice, and the second time changes nothing.
async fn set_up(vault: &Vault, method: PodLogin, mount: &str, cluster: Option<&Cluster>) -> Result<()> {
    let settings = settings(
        vault,
        doorward_certs::vault::Login::TokenFile {
            token_file: "unused".into(),
        },
    )?;
    let gateway = GatewayLogin::AppRole {
        mount: "approle".into(),
        role: "doorward-gateway".into(),
    };
    let needs = Needs {
        agents: Some(AgentLogin {
            method,
            mount: mount.to_owned(),
            role: "doorward-agent".into(),
            namespaces: Names::These(vec![
                "at-vault".to_owned(),
                "at-vault-too".to_owned(),
                "at-vault-three".to_owned(),
            ]),
            audience: "vault".into(),
            // Where somebody configured the method before, this is not used.
            cluster: cluster.map_or_else(|| "https://unused.example".to_owned(), Cluster::issuer),
            cluster_ca: match cluster {
                Some(cluster) => fs::read_to_string(cluster.ca_file())?,
                None => String::new(),
            },
        }),
        ..needs(&settings, gateway)
    };
    let (transport, token) = (Transport::new(&settings)?, vault.root().token().context("a token")?);
    let token = Secret::new(token.to_owned());
    let admin = Admin::new(&transport, &token);
    let after = admin.apply(&admin.plan(steps(&needs)).await?).await?;
    ensure!(after.is_done(), "{after:?}");
    ensure!(admin.plan(steps(&needs)).await?.is_done());
    Ok(())
}

fn signer(vault: &Vault, method: PodLogin, mount: &str, token: &str) -> Result<HostSigner> {
    // Each test has a Vault of its own, and its port is nobody else's: another test's token would be good there.
    let port = vault.url().rsplit(':').next().context("no port")?.to_owned();
    let token_file = fresh(PLACE, &format!("tokens-{port}"))?.join("token");
    fs::write(&token_file, token)?;
    Ok(HostSigner::new(HostSettings {
        address: vault.url().parse()?,
        ca: Some(vault.ca_file().to_owned()),
        namespace: None,
        method,
        mount: mount.to_owned(),
        role: "doorward-agent".into(),
        token_file,
        host_mount: "ssh-host".into(),
        host_role: "doorward-host".into(),
        timeout: Duration::from_secs(20),
    })?)
}

/// A certificate for this name and UID, as its debugging text; or the agent's error.
async fn sign(signer: &HostSigner, vault: &Vault, name: &str, uid: &str) -> Result<String> {
    let ca = vault.root().read("ssh-host/config/ca").await?["data"]["public_key"].clone();
    let trusted = CaKeys::parse(ca.as_str().context("no key")?)?;
    sign_for(signer, &trusted, name, uid).await
}

/// The same for somebody who trusts these keys.
async fn sign_for(signer: &HostSigner, trusted: &CaKeys, name: &str, uid: &str) -> Result<String> {
    let workspace = WorkspaceName::try_from(name)?;
    let request = HostRequest {
        subject: HostKey::generate()?.public_key().clone(),
        names: vec![wildcard_name(&workspace)],
        workspace,
        workspace_uid: WorkspaceUid::try_from(uid)?,
        valid_for: Duration::from_secs(600),
    };
    let signed = signer.sign(&request, trusted, SystemTime::now()).await?;
    Ok(format!("{:?}", signed.certificate().extensions()))
}

/// The code of the agent's error.
fn code(ended: &Result<String>) -> String {
    match ended {
        Ok(_) => "signed".to_owned(),
        Err(error) => match error.downcast_ref::<doorward_certs::AuthorityError>() {
            Some(error) => error.code().to_owned(),
            None => format!("{error:#}"),
        },
    }
}

async fn log_in(vault: &Vault, mount: &str, token: &str) -> Result<Api> {
    let login = json!({"role": "doorward-agent", "jwt": token});
    let answer: Value = vault.root().write(&format!("auth/{mount}/login"), &login).await?;
    match answer["auth"]["client_token"].as_str() {
        Some(token) => Ok(vault.root().with_token(token)),
        None => bail!("no token: {answer}"),
    }
}
