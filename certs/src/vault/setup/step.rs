//! One thing that Vault has to hold: where it is written, and what.

use serde_json::{Map, Value};

/// One thing that Vault has to hold.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Which kind of thing; says how it is compared.
    pub kind: Kind,
    /// The path of the API that it is written to, below `/v1/`.
    pub path: String,
    /// What it is for, for people.
    pub what: &'static str,
    /// The fields that are written.
    pub body: Map<String, Value>,
}

/// The kinds of things, each compared in its own way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A secrets engine: there or not, and of the right type.
    Engine,
    /// How an engine is tuned: what others have set stays, what is missing is added.
    Tuning,
    /// A CA's key: there or not. An existing key is never touched.
    CaKey,
    /// A role of the SSH engine.
    SshRole,
    /// A policy: the text as a whole.
    Policy,
    /// An auth method: there or not, and of the right type.
    Auth,
    /// What an auth method believes. Changed only at a mount that was made for Doorward.
    AuthConfig,
    /// How an auth method reaches a cluster: there or not. What somebody set up is never touched.
    AuthCluster,
    /// A role of an auth method.
    AuthRole,
}

impl Step {
    pub(super) fn new(kind: Kind, path: String, what: &'static str, body: Value) -> Self {
        let body = match body {
            Value::Object(map) => map,
            _ => Map::new(),
        };
        Self { kind, path, what, body }
    }

    /// The mount that the thing is at or in, for those that are of an auth method: without `auth/`.
    pub(super) fn auth_mount(&self) -> Option<&str> {
        match self.kind {
            Kind::Auth => self.path.strip_prefix("sys/auth/"),
            Kind::AuthConfig | Kind::AuthCluster => self.path.strip_prefix("auth/")?.strip_suffix("/config"),
            Kind::AuthRole => Some(self.path.strip_prefix("auth/")?.rsplit_once("/role/")?.0),
            _ => None,
        }
    }
}

/// Stands in a body for the accessor of the auth method at this mount, until that is known. Vault gives out accessors; they
/// cannot be chosen.
pub(super) fn accessor_of(mount: &str) -> String {
    format!("{ACCESSOR_OF}{mount})")
}

pub(super) const ACCESSOR_OF: &str = "(accessor of ";

/// The description by which mounts are known that were made for Doorward.
pub(super) const OURS: &str = "Doorward: ";
