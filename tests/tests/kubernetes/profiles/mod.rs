//! The profiles of `deploy/profiles`: their configurations are good, their objects are what the API server takes, and the
//! gateway reads with exactly the rights that the profile gives it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use doorward_certs::Local;
use doorward_dev::parts::kube::{Identity, TokenRequest};
use serde_json::Value;
use tests::parts::{Had, name_of, shared_cluster};
use tests::until;
use tokio::process::Command;

use super::PLACE;

const PROFILES: [&str; 5] = ["devenv", "ambient", "workspaces", "code-server", "research"];
const ACCOUNT: &str = "system:serviceaccount:doorward:doorward-gateway";
/// Asked for the agents' tokens, and by no rule of the discovery.
const ENROLMENT: &str = "create tokenreviews";
/// Asked when somebody wakes a workspace.
const WAKING: [&str; 2] = ["patch statefulsets/scale", "list events"];

fn file(profile: &str, name: &str) -> Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../deploy/profiles")
        .join(profile)
        .join(name);
    fs::read_to_string(&path).with_context(|| path.display().to_string())
}

fn objects(profile: &str, name: &str) -> Result<Vec<Value>> {
    serde_saphyr::from_multiple(&file(profile, name)?).with_context(|| format!("{profile}/{name}"))
}

/// A folder as the gateway's pod has it, with keys made for the test.
fn gateway_folder(profile: &str, change: impl FnOnce(&mut toml::Table) -> Result<()>) -> Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name);
    let private = |name: &str, text: &str| -> Result<()> {
        fs::write(path(name), text)?;
        Ok(fs::set_permissions(path(name), fs::Permissions::from_mode(0o600))?)
    };
    for name in ["tls", "secrets"] {
        fs::create_dir(path(name))?;
    }
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
    for name in ["tls/tls.crt", "platform-ca.pem", "vault-ca.pem"] {
        fs::write(path(name), made.cert.pem())?;
    }
    private("tls/tls.key", &made.signing_key.serialize_pem())?;
    private("secrets/introspection", "not a secret of anybody")?;
    fs::write(path("policy.toml"), file(profile, "policy.toml")?)?;
    let mut config: toml::Table = file(profile, "gateway.toml")?.parse()?;
    change(&mut config)?;
    fs::write(path("gateway.toml"), toml::to_string(&config)?)?;
    Ok(folder)
}

async fn check(program: &str, config: &Path) -> Result<()> {
    let checked = Command::new(PLACE.program)
        .args([program, "check-config", "--config"])
        .arg(config)
        .envs([("DOORWARD_WORKSPACE", "devenv-0"), ("DOORWARD_WORKSPACE_UID", "u-0")])
        .output()
        .await?;
    ensure!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    Ok(())
}

#[tokio::test]
async fn every_configuration_is_good() -> Result<()> {
    for profile in PROFILES {
        let folder = gateway_folder(profile, |_| Ok(()))?;
        check("gateway", &folder.path().join("gateway.toml"))
            .await
            .context(profile)?;
        let agent = tempfile::tempdir()?;
        let map = objects(profile, "agent.yaml")?.swap_remove(0);
        for (name, text) in map["data"].as_object().context("no data")? {
            fs::write(agent.path().join(name), text.as_str().context("no text")?)?;
        }
        check("agent", &agent.path().join("agent.toml"))
            .await
            .context(profile)?;
    }
    Ok(())
}

/// A patch of a pod's kind: objects merge by member, lists of named things by what names them.
fn patch(base: &mut Value, patch: &Value) {
    match (base, patch) {
        (Value::Object(base), Value::Object(members)) => {
            for (name, value) in members {
                self::patch(base.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
        (Value::Array(base), Value::Array(items)) if items.iter().all(|item| key(item).is_some()) => {
            for item in items {
                match base.iter_mut().find(|one| key(one) == key(item)) {
                    Some(one) => self::patch(one, item),
                    None => base.push(item.clone()),
                }
            }
        }
        (base, value) => value.clone_into(base),
    }
}

fn key(item: &Value) -> Option<&Value> {
    ["mountPath", "containerPort", "name"]
        .iter()
        .find_map(|name| item.get(name))
}

/// One cluster for all five: their namespaces differ, and the gateway's account is given one profile's rights at a time.
#[tokio::test]
async fn the_objects_are_taken_and_every_right_to_read_is_used_and_none_is_missing() -> Result<()> {
    let Had::Here(cluster) = shared_cluster(PLACE, name_of(&|| ())).await? else {
        return Ok(());
    };
    let admin = cluster.admin();
    for profile in PROFILES {
        let snippet = objects(profile, "agent-snippet.yaml")?.swap_remove(0);
        let mut patched = 0;
        for mut object in objects(profile, "objects.yaml")? {
            if object["kind"] == snippet["kind"] && object["metadata"]["name"] == snippet["metadata"]["name"] {
                patch(&mut object, &snippet);
                patched += 1;
            }
            admin
                .apply(&object)
                .await
                .with_context(|| format!("{profile}: {object}"))?;
        }
        ensure!(patched == 1, "{profile}: the snippet fits {patched} objects");
        let rights = objects(profile, "rbac.yaml")?;
        for object in rights.iter().chain(&objects(profile, "agent.yaml")?) {
            admin
                .apply(object)
                .await
                .with_context(|| format!("{profile}: {object}"))?;
        }
        used(cluster, profile, &rights)
            .await
            .with_context(|| profile.to_owned())?;
        for right in rights
            .iter()
            .filter(|right| right["kind"].as_str().is_some_and(|kind| kind.contains("Role")))
        {
            admin.delete(&path_of(right)?).await?;
        }
    }
    Ok(())
}

/// Runs the gateway with these rights until it has read everything, and compares what it asked with what it may.
async fn used(cluster: &doorward_dev::parts::Cluster, profile: &str, rights: &[Value]) -> Result<()> {
    let token = cluster
        .token(TokenRequest {
            namespace: "doorward",
            account: "doorward-gateway",
            audience: None,
            pod: None,
            seconds: 600,
        })
        .await?;
    let folder = gateway_folder(profile, local)?;
    let path = |name: &str| folder.path().join(name);
    Local::create_files(&path("user-ca"), &path("host-ca"))?;
    cluster.write_kubeconfig(&path("kubeconfig"), &Identity::Token(token))?;
    let before = cluster.audit()?.len();
    let log = fs::File::create(path("log"))?;
    let mut gateway = Command::new(PLACE.program)
        .args(["gateway", "run", "--config"])
        .arg(path("gateway.toml"))
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .kill_on_drop(true)
        .spawn()?;
    let mut wanted = BTreeSet::new();
    for rule in rights.iter().filter_map(|right| right["rules"].as_array()).flatten() {
        for verb in rule["verbs"].as_array().into_iter().flatten() {
            for resource in rule["resources"].as_array().into_iter().flatten() {
                wanted.insert(format!(
                    "{} {}",
                    verb.as_str().unwrap_or_default(),
                    resource.as_str().unwrap_or_default()
                ));
            }
        }
    }
    ensure!(wanted.remove(ENROLMENT), "no right to review tokens");
    wanted.retain(|right| !WAKING.contains(&right.as_str()));
    let asked = until("every right is used", async || {
        ensure!(
            gateway.try_wait()?.is_none(),
            "the gateway ended: {}",
            fs::read_to_string(path("log"))?
        );
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        let (mut asked, mut refused) = (BTreeSet::new(), BTreeSet::new());
        for event in cluster
            .audit()?
            .iter()
            .skip(before)
            .filter(|event| event["user"]["username"] == ACCOUNT)
        {
            let text = |field: &Value| field.as_str().unwrap_or_default().to_owned();
            let resource = text(&event["objectRef"]["resource"]);
            let what = format!("{} {resource}", text(&event["verb"]));
            match event["responseStatus"]["code"].as_u64() {
                Some(403) => drop(refused.insert(what)),
                _ if resource.is_empty() => {}
                _ => drop(asked.insert(what)),
            }
        }
        // A new binding reaches the authoriser by a watch: a refusal is one only where it stays the answer.
        let missing: Vec<_> = refused.difference(&asked).collect();
        Ok((missing.is_empty() && asked.is_superset(&wanted)).then_some(asked))
    })
    .await
    .with_context(|| fs::read_to_string(path("log")).unwrap_or_default())?;
    ensure!(asked == wanted, "{asked:?} was asked, and {wanted:?} is what may be");
    gateway.start_kill()?;
    gateway.wait().await?;
    Ok(())
}

/// The profile's gateway on this machine: its own keys in place of Vault's, its files in its folder.
fn local(config: &mut toml::Table) -> Result<()> {
    let mut table = |path: &[&str], value: toml::Value| -> Result<()> {
        let (last, sections) = path.split_last().context("no key")?;
        let mut at = &mut *config;
        for section in sections {
            at = at
                .get_mut(*section)
                .and_then(toml::Value::as_table_mut)
                .context("no such section")?;
        }
        at.insert((*last).to_owned(), value);
        Ok(())
    };
    let text = |text: &str| toml::Value::String(text.to_owned());
    let keys = [
        ("user-ca".to_owned(), text("user-ca")),
        ("host-ca".to_owned(), text("host-ca")),
    ];
    let authority = toml::Table::from_iter([("local".to_owned(), toml::Value::Table(toml::Table::from_iter(keys)))]);
    table(&["authority"], toml::Value::Table(authority))?;
    table(&["state-directory"], text("state"))?;
    table(&["listen", "address"], text("127.0.0.1:0"))?;
    table(&["admin", "address"], text("127.0.0.1:0"))?;
    table(&["link", "key"], text("gateway.key"))?;
    table(&["records", "directory"], text("records"))?;
    table(&["kubernetes", "kubeconfig"], text("kubeconfig"))
}

/// Where the API server has a role or a binding.
fn path_of(object: &Value) -> Result<String> {
    let kind = object["kind"].as_str().context("no kind")?.to_lowercase();
    let name = object["metadata"]["name"].as_str().context("no name")?;
    let base = "/apis/rbac.authorization.k8s.io/v1";
    Ok(match object["metadata"]["namespace"].as_str() {
        Some(namespace) => format!("{base}/namespaces/{namespace}/{kind}s/{name}"),
        None => format!("{base}/{kind}s/{name}"),
    })
}
