//! Logging in at an OIDC issuer: authorization code with PKCE over a loopback redirect (RFC 8252), and the device
//! grant (RFC 8628). The gateway says which issuer and which client; the rest comes from the issuer's discovery.

mod authorize;
mod browser;
mod claims;
mod device;
mod discovery;
mod dpop;
mod loopback;
mod pkce;
mod token;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

pub(crate) use authorize::by_browser;
pub(crate) use browser::can_open;
pub(crate) use claims::Glance;
pub(crate) use device::by_device;
pub(crate) use discovery::Issuer;
pub(crate) use dpop::{Key, Proof, is_thumbprint};
pub(crate) use token::{Granted, Lasts, Refreshed, end_session, refresh, revoke};

/// A value that nobody can guess: 256 bits.
fn random() -> String {
    URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>())
}
