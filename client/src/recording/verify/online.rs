//! Verification of what a gateway has: the log first, so that the recordings must reach what it says.

use std::collections::BTreeSet;
use std::path::Path;

use doorward_audit::log::{Fate, Known, Leaf, Ledger};
use doorward_audit::{MAX_TOMBSTONE, Options, TOMBSTONE_NAME, Trust, verify_with};
use uuid::Uuid;

use super::bundle::{Contents, write};
use super::found::Item;
use super::memory::Memory;
use super::shown::Shown;
use super::stone::{Logs, judge};
use crate::error::Error;
use crate::gateway::{CaLines, Gateway, Wanted};
use crate::home::Home;
use crate::home::settings::Settings;
use crate::pass::Pass;
use crate::recording::Recording;
use crate::{login, say};

/// As many sessions as the gateway lists at once.
const MOST_LISTED: usize = 1000;

/// A gateway that is asked, and its log.
pub(super) struct Online<'a> {
    home: &'a Home,
    settings: Settings,
    gateway: Gateway,
    pass: Pass,
    pub(super) log: Option<Shown>,
    /// The whole log, where it was asked for.
    ledger: Option<Ledger>,
    trust: &'a Trust,
    allow_open: bool,
}

impl<'a> Online<'a> {
    pub(super) async fn new(
        home: &'a Home,
        trust: &'a Trust,
        memory: &mut Memory,
        allow_open: bool,
    ) -> Result<Self, Error> {
        let settings = Settings::read(home)?;
        let gateway = Gateway::configured(home, &settings)?;
        let pass = login::pass(home, &settings).await?;
        let log = Shown::look(&gateway, &pass, trust, memory).await?;
        Ok(Self {
            home,
            settings,
            gateway,
            pass,
            log,
            ledger: None,
            trust,
            allow_open,
        })
    }

    /// Every session that the person may see, and every one that the log names where they may see all.
    pub(super) async fn all(&mut self, mut on: impl FnMut(Item) -> Result<(), Error>) -> Result<(), Error> {
        self.read_ledger().await?;
        let wanted = Wanted {
            limit: Some(MOST_LISTED),
            ..Wanted::default()
        };
        let listed = self.gateway.sessions(&self.pass, &wanted).await?;
        let mut sessions: BTreeSet<Uuid> = listed.iter().map(|one| one.session).collect();
        match (&self.ledger, &mut self.log) {
            (Some(ledger), _) => sessions.extend(ledger.sessions().map(|(session, _)| session)),
            (None, Some(log)) => {
                log.note("only your own view: sessions that are gone altogether show to who may see every recording");
                if listed.len() == MOST_LISTED {
                    log.note("only the newest 1000 sessions were looked at");
                }
            }
            (None, None) => {}
        }
        let count = sessions.len();
        for (number, session) in (1..).zip(sessions) {
            say::step(&format!("session {number} of {count}"));
            let item = self.one_of_many(session).await?;
            say::step("");
            item.map_or(Ok(()), &mut on)?;
        }
        say::step("");
        Ok(())
    }

    /// One that the gateway cannot give must not hide what is wrong with the others.
    pub(super) async fn one_of_many(&mut self, session: Uuid) -> Result<Option<Item>, Error> {
        match self.long_session(session).await {
            Err(Error::Refused(problem)) if problem.status != 401 => {
                Ok(Some(Item::not_given(session, &Error::Refused(problem))))
            }
            other => other,
        }
    }

    /// Thousands of sessions take longer than a token lives.
    async fn long_session(&mut self, session: Uuid) -> Result<Option<Item>, Error> {
        match self.session(session).await {
            Err(Error::Refused(problem)) if problem.status == 401 => {
                self.pass = login::pass_in_place(self.home, &self.settings, &self.pass).await?;
                self.session(session).await
            }
            other => other,
        }
    }

    /// One session; nothing where the log says that there was never anything.
    pub(super) async fn session(&mut self, session: Uuid) -> Result<Option<Item>, Error> {
        let known = match self.known(session).await {
            Ok(known) => known,
            Err(Error::Refused(problem)) if problem.status == 404 => {
                return self.gone(session, problem).await.map(Some);
            }
            Err(error) => return Err(error),
        };
        match known.fate() {
            Fate::Nothing => return Ok(None),
            Fate::Deleted(_) => return self.buried(session, &known).await.map(Some),
            Fate::Recorded => {}
        }
        let recording = match Recording::fetch(&self.gateway, &self.pass, session).await {
            Ok(recording) => recording,
            Err(Error::Refused(problem)) if problem.status == 404 => {
                return self.gone(session, problem).await.map(Some);
            }
            Err(error) => return Err(error),
        };
        let report = verify_with(
            recording.folder(),
            self.trust,
            &options(session, &known, self.allow_open),
        );
        Ok(Some(Item::recording(session.to_string(), report)))
    }

    /// Verifies one session and writes it with all that proves it into one file.
    pub(super) async fn bundle(&mut self, session: Uuid, keys: &CaLines, file: &Path) -> Result<Item, Error> {
        let no_log = || {
            Error::Recording(
                "the gateway shows no log that could be trusted, so that there is nothing to bundle".to_owned(),
            )
        };
        let log = self.log.as_mut().ok_or_else(no_log)?;
        let proof = log
            .proof_of(&self.gateway, &self.pass, self.trust, session)
            .await?
            .ok_or_else(no_log)?;
        let mut known = Known::default();
        for leaf in proof.leaves.iter().filter_map(|leaf| Leaf::parse(&leaf.leaf).ok()) {
            known.take(&leaf.kind);
        }
        let recording = Recording::fetch(&self.gateway, &self.pass, session).await?;
        let report = verify_with(
            recording.folder(),
            self.trust,
            &options(session, &known, self.allow_open),
        );
        let contents = Contents {
            session,
            folder: recording.folder(),
            checkpoint: &proof.checkpoint,
            leaves: &proof.leaves,
            keys,
            anchor: proof.anchor.as_ref(),
        };
        write(file, &contents)?;
        Ok(Item::recording(session.to_string(), report))
    }

    async fn known(&mut self, session: Uuid) -> Result<Known, Error> {
        if let Some(ledger) = &self.ledger {
            return Ok(ledger.of(session).cloned().unwrap_or_default());
        }
        match &mut self.log {
            Some(log) => log.known(&self.gateway, &self.pass, session).await,
            None => Ok(Known::default()),
        }
    }

    /// A session that the gateway does not have, or does not show to this person: the log tells, where they may read it.
    async fn gone(&mut self, session: Uuid, problem: crate::http::Problem) -> Result<Item, Error> {
        self.read_ledger().await?;
        let known = self.ledger.as_ref().and_then(|ledger| ledger.of(session)).cloned();
        match known {
            Some(known) if known.fate() != Fate::Nothing => self.buried(session, &known).await,
            _ => match self.tombstone(session).await? {
                // Another gateway's log may have it.
                Some(text) => Ok(self.judged(session, Some(&text), &Known::default())),
                None => Err(Error::Refused(problem)),
            },
        }
    }

    /// A session of which nothing but a tombstone may be there.
    async fn buried(&self, session: Uuid, known: &Known) -> Result<Item, Error> {
        match self.tombstone(session).await {
            Ok(text) => Ok(self.judged(session, text.as_deref(), known)),
            // One that the gateway cannot read must not hide what is wrong with the others.
            Err(Error::Refused(problem)) if problem.status != 401 => {
                Ok(Item::not_given(session, &Error::Refused(problem)))
            }
            Err(error) => Err(error),
        }
    }

    fn judged(&self, session: Uuid, text: Option<&[u8]>, known: &Known) -> Item {
        // A log of which nothing about this session can be read says nothing by that.
        let read = self.ledger.is_some() || *known != Known::default();
        let origins = self.log.iter().filter(|_| read).filter_map(Shown::origin).collect();
        let logs = Logs {
            known,
            origins: &origins,
        };
        judge(session.to_string(), session, text, &logs, self.trust)
    }

    /// What stands in place of the recording, if the gateway has that.
    async fn tombstone(&self, session: Uuid) -> Result<Option<Vec<u8>>, Error> {
        let mut text = Vec::new();
        let read = self.gateway.file(&self.pass, session, TOMBSTONE_NAME, |part| {
            // One byte too many is enough to be refused.
            let room = (MAX_TOMBSTONE + 1).saturating_sub(text.len());
            text.extend_from_slice(part.get(..room).unwrap_or(part));
            Ok(())
        });
        match read.await {
            Ok(()) => Ok(Some(text)),
            Err(Error::Refused(problem)) if problem.status == 404 => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn read_ledger(&mut self) -> Result<(), Error> {
        if self.ledger.is_none()
            && let Some(log) = &mut self.log
        {
            self.ledger = log.ledger(&self.gateway, &self.pass).await?;
        }
        Ok(())
    }
}

/// What the log says is what the recording must reach.
pub(super) fn options(session: Uuid, known: &Known, allow_open: bool) -> Options {
    Options {
        allow_open,
        session: Some(session),
        anchors: known.anchors.clone(),
        receipts: known.receipts.clone(),
    }
}
