//! What an answer that says no means.
//!
//! Vault's statuses are ambiguous (429 is a standby or a quota, 500 a cluster without a leader or a defect, 404 no mount or no
//! role), so that behind those `sys/health`, which needs no token, is asked as well.

use http::{Method, StatusCode};
use tokio::time::Instant;

use super::{
    VaultError,
    transport::{Ask, Reply, Transport},
};

/// What was asked for, as far as the meaning of a no depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// A certificate, with the token of whom.
    Signing(&'static str),
    /// A login of the gateway, or something about its token.
    Login,
    /// A login with the person's token.
    UserLogin,
    /// A public key of a mount.
    Ca,
}

/// The answer, if it says yes; otherwise what its no means.
pub(super) async fn judge(
    transport: &Transport,
    asked: Asked,
    path: &str,
    reply: Reply,
    deadline: Instant,
) -> Result<Reply, VaultError> {
    if reply.is_success() {
        return Ok(reply);
    }
    if reply.status.is_redirection() {
        // A standby that cannot hand a request on sends us to the node that was active last.
        return Err(match health(transport, deadline).await {
            Some(standby @ VaultError::Standby { .. }) => standby,
            _ => VaultError::Redirect {
                address: transport.address(),
                to: reply.location.unwrap_or_default(),
            },
        });
    }
    let Some(said) = reply.said() else {
        return Err(match health(transport, deadline).await {
            Some(known) => known,
            None => transport.not_vault(&reply, path),
        });
    };
    let path = path.to_owned();
    let status = reply.status.as_u16();
    Err(match status {
        429 if said.contains("quota") || reply.retry_after.is_some() => VaultError::RateLimited {
            address: transport.address(),
            retry_after: reply.retry_after,
        },
        500 if said.contains("CA private key") => VaultError::NoCa { path, why: said },
        429 | 472 | 473 | 500.. => match health(transport, deadline).await {
            Some(known) => known,
            None => VaultError::Failed { path, status, said },
        },
        404 if said.contains("no handler for route") || said.contains("unsupported path") => {
            VaultError::MountMissing { path }
        }
        _ => match asked {
            Asked::UserLogin => VaultError::UserRefused { path, said },
            Asked::Login => VaultError::LoginRefused { path, said },
            Asked::Signing(who) if status == 403 => VaultError::Denied { who, path, said },
            Asked::Signing(_) if said.to_ascii_lowercase().contains("unknown role") => VaultError::RoleMissing { path },
            Asked::Signing(_) if status == 400 => VaultError::RoleRefuses { path, said },
            // The key is public: where it is not even refused to nobody, there is no SSH engine.
            Asked::Ca if status == 403 => VaultError::MountMissing { path },
            Asked::Ca if status == 400 || status == 404 => VaultError::NoCa { path, why: said },
            Asked::Signing(_) | Asked::Ca => VaultError::Failed { path, status, said },
        },
    })
}

/// What is wrong with the whole of Vault, if that can be found out and something is.
async fn health(transport: &Transport, deadline: Instant) -> Option<VaultError> {
    let ask = Ask {
        method: Method::GET,
        path: "sys/health",
        body: None,
        token: None,
    };
    let reply = transport.send(ask, deadline).await.ok()?;
    // Only Vault's own answer counts: a proxy's 503 says nothing about seals.
    let own: serde_json::Value = serde_json::from_slice(&reply.body).ok()?;
    own.get("sealed")?;
    let address = transport.address();
    match reply.status {
        StatusCode::NOT_IMPLEMENTED => Some(VaultError::NotInitialised { address }),
        StatusCode::SERVICE_UNAVAILABLE => Some(VaultError::Sealed { address }),
        status if matches!(status.as_u16(), 429 | 472 | 473) => Some(VaultError::Standby { address }),
        _ => None,
    }
}
