//! Vault as its administrator sees it: what there is, and one thing after the other written.
//!
//! Whose token it is, is the caller's business; here it is sent and never shown.

use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::{Map, Value};
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::{
    plan::{Change, Live, Plan, Verdict, name_accessor, names_accessor},
    step::Step,
};
use crate::vault::{
    Secret, VaultError,
    transport::{Ask, Reply, Transport},
};

/// Vault with the token of an administrator.
#[derive(Debug)]
pub struct Admin<'a> {
    transport: &'a Transport,
    token: &'a Secret,
}

/// Why Vault cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// Vault cannot be asked.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// It says no.
    #[error("Vault refuses to {act} `{path}` (status {status}): {said}")]
    Refused {
        /// `read` or `write`.
        act: &'static str,
        /// The path below `/v1/`.
        path: String,
        /// The HTTP status.
        status: u16,
        /// Vault's own words, escaped and cut.
        said: String,
    },
    /// Something that is not ours stands in the way.
    #[error("something that is not Doorward's stands in the way at `{0}`: nothing was written")]
    Conflict(String),
    /// It took everything, and shows something else.
    #[error("Vault took what was written to `{0}` and shows something else")]
    NotTaken(String),
}

impl<'a> Admin<'a> {
    /// Vault with this token.
    #[must_use]
    pub fn new(transport: &'a Transport, token: &'a Secret) -> Self {
        Self { transport, token }
    }

    /// What has to change so that Vault holds these steps.
    ///
    /// # Errors
    /// Vault cannot be asked, or says no.
    pub async fn plan(&self, steps: Vec<Step>) -> Result<Plan, SetupError> {
        let live = self.live(&steps).await?;
        Ok(Plan::of(steps, &live))
    }

    /// Does what the plan says, then looks whether it holds; returns how it stands now.
    ///
    /// # Errors
    /// The plan has a conflict (then nothing was written), Vault says no on the way, or does not hold what it was given.
    pub async fn apply(&self, plan: &Plan) -> Result<Plan, SetupError> {
        if let Some(standing) = plan.changes.iter().find(|change| change.verdict == Verdict::Conflict) {
            return Err(SetupError::Conflict(standing.path.clone()));
        }
        let steps: Vec<Step> = plan.changes.iter().map(|change| change.step.clone()).collect();
        for change in &plan.changes {
            if matches!(change.verdict, Verdict::Create | Verdict::Change) {
                self.write(change).await?;
            }
        }
        let after = self.plan(steps).await?;
        match after.changes.iter().find(|change| change.verdict != Verdict::Same) {
            Some(differs) => Err(SetupError::NotTaken(differs.path.clone())),
            None => Ok(after),
        }
    }

    async fn write(&self, change: &Change) -> Result<(), SetupError> {
        let mut body = change.body.clone();
        // The auth method may have been made a moment ago: its accessor is known only now.
        if let Some(mount) = names_accessor(&body)
            && let Some(there) = self.find(&format!("sys/auth/{mount}")).await?
            && let Some(accessor) = there.get("accessor").and_then(Value::as_str)
        {
            name_accessor(&mut body, &mount, accessor);
        }
        let reply = self.send(Method::POST, &change.path, Some(&body)).await?;
        self.ok("write", &change.path, &reply)
    }

    /// What Vault holds at the places that the steps name.
    async fn live(&self, steps: &[Step]) -> Result<Live, SetupError> {
        let mut live = Live::new();
        for step in steps {
            if let Some(found) = self.find(&step.path).await? {
                live.insert(step.path.clone(), found);
            }
        }
        Ok(live)
    }

    /// What stands at a path, if anything does.
    ///
    /// # Errors
    /// Vault cannot be asked, or says no.
    pub async fn find(&self, path: &str) -> Result<Option<Map<String, Value>>, SetupError> {
        let reply = self.send(Method::GET, path, None).await?;
        let said = reply.said().unwrap_or_default();
        // An engine without a key, and a mount that is not there, say so with 400.
        let nothing = reply.status == StatusCode::NOT_FOUND
            || (reply.status == StatusCode::BAD_REQUEST && NOTHING.iter().any(|words| said.contains(words)));
        if nothing {
            return Ok(None);
        }
        self.ok("read", path, &reply)?;
        Ok(Some(self.transport.data(&reply, path)?))
    }

    async fn send(&self, method: Method, path: &str, body: Option<&Map<String, Value>>) -> Result<Reply, SetupError> {
        let body = match body {
            Some(body) => Some(serde_json::to_vec(body).map_err(|error| VaultError::Client(error.to_string()))?),
            None => None,
        };
        let ask = Ask {
            method,
            path,
            body: body.map(Zeroizing::new),
            token: Some(self.token),
        };
        Ok(self.transport.send(ask, Instant::now() + WITHIN).await?)
    }

    fn ok(&self, act: &'static str, path: &str, reply: &Reply) -> Result<(), SetupError> {
        if reply.is_success() {
            return Ok(());
        }
        match reply.said() {
            Some(said) => Err(SetupError::Refused {
                act,
                path: path.to_owned(),
                status: reply.status.as_u16(),
                said,
            }),
            None => Err(VaultError::NotVault {
                address: self.transport.address(),
                path: path.to_owned(),
                status: reply.status.as_u16(),
            }
            .into()),
        }
    }
}

/// Vault's words for what is not there, where its status does not say it.
const NOTHING: [&str; 4] = [
    "configured yet",
    "No secret engine mount at",
    "No auth engine at",
    "cannot fetch sysview",
];
/// How long Vault may take for one request of a set-up.
const WITHIN: Duration = Duration::from_secs(15);
