//! A stand, a second gateway in front of its agent whose tokens the tests make, and people who are logged in there.

use std::future::Future;
use std::time::Duration;

use anyhow::{Context, Result};
use doorward_dev::stack::ClientFolder;
use jsonwebtoken::{Algorithm, Header};
use serde_json::Value;
use tokio::process::Command;

use crate::second::Second;
use crate::{Outcome, Shared, Stand, feed};

/// All of it, for one test file: keep it in a `OnceLock`.
pub struct Front {
    shared: Shared,
    at: At,
}

/// What a test works with besides the stand.
pub struct At {
    /// The gateway.
    pub second: Second,
    /// Bob's client folder, logged in at it.
    pub bob: ClientFolder,
    /// Carol's.
    pub carol: ClientFolder,
}

/// The second gateway's deadlines for a TLS handshake and for a request's header.
pub const DEADLINE: Duration = Duration::from_secs(4);

impl Front {
    /// Starts everything in a folder of this name.
    ///
    /// # Panics
    /// When something does not come up: no test of the file can run then.
    #[must_use]
    #[expect(clippy::panic, reason = "a test file without its stand has nothing to say")]
    pub fn start(program: &str, target_tmp: &str, name: &str) -> Self {
        let shared = Shared::start(program, target_tmp, name);
        let mut at = None;
        let started = shared.run(|stand| {
            let at = &mut at;
            async move {
                let limits = "tls-handshake = '4s'\nrequest-header = '4s'\n";
                let second = Second::start(stand, program, "second", limits).await?;
                let bob = second.client(stand, "bob", "bob", second.address).await?;
                let carol = second.client(stand, "carol", "carol", second.address).await?;
                *at = Some(At { second, bob, carol });
                Ok(())
            }
        });
        match started.and_then(|()| at.context("nothing was started")) {
            Ok(at) => Self { shared, at },
            Err(error) => panic!("the second gateway did not come up: {error:#}"),
        }
    }

    /// Runs one test.
    ///
    /// # Errors
    /// The test's own.
    pub fn run<'a, F: Future<Output = Result<()>>>(&'a self, test: impl FnOnce(&'a Stand, &'a At) -> F) -> Result<()> {
        self.shared.run(|stand| test(stand, &self.at))
    }
}

/// `ssh` to the first workspace with a client folder's configuration, without a command yet.
#[must_use]
pub fn ssh(client: &ClientFolder, options: &[&str]) -> Command {
    let mut command = Command::new("ssh");
    command
        .arg("-F")
        .arg(client.ssh_config())
        .args(options)
        .arg("devenv-0")
        .kill_on_drop(true);
    command
}

/// Runs a command in the first workspace.
///
/// # Errors
/// When ssh cannot be run, or hangs.
pub async fn remote(client: &ClientFolder, options: &[&str], command: &str, input: &[u8]) -> Result<Outcome> {
    let mut ssh = ssh(client, options);
    ssh.arg(command);
    feed(ssh, input).await
}

/// An access token as the issuer would give it, with a change to its claims.
///
/// # Errors
/// The issuer knows nobody of that name.
pub fn token(second: &Second, person: &str, change: impl FnOnce(&mut Value)) -> Result<String> {
    let mut claims = second.issuer.access_claims(person)?;
    change(&mut claims);
    Ok(second.issuer.sign(&header(), &claims)?)
}

/// The header of an access token.
#[must_use]
pub fn header() -> Header {
    Header {
        typ: Some("at+jwt".to_owned()),
        ..Header::new(Algorithm::ES256)
    }
}
