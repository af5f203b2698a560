//! The profiles of `deploy/profiles`: each lets its people in on a real cluster, keeps the others out, and shows what is peculiar
//! to its platform.
//!
//! A gateway runs with the profile's own files and exactly its role, agents with the profile's own snippet. Replaced are addresses,
//! keys, the issuer, and the account, since a process of this machine has no image with accounts of its own.

mod ambient;
mod code_server;
mod devenv;
mod ground;
mod lent;
mod platform;
mod research;
mod security;
mod workspaces;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::process::Command;

pub(super) use lent::define as define_access;

use super::PLACE;

const PROFILES: [&str; 5] = ["devenv", "ambient", "workspaces", "code-server", "research"];

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
fn gateway_folder(profile: &str) -> Result<tempfile::TempDir> {
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
    private("secrets/workspace-api", "nor this")?;
    fs::write(path("policy.toml"), file(profile, "policy.toml")?)?;
    fs::write(path("gateway.toml"), file(profile, "gateway.toml")?)?;
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
        let folder = gateway_folder(profile)?;
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
