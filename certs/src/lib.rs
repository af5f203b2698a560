//! SSH certificates: what is asked for, who signs it, and what is believed.
//!
//! This crate owns the certificates of Doorward: session certificates (type user, one principal, minutes long),
//! link certificates (type user, principal `doorward-gateway`) and host certificates (type host). It makes requests,
//! has an [`Authority`] sign them, checks every answer field by field, and judges what peers present.
//! It reads no clock to judge by (callers pass the time) and decides no policy. It opens connections to Vault alone, and only with
//! the feature `vault`, which laptops do without.
//!
//! The rule for judging: nothing is accepted that OpenSSH refuses, and much is refused that OpenSSH accepts:
//! certificates without an end, without a principal, with an option that nobody enforces, or encoded in any way but one.

mod answer;
mod authority;
mod blob;
mod ca;
mod destination;
mod extension;
pub mod key;
mod key_id;
mod local;
mod names;
mod refusal;
mod request;
mod secret;
mod serials;
mod terms;
#[cfg(feature = "vault")]
pub mod vault;
mod verify;

pub use answer::{Discrepancy, HostCert, LinkCert, SessionCert};
pub use authority::{Authority, AuthorityError};
pub use blob::LONGEST_BLOB;
pub use ca::{CaKeys, CaKeysError, fingerprint};
pub use destination::is_destination;
pub use key::{HostKey, KeyError};
pub use local::Local;
pub use names::{Login, NameError, WorkspaceName, WorkspaceUid, is_name_pattern, wildcard_name};
pub use refusal::Refusal;
pub use request::{HostRequest, LinkRequest, RequestError, SessionRequest};
pub use secret::{Secret, UserToken};
pub use serials::SerialsSeen;
pub use terms::{Capabilities, Recording, RecordingMode, RemoteForward, Sftp, Terms, TermsError};
pub use verify::{
    HostSays, SessionCheck, VerifiedHost, VerifiedLink, VerifiedSession, judge_host_at, judge_link_at, verify_host,
    verify_link, verify_session,
};

/// The principal of every link certificate, and a name that no [`Login`] may have.
pub const GATEWAY_PRINCIPAL: &str = "doorward-gateway";

/// How far an authority dates a certificate back, so that a peer whose clock is a little behind accepts it.
pub const BACKDATED_BY: std::time::Duration = std::time::Duration::from_secs(30);

/// The longest life that a session certificate may be asked for.
///
/// The judge allows this much plus [`BACKDATED_AT_MOST`] between `valid after` and `valid before`.
pub const LONGEST_SESSION_LIFE: std::time::Duration = std::time::Duration::from_secs(3600);

/// The longest life that a link certificate may be asked for.
pub const LONGEST_LINK_LIFE: std::time::Duration = std::time::Duration::from_secs(7 * 86_400);

/// The longest life that a host certificate may be asked for.
pub const LONGEST_HOST_LIFE: std::time::Duration = std::time::Duration::from_secs(366 * 86_400);

/// The most that an authority may date a certificate back.
pub const BACKDATED_AT_MOST: std::time::Duration = std::time::Duration::from_secs(60);
