//! Verification of a recording that lies in a directory, offline: files and public keys alone.

mod ending;
mod receipts;
mod tally;
mod walk;

use std::path::Path;

use ssh_key::PublicKey;
use uuid::Uuid;

use crate::{fault::Fault, index::Outcome, receipt::Statement, reconcile::Reconciliation};

/// Judges an agent's host certificate (SSH wire blob) at a time in Unix milliseconds.
pub type JudgeAgent = Box<dyn Fn(&[u8], u64) -> Result<PublicKey, String>>;
/// Judges a gateway's certificate (OpenSSH text) at a time in Unix milliseconds.
pub type JudgeGateway = Box<dyn Fn(&str, u64) -> Result<PublicKey, String>>;

/// Who may sign: the caller judges certificates, for this crate knows no authority.
pub struct Trust {
    /// The key of a trusted host certificate, or why it is not trusted.
    pub agent_key: JudgeAgent,
    /// The key of a trusted link certificate, or why it is not trusted.
    pub gateway_key: JudgeGateway,
}

/// What is known from elsewhere of how far a recording went, from the gateway's journal for
/// example.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Anchor {
    /// Sequence number of a block.
    pub seq: u64,
    /// The link after it.
    pub link: [u8; 32],
}

/// How strict a verification is.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Whether a recording without its closing receipt is as it should be: its session is open.
    pub allow_open: bool,
    /// The session that it must be.
    pub session: Option<Uuid>,
    /// Places that it must reach.
    pub anchors: Vec<Anchor>,
    /// SHA-256 of receipts that must stand beside it, of each line without its line feed.
    pub receipts: Vec<[u8; 32]>,
}

/// One thing that is wrong.
pub type Finding = Fault;

/// The sum of a verification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Whole and closed.
    Complete,
    /// Everything that was stored is whole, but the recording ended without its last head.
    Abnormal,
    /// Whole so far, and open, which was allowed.
    Open,
    /// Not to be trusted; the findings say why.
    Bad,
}

/// What a verification found.
#[derive(Debug, Clone)]
pub struct Report {
    /// Whether there are no findings.
    pub ok: bool,
    /// What is wrong, the first place first.
    pub findings: Vec<Finding>,
    /// Which session it is.
    pub session: Option<Uuid>,
    /// Whether it is no session's, but a gateway's journal.
    pub is_journal: bool,
    /// Blocks that were checked.
    pub blocks: u64,
    /// Bytes that were checked.
    pub bytes: u64,
    /// How the recording ended, from its closing receipt.
    pub outcome: Option<Outcome>,
    /// The agent's claim of the ciphertext against the gateway's count, where the recording has both.
    pub reconciliation: Option<Reconciliation>,
    /// Its last closing receipt.
    pub closing: Option<Statement>,
    /// Observations that are no fault.
    pub notes: Vec<String>,
}

impl Report {
    /// The sum.
    pub fn verdict(&self) -> Verdict {
        match self.outcome {
            _ if !self.ok => Verdict::Bad,
            Some(Outcome::Complete) => Verdict::Complete,
            Some(Outcome::Abnormal) => Verdict::Abnormal,
            None => Verdict::Open,
        }
    }
}

/// Verifies the recording in a directory. If the directory is named for a session, as in the
/// gateway's store, it must be that session.
pub fn verify(dir: &Path, trust: &Trust) -> Report {
    let name = dir.file_name().and_then(|name| name.to_str());
    let session = name.and_then(|name| Uuid::try_parse(name).ok());
    verify_with(
        dir,
        trust,
        &Options {
            session,
            ..Options::default()
        },
    )
}

/// Verifies the recording in a directory as strictly as `options` say. It reads the segments and
/// the receipts there and nothing else; other files may lie beside them.
pub fn verify_with(dir: &Path, trust: &Trust, options: &Options) -> Report {
    walk::Walk::new(trust, options).directory(dir)
}
