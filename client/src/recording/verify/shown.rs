//! The log that a gateway shows: its checkpoint judged, compared with what is remembered, and asked about sessions.

use doorward_audit::log::{
    Checkpoint, CheckpointError, Frontier, Hash, Known, Leaf, Ledger, Reached, TreeHead, leaf_hash, verify_inclusion,
};
use doorward_audit::{Trust, unhex};
use uuid::Uuid;

use super::class::Class;
use super::found::{Item, What};
use super::memory::Memory;
use crate::error::Error;
use crate::gateway::{Anchor, Gateway, ProvedLeaf};
use crate::pass::Pass;

/// The most leaves of one session that are taken.
const MOST_OF_SESSION: usize = 100_000;

/// A log that is not to be trusted is not asked any more.
#[derive(Debug)]
pub(super) struct Shown {
    checkpoint: Option<Checkpoint>,
    size: u64,
    name: String,
    class: Class,
    findings: Vec<String>,
    notes: Vec<String>,
}

impl Shown {
    /// Asks for the checkpoint and compares it with what is remembered; a good one is remembered from now on.
    pub(super) async fn look(
        gateway: &Gateway,
        pass: &Pass,
        trust: &Trust,
        memory: &mut Memory,
    ) -> Result<Option<Self>, Error> {
        let base = gateway.base().as_str();
        let mut shown = Self {
            checkpoint: None,
            size: 0,
            name: format!("the log of {}", gateway.whom()),
            class: Class::Complete,
            findings: Vec::new(),
            notes: Vec::new(),
        };
        let Some(line) = gateway.checkpoint(pass).await? else {
            if !memory.knows(base) {
                return Ok(None);
            }
            shown.find(
                Class::Missing,
                "the gateway shows no log any more; it did before".to_owned(),
            );
            return Ok(Some(shown));
        };
        match shown.judge(gateway, pass, trust, memory, &line).await {
            Ok(checkpoint) => {
                memory.keep(base, &checkpoint);
                shown.checkpoint = Some(checkpoint);
            }
            Err(Trouble::Log(error)) => {
                let class = match error {
                    CheckpointError::Untrusted(_) => Class::Untrusted,
                    CheckpointError::RolledBack { .. } | CheckpointError::Forked(_) => Class::Missing,
                    CheckpointError::Malformed(_) | CheckpointError::BadSignature => Class::Bad,
                };
                shown.find(class, error.to_string());
            }
            Err(Trouble::Other(error)) => return Err(error),
        }
        Ok(Some(shown))
    }

    async fn judge(
        &mut self,
        gateway: &Gateway,
        pass: &Pass,
        trust: &Trust,
        memory: &Memory,
        line: &str,
    ) -> Result<Checkpoint, Trouble> {
        let checkpoint = Checkpoint::parse(line)?;
        let said = checkpoint.statement();
        self.name.clone_from(&said.origin);
        self.size = said.head.size;
        checkpoint.judge(&trust.gateway_key)?;
        for other in memory.others(gateway.base().as_str(), &said.origin) {
            self.notes.push(format!(
                "this gateway has also shown {other}: another replica, or it has a new key or has lost its log"
            ));
        }
        let Some(known) = memory.of(&said.origin) else {
            self.notes
                .push("seen for the first time: that nothing was taken away before cannot be told".to_owned());
            return Ok(checkpoint);
        };
        if let Reached::Grown(from, to) = checkpoint.after(&known)?
            && from > 0
        {
            let proof = gateway.consistency(pass, from, to).await.map_err(Trouble::Other)?;
            let proof = hashes(&proof).ok_or(CheckpointError::Forked(from))?;
            checkpoint.grew_from(&known, &proof)?;
        }
        Ok(checkpoint)
    }

    fn find(&mut self, class: Class, text: String) {
        self.class = self.class.max(class);
        self.findings.push(text);
    }

    pub(super) fn note(&mut self, text: &str) {
        self.notes.push(text.to_owned());
    }

    /// The log's name, if it is to be trusted.
    pub(super) fn origin(&self) -> Option<String> {
        self.checkpoint
            .as_ref()
            .map(|checkpoint| checkpoint.statement().origin.clone())
    }

    fn head(&self) -> Option<TreeHead> {
        self.checkpoint.as_ref().map(|checkpoint| checkpoint.statement().head)
    }

    /// The leaves about a session with their proofs, each checked; none from a log that is not to be trusted.
    pub(super) async fn leaves_of(
        &mut self,
        gateway: &Gateway,
        pass: &Pass,
        session: Uuid,
    ) -> Result<Vec<ProvedLeaf>, Error> {
        let mut all = Vec::new();
        let Some(head) = self.head() else { return Ok(all) };
        let mut from = 0;
        while from < head.size && all.len() < MOST_OF_SESSION {
            let page = gateway.session_leaves(pass, session, from, head.size).await?;
            let Some(last) = page.last() else { break };
            if page.iter().any(|leaf| leaf.index < from) || page.windows(2).any(|two| two[0].index >= two[1].index) {
                self.find(Class::Bad, format!("the leaves about {session} come out of order"));
                break;
            }
            from = last.index + 1;
            for leaf in page {
                match proved(&leaf, session, &head) {
                    Ok(()) => all.push(leaf),
                    Err(text) => self.find(Class::Bad, format!("leaf {}: {text}", leaf.index)),
                }
            }
        }
        Ok(all)
    }

    /// What proves a session: against the newest checkpoint that somebody outside has attested, if that has all of it, or else
    /// against the newest of all.
    pub(super) async fn proof_of(
        &mut self,
        gateway: &Gateway,
        pass: &Pass,
        trust: &Trust,
        session: Uuid,
    ) -> Result<Option<SessionProof>, Error> {
        let Some(checkpoint) = self.checkpoint.clone() else {
            return Ok(None);
        };
        let leaves = self.leaves_of(gateway, pass, session).await?;
        let last = leaves.last().map_or(0, |leaf| leaf.index);
        let anchored = gateway.anchor(pass).await?.and_then(|anchor| {
            let attested = Checkpoint::parse(&anchor.checkpoint.to_string()).ok()?;
            let said = attested.statement();
            let ours = said.origin == checkpoint.statement().origin && said.head.size > last;
            (ours && attested.judge(&trust.gateway_key).is_ok()).then_some((attested, anchor))
        });
        let Some((attested, anchor)) = anchored else {
            return Ok(Some(SessionProof {
                checkpoint,
                leaves,
                anchor: None,
            }));
        };
        let newest = self.checkpoint.replace(attested.clone());
        let leaves = self.leaves_of(gateway, pass, session).await;
        self.checkpoint = newest;
        Ok(Some(SessionProof {
            checkpoint: attested,
            leaves: leaves?,
            anchor: Some(anchor),
        }))
    }

    /// What the log says of a session.
    pub(super) async fn known(&mut self, gateway: &Gateway, pass: &Pass, session: Uuid) -> Result<Known, Error> {
        let leaves = self.leaves_of(gateway, pass, session).await?;
        let mut known = Known::default();
        for leaf in leaves.iter().filter_map(|leaf| Leaf::parse(&leaf.leaf).ok()) {
            known.take(&leaf.kind);
        }
        Ok(known)
    }

    /// The whole log, read and hashed; nothing where the gateway does not give it to this person.
    pub(super) async fn ledger(&mut self, gateway: &Gateway, pass: &Pass) -> Result<Option<Ledger>, Error> {
        let Some(head) = self.head() else { return Ok(None) };
        let (mut ledger, mut frontier) = (Ledger::default(), Frontier::default());
        while frontier.size() < head.size {
            let leaves = match gateway.leaves(pass, frontier.size(), head.size).await {
                Ok(leaves) => leaves,
                Err(Error::Refused(problem)) if problem.status == 403 => return Ok(None),
                Err(error) => return Err(error),
            };
            if leaves.is_empty() || frontier.size() + leaves.len() as u64 > head.size {
                break;
            }
            for text in &leaves {
                frontier.add(text.as_bytes(), |_| {});
                if let Ok(leaf) = Leaf::parse(text) {
                    ledger.take(&leaf);
                }
            }
        }
        if frontier.size() != head.size || frontier.root() != head.root {
            self.find(
                Class::Bad,
                "the leaves that the gateway gives are not those that it signed".to_owned(),
            );
        }
        Ok(Some(ledger))
    }

    pub(super) fn into_item(self) -> Item {
        Item {
            name: self.name,
            class: self.class,
            what: What::Log {
                size: self.size,
                findings: self.findings,
                notes: self.notes,
            },
        }
    }
}

/// The leaves about a session, with a checkpoint that has them.
#[derive(Debug)]
pub(super) struct SessionProof {
    pub(super) checkpoint: Checkpoint,
    pub(super) leaves: Vec<ProvedLeaf>,
    pub(super) anchor: Option<Anchor>,
}

enum Trouble {
    /// The log is wrong.
    Log(CheckpointError),
    /// It could not be asked.
    Other(Error),
}

impl From<CheckpointError> for Trouble {
    fn from(error: CheckpointError) -> Self {
        Self::Log(error)
    }
}

/// Whether a leaf about this session is proved to be in the log.
pub(super) fn proved(leaf: &ProvedLeaf, session: Uuid, head: &TreeHead) -> Result<(), String> {
    let proof = hashes(&leaf.proof).ok_or("its proof is none")?;
    verify_inclusion(
        &leaf_hash(leaf.leaf.as_bytes()),
        leaf.index,
        head.size,
        &head.root,
        &proof,
    )
    .map_err(|error| error.to_string())?;
    let of = Leaf::parse(&leaf.leaf)
        .map_err(|error| error.to_string())?
        .kind
        .session();
    if of == Some(session) {
        Ok(())
    } else {
        Err("it is about something else".to_owned())
    }
}

fn hashes(texts: &[String]) -> Option<Vec<Hash>> {
    texts.iter().map(|text| unhex(text)).collect()
}
