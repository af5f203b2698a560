//! The events of the gateway's own journal: the same format, another author.

use minicbor::{CborLen, Decode, Encode};
use uuid::Uuid;

/// The gateway started; the first event of a journal.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct GatewayStarted {
    /// Version of the gateway.
    #[n(0)]
    pub version: String,
    /// Which of the replicas.
    #[n(1)]
    pub instance: String,
    /// The certificate over the key that signs the journal's heads, in OpenSSH's text form.
    #[n(2)]
    pub certificate: Option<String>,
    /// Where this instance's journal before this one ended: its stream, the number of its last
    /// block and the link after that, separated by spaces. So the removal of a journal shows.
    #[n(3)]
    pub previous: Option<String>,
}

/// Somebody was denied.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct Denied {
    /// Who, if that was established.
    #[n(0)]
    pub user: Option<String>,
    /// What they asked for.
    #[n(1)]
    pub workspace: String,
    /// Code of the refusal.
    #[n(2)]
    pub code: String,
    /// The operator's detail.
    #[n(3)]
    pub detail: String,
    /// Where they came from.
    #[n(4)]
    pub client_address: String,
}

/// A certificate was signed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct Signed {
    /// For which session.
    #[cbor(n(0), with = "crate::cbor::uuid")]
    pub session: Uuid,
    /// For whom.
    #[n(1)]
    pub user: String,
    /// For which workspace.
    #[n(2)]
    pub workspace: String,
    /// Serial of the certificate.
    #[n(3)]
    pub serial: u64,
    /// Its key id.
    #[n(4)]
    pub key_id: String,
    /// Its end, Unix seconds.
    #[n(5)]
    pub valid_before: u64,
}

/// A session was opened.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct SessionOpened {
    /// The session.
    #[cbor(n(0), with = "crate::cbor::uuid")]
    pub session: Uuid,
    /// Who.
    #[n(1)]
    pub user: String,
    /// Name of the workspace.
    #[n(2)]
    pub workspace: String,
    /// Which life of that name.
    #[n(3)]
    pub workspace_uid: String,
    /// The account in the workspace.
    #[n(4)]
    pub login: String,
    /// Where the client came from.
    #[n(5)]
    pub client_address: String,
    /// What the client called itself.
    #[n(6)]
    pub client_version: String,
    /// Who knew the person: the issuer of the token, or `kubernetes-token-review`.
    #[n(7)]
    pub issuer: Option<String>,
}

/// A session ended.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct SessionEnded {
    /// The session.
    #[cbor(n(0), with = "crate::cbor::uuid")]
    pub session: Uuid,
    /// A sentence for people.
    #[n(1)]
    pub reason: String,
    /// A word from a closed set.
    #[n(2)]
    pub code: String,
    /// SSH ciphertext from the client.
    #[n(3)]
    pub client_bytes: u64,
    /// SSH ciphertext from the agent.
    #[n(4)]
    pub agent_bytes: u64,
    /// Bytes of the recording that were stored.
    #[n(5)]
    pub record_bytes: u64,
}

/// The gateway signed a receipt for a head: the journal's memory of how far a recording went.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct HeadCountersigned {
    /// The session.
    #[cbor(n(0), with = "crate::cbor::uuid")]
    pub session: Uuid,
    /// Index of the segment.
    #[n(1)]
    pub segment: u32,
    /// Sequence number of the head block.
    #[n(2)]
    pub seq: u64,
    /// Link after the head block.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub link: [u8; 32],
}

/// Somebody read a recording.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct RecordingViewed {
    /// Whose session.
    #[cbor(n(0), with = "crate::cbor::uuid")]
    pub session: Uuid,
    /// Who read.
    #[n(1)]
    pub user: String,
    /// Which part.
    #[n(2)]
    pub what: String,
}

/// The link to a workspace came up.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct LinkUp {
    /// Name of the workspace.
    #[n(0)]
    pub workspace: String,
    /// Which life of that name.
    #[n(1)]
    pub uid: String,
    /// Version of the agent.
    #[n(2)]
    pub agent_version: String,
}

/// The link to a workspace went down.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct LinkDown {
    /// Name of the workspace.
    #[n(0)]
    pub workspace: String,
    /// Why.
    #[n(1)]
    pub reason: String,
}

/// A workspace was enrolled: it got a host certificate.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct Enrolled {
    /// Name of the workspace.
    #[n(0)]
    pub workspace: String,
    /// Which life of that name.
    #[n(1)]
    pub uid: String,
}

/// A workspace showed a host certificate that the gateway had not seen before, whoever had it signed. Written once for each, by each
/// gateway that sees it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct HostCertificateSeen {
    /// Name of the workspace.
    #[n(0)]
    pub workspace: String,
    /// Which life of that name; of a pod its uid.
    #[n(1)]
    pub uid: String,
    /// The certificate's serial.
    #[n(2)]
    pub serial: u64,
    /// Its key id.
    #[n(3)]
    pub key_id: String,
    /// Fingerprint of the authority that signed it.
    #[n(4)]
    pub authority: String,
    /// When it ends, Unix seconds.
    #[n(5)]
    pub valid_before: u64,
}

/// A workspace asked for a host certificate and got none. Written once for each reason in turn.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct EnrolRefused {
    /// Name of the workspace.
    #[n(0)]
    pub workspace: String,
    /// Which life of that name.
    #[n(1)]
    pub uid: String,
    /// Why: a word from a closed set.
    #[n(2)]
    pub code: String,
    /// The operator's detail.
    #[n(3)]
    pub detail: String,
}

/// The gateway stopped in order; the last event of a journal.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct GatewayStopped {}

/// Somebody with the right to do so ended a session.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct SessionKilled {
    /// The session.
    #[cbor(n(0), with = "crate::cbor::uuid")]
    pub session: Uuid,
    /// Who ended it.
    #[n(1)]
    pub by: String,
    /// What they gave as the reason; may be empty.
    #[n(2)]
    pub reason: String,
}

/// A person or a workspace was locked: its open sessions end, and there are no new ones.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct Locked {
    /// `user` or `workspace`.
    #[n(0)]
    pub kind: String,
    /// Whom or what.
    #[n(1)]
    pub name: String,
    /// Who locked.
    #[n(2)]
    pub by: String,
    /// What they gave as the reason; may be empty.
    #[n(3)]
    pub reason: String,
}

/// A lock was taken away.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct Unlocked {
    /// `user` or `workspace`.
    #[n(0)]
    pub kind: String,
    /// Whom or what.
    #[n(1)]
    pub name: String,
    /// Who unlocked.
    #[n(2)]
    pub by: String,
}

/// Open sessions cannot be checked again, because an identity provider does not answer. They go on. Written once
/// for each outage.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct RecheckSuspended {
    /// The issuer.
    #[n(0)]
    pub issuer: String,
    /// Why, for operators.
    #[n(1)]
    pub why: String,
}

/// The identity provider said that somebody was logged out (OpenID Connect Back-Channel Logout 1.0).
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct LoggedOut {
    /// The issuer.
    #[n(0)]
    pub issuer: String,
    /// Its own name for the person, if it said one.
    #[n(1)]
    pub subject: Option<String>,
    /// Its name for their login there, if it said one.
    #[n(2)]
    pub login_session: Option<String>,
    /// How many open sessions were ended by that.
    #[n(3)]
    pub sessions: u64,
}

/// Somebody was let in because recordings could not be stored, for a reason that they gave.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct BreakGlass {
    /// The session.
    #[cbor(n(0), with = "crate::cbor::uuid")]
    pub session: Uuid,
    /// Who.
    #[n(1)]
    pub user: String,
    /// Where.
    #[n(2)]
    pub workspace: String,
    /// Why, in their own words.
    #[n(3)]
    pub reason: String,
}

/// A recording was closed, and the agent's claim of the SSH ciphertext was compared with the gateway's own count.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct Reconciled {
    /// The session.
    #[cbor(n(0), with = "crate::cbor::uuid")]
    pub session: Uuid,
    /// From the client, as the agent claims, in bytes.
    #[n(1)]
    pub agent_client_bytes: u64,
    /// From the agent, as the agent claims, in bytes.
    #[n(2)]
    pub agent_agent_bytes: u64,
    /// From the client, as the gateway counted, in bytes.
    #[n(3)]
    pub gateway_client_bytes: u64,
    /// From the agent, as the gateway counted, in bytes.
    #[n(4)]
    pub gateway_agent_bytes: u64,
    /// Whether they tell the same, but for what may have been under way.
    #[n(5)]
    pub agree: bool,
}

/// A checkpoint of the log was attested by something outside.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct Anchored {
    /// Which log.
    #[n(0)]
    pub log: String,
    /// Its leaves.
    #[n(1)]
    pub size: u64,
    /// SHA-256 of the attestation.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub sha256: [u8; 32],
    /// Length of the attestation in bytes.
    #[n(3)]
    pub bytes: u64,
}

/// A recording was deleted, because it need not be kept any longer.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct RecordingDeleted {
    /// The session.
    #[cbor(n(0), with = "crate::cbor::uuid")]
    pub session: Uuid,
    /// Why: `expired`.
    #[n(1)]
    pub why: String,
    /// Until when it had to be kept, Unix milliseconds.
    #[n(2)]
    pub keep_until: u64,
    /// Link at its end.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub link: [u8; 32],
}

/// The gateway's clock says another time than what has passed since it was last believed; recordings are not deleted by it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct ClockDoubted {
    /// What the clock says, Unix milliseconds.
    #[n(0)]
    pub clock: u64,
    /// What is believed, Unix milliseconds.
    #[n(1)]
    pub believed: u64,
    /// How many recordings are kept that would be deleted by that clock.
    #[n(2)]
    pub held_back: u64,
}

/// The gateway's clock is believed again, and recordings are deleted by it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct ClockBelieved {
    /// What the clock says, Unix milliseconds.
    #[n(0)]
    pub clock: u64,
    /// What was believed until then, Unix milliseconds.
    #[n(1)]
    pub believed: u64,
    /// Why: `agrees`, `confirmed`.
    #[n(2)]
    pub why: String,
}

/// Somebody with the right to do so had a recording held: nobody may delete it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct HoldPlaced {
    /// The session.
    #[cbor(n(0), with = "crate::cbor::uuid")]
    pub session: Uuid,
    /// Who.
    #[n(1)]
    pub by: String,
    /// Why.
    #[n(2)]
    pub reason: String,
}

/// Somebody who may enter a sleeping workspace had it woken.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct WorkspaceWoken {
    /// Who.
    #[n(0)]
    pub user: String,
    /// Name of the workspace.
    #[n(1)]
    pub workspace: String,
    /// How: `scale`, `annotation` or `http`.
    #[n(2)]
    pub how: String,
    /// Where they came from.
    #[n(3)]
    pub client_address: String,
}

/// Somebody who may enter a workspace asked that it be left awake for some time.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct WorkspaceKept {
    /// Who.
    #[n(0)]
    pub user: String,
    /// Name of the workspace.
    #[n(1)]
    pub workspace: String,
    /// Which life of it.
    #[n(2)]
    pub workspace_uid: String,
    /// Until when, Unix milliseconds.
    #[n(3)]
    pub until: u64,
    /// Where they came from.
    #[n(4)]
    pub client_address: String,
}

/// Somebody who may enter a workspace asked that it be left awake no longer.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct KeepReleased {
    /// Who.
    #[n(0)]
    pub user: String,
    /// Name of the workspace.
    #[n(1)]
    pub workspace: String,
    /// Which life of it.
    #[n(2)]
    pub workspace_uid: String,
    /// Where they came from.
    #[n(3)]
    pub client_address: String,
}

/// The user of a session was told that it ends soon.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct EndAnnounced {
    /// The session.
    #[cbor(n(0), with = "crate::cbor::uuid")]
    pub session: Uuid,
    /// When it ends, Unix milliseconds.
    #[n(1)]
    pub ends: u64,
    /// Of what: `longest` or `up-time`.
    #[n(2)]
    pub why: String,
}

/// A hold was taken away.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct HoldReleased {
    /// The session.
    #[cbor(n(0), with = "crate::cbor::uuid")]
    pub session: Uuid,
    /// Who.
    #[n(1)]
    pub by: String,
}

/// An object of the cluster (`WorkspaceAccess`) lent some of what a session was granted. One for each such object.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct AccessLent {
    /// The session.
    #[cbor(n(0), with = "crate::cbor::uuid")]
    pub session: Uuid,
    /// The object's namespace.
    #[n(1)]
    pub namespace: String,
    /// Its name.
    #[n(2)]
    pub name: String,
    /// Its uid.
    #[n(3)]
    pub uid: String,
    /// Which generation of it was heard.
    #[n(4)]
    pub generation: u64,
    /// The role of the policy that it lends.
    #[n(5)]
    pub role: String,
}
