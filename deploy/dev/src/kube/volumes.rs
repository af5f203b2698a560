//! A pod's volumes as folders.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::rewrite::Rewrite;
use super::spec::{CONFIG_MAPS, Pod, SECRETS, list};
use crate::parts::kube::{Api, TokenRequest};
use crate::parts::{Error, make_dir, write_private};

/// Makes the volumes of a pod below its folder, and writes what is in them; again to renew the tokens.
pub(super) struct Volumes<'a> {
    pub api: &'a Api,
    pub pod: &'a Pod,
    pub folder: &'a Path,
    /// Where claims are, which outlive a pod.
    pub claims: &'a Path,
    pub address: Ipv4Addr,
}

impl Volumes<'_> {
    /// What the mount paths of the containers that are run stand for.
    pub(super) fn rewrite(&self) -> Rewrite {
        let mounts = self
            .pod
            .agents()
            .flat_map(|(container, _)| list(&container["volumeMounts"]));
        let mounts = mounts.filter_map(|mount| {
            let path = mount["mountPath"].as_str()?.to_owned();
            let name = mount["name"].as_str()?;
            let volume = self.pod.volumes().iter().find(|volume| volume["name"] == name)?;
            let folder = self.folder_of(volume);
            Some((path, folder.join(mount["subPath"].as_str().unwrap_or_default())))
        });
        Rewrite::new(mounts.collect(), self.address)
    }

    /// Writes all of them.
    pub(super) async fn write(&self, rewrite: &Rewrite) -> Result<(), Error> {
        for volume in self.pod.volumes() {
            let folder = make_dir(&self.folder_of(volume))?;
            for source in sources(volume) {
                self.write_source(&folder, source, rewrite).await?;
            }
        }
        Ok(())
    }

    /// After how many seconds the tokens want renewing: four fifths of the shortest life. `None` where there is no token.
    pub(super) fn renewal(&self) -> Option<u64> {
        let sources = self.pod.volumes().iter().flat_map(sources);
        let lives = sources.filter_map(|source| source["serviceAccountToken"].as_object().map(seconds));
        lives.min().map(|life| u64::from(life) * 4 / 5)
    }

    async fn write_source(&self, folder: &Path, source: &Value, rewrite: &Rewrite) -> Result<(), Error> {
        if let Some(token) = source["serviceAccountToken"].as_object() {
            let wanted = TokenRequest {
                namespace: self.pod.namespace(),
                account: self.pod.account(),
                audience: token.get("audience").and_then(Value::as_str),
                pod: Some((self.pod.name(), self.pod.uid())),
                seconds: seconds(token),
            };
            let text = self.api.token(wanted).await?;
            return put(
                folder,
                token.get("path").and_then(Value::as_str).unwrap_or("token"),
                &text,
            );
        }
        for item in list(&source["downwardAPI"]["items"]) {
            let field = item["fieldRef"]["fieldPath"].as_str().unwrap_or_default();
            let text = self.pod.field(field, self.address).unwrap_or_default();
            put(folder, item["path"].as_str().unwrap_or_default(), &text)?;
        }
        for (kind, field) in [(CONFIG_MAPS, "configMap"), (SECRETS, "secret")] {
            let reference = &source[field];
            // A volume of its own and a projection spell a secret's name differently.
            let Some(name) = reference["name"].as_str().or(reference["secretName"].as_str()) else {
                continue;
            };
            let content = match self.pod.content(self.api, kind, name).await {
                Err(Error::Refused { status: 404, .. }) if reference["optional"] == true => continue,
                content => content?,
            };
            let items = list(&reference["items"]);
            for (key, text) in &content {
                let item = items.iter().find(|item| item["key"] == key.as_str());
                if !items.is_empty() && item.is_none() {
                    continue;
                }
                let path = item.and_then(|item| item["path"].as_str()).unwrap_or(key);
                let text = if kind == CONFIG_MAPS { &rewrite.text(text) } else { text };
                put(folder, path, text)?;
            }
        }
        Ok(())
    }

    fn folder_of(&self, volume: &Value) -> PathBuf {
        match volume["persistentVolumeClaim"]["claimName"].as_str() {
            Some(claim) => self.claims.join(claim),
            None => self
                .folder
                .join("volumes")
                .join(volume["name"].as_str().unwrap_or_default()),
        }
    }
}

/// What is written into a volume: itself, or each of its projections.
fn sources(volume: &Value) -> impl Iterator<Item = &Value> {
    std::iter::once(volume).chain(list(&volume["projected"]["sources"]))
}

fn seconds(token: &Map<String, Value>) -> u32 {
    let wanted = token.get("expirationSeconds").and_then(Value::as_u64);
    wanted.and_then(|wanted| u32::try_from(wanted).ok()).unwrap_or(3600)
}

/// Writes a file whole or not at all: whoever reads it while it is renewed has the one or the other.
fn put(folder: &Path, path: &str, text: &str) -> Result<(), Error> {
    let path = folder.join(path);
    if let Some(parent) = path.parent() {
        make_dir(parent)?;
    }
    let beside = path.with_added_extension("new");
    write_private(&beside, text)?;
    std::fs::rename(&beside, &path).map_err(Error::file("rename", beside))
}
