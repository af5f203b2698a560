//! Who one is at the API server, and a kubeconfig that says so.

use std::path::Path;

use serde_json::json;

use super::super::Error;
use super::super::server::write_private;
use super::Cluster;

/// Who asks.
#[derive(Clone)]
pub enum Identity {
    /// The cluster's administrator, who may do everything.
    Admin,
    /// Somebody with exactly these groups beside `system:authenticated`. The administrator acts as them (impersonation): the API server
    /// authorises and audits the person.
    Person {
        /// The user name.
        name: String,
        /// The groups.
        groups: Vec<String>,
    },
    /// Whoever holds this token: a service account's from [`Cluster::token`](super::Cluster::token), or a bad one.
    Token(String),
}

impl Identity {
    /// Somebody with these groups.
    #[must_use]
    pub fn person(name: &str, groups: &[&str]) -> Self {
        Self::Person {
            name: name.to_owned(),
            groups: groups.iter().map(|&group| group.to_owned()).collect(),
        }
    }
}

/// Without the token.
impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Admin => f.write_str("Admin"),
            Self::Person { name, groups } => write!(f, "Person({name}, {groups:?})"),
            Self::Token(_) => f.write_str("Token"),
        }
    }
}

impl Cluster {
    /// Writes a kubeconfig for somebody, mode 0600; JSON, which is YAML.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_kubeconfig(&self, path: &Path, who: &Identity) -> Result<(), Error> {
        self.write_kubeconfig_at(path, who, &self.url())
    }

    /// The same for another address, such as that of a proxy in front of the API server.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_kubeconfig_at(&self, path: &Path, who: &Identity, url: &str) -> Result<(), Error> {
        let certificate = json!({"client-certificate": self.admin_certificate(), "client-key": self.admin_key()});
        let user = match who {
            Identity::Admin => certificate,
            Identity::Person { name, groups } => {
                let mut user = certificate;
                user["as"] = json!(name);
                user["as-groups"] = json!(groups);
                user
            }
            Identity::Token(token) => json!({"token": token}),
        };
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": NAME,
            "contexts": [{"name": NAME, "context": {"cluster": NAME, "user": NAME}}],
            "clusters": [{"name": NAME, "cluster": {"server": url, "certificate-authority": self.ca_file()}}],
            "users": [{"name": NAME, "user": user}],
        });
        write_private(path, &format!("{config:#}\n"))
    }
}

const NAME: &str = "doorward";
