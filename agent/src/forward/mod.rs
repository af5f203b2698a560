//! Forwards: connections through channels, in both directions, and what the workspace listens on for the user.
//!
//! A callback asks [`Forwards`] whether something may be tried and hands it to a task; the task judges what the name
//! or path came out as, connects to exactly that, records it, and only then lets bytes pass. What is connected or
//! listened on is done with the login's rights.

mod bind;
mod carry;
mod cookie;
mod dial;
mod direct;
mod extras;
mod folder;
mod incoming;
mod judge;
mod levels;
mod listen;
mod never;
mod resolve;
mod socket;

use std::path::PathBuf;
use std::sync::Arc;

use doorward_certs::Terms;
use russh::ChannelOpenFailure;
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore};

pub(crate) use direct::{Opening, Target, direct};
pub(crate) use extras::{Display, extras};
pub(crate) use folder::sweep;
pub(crate) use levels::Levels;
pub(crate) use listen::{Key, Reason, cancel, listen_path, listen_port};
pub(crate) use never::Never;

use extras::Agent;
use judge::{Asked, Destinations};
use listen::Listeners;
use socket::Sockets;

use crate::ssh::{NOT_GRANTED, Why};

/// What one connection may forward, and what it forwards now.
#[derive(Debug)]
pub(crate) struct Forwards {
    destinations: Destinations,
    sockets: Sockets,
    never: Never,
    places: Arc<Semaphore>,
    levels: Levels,
    listeners: Listeners,
    agent: Agent,
    folder: OnceCell<PathBuf>,
}

/// One of the forwarded connections that a client may have at a time.
#[derive(Debug)]
pub(crate) struct Place(#[expect(dead_code, reason = "held, and given back by dropping it")] OwnedSemaphorePermit);

impl Forwards {
    /// What these terms grant.
    pub(crate) fn new(terms: &Terms, home: &std::path::Path, never: Never) -> Self {
        let patterns = &terms.capabilities.local_forward;
        Self {
            destinations: Destinations::new(patterns),
            sockets: Sockets::new(patterns, home),
            never,
            places: Arc::new(Semaphore::new(PLACES)),
            levels: Levels::default(),
            listeners: Listeners::default(),
            agent: Agent::default(),
            folder: OnceCell::new(),
        }
    }

    /// What the client wants to reach, if it could be granted at all.
    pub(crate) fn host(&self, host: &str, port: u32) -> Result<Target, Why> {
        if self.destinations.is_empty() {
            return Err(NOT_GRANTED);
        }
        let asked = Asked::new(host, port)?;
        match self.destinations.may(&asked) {
            true => Ok(Target::Host(asked)),
            false => Err(NOT_GRANTED),
        }
    }

    /// The same for the path of a socket.
    pub(crate) fn path(&self, path: &str) -> Result<Target, Why> {
        if self.sockets.is_empty() {
            return Err(NOT_GRANTED);
        }
        socket::path(path).map(Target::Socket)
    }

    /// Levels of channels that the agent opens.
    pub(crate) fn levels(&self) -> &Levels {
        &self.levels
    }

    /// A place for one more connection.
    pub(crate) fn place(&self) -> Result<Place, Why> {
        let place = Arc::clone(&self.places).try_acquire_owned();
        place.map(Place).map_err(|_| TOO_MANY)
    }
}

/// An answer to a channel that is not opened: the client shows its user the sentence.
pub(crate) fn refusal(why: Why) -> ChannelOpenFailure {
    let kind = match why {
        TOO_MANY => ChannelOpenFailure::ResourceShortage,
        _ => ChannelOpenFailure::AdministrativelyProhibited,
    };
    failure(&kind, why.to_owned())
}

fn failure(kind: &ChannelOpenFailure, reason: String) -> ChannelOpenFailure {
    ChannelOpenFailure::Other {
        code: kind.code(),
        reason,
    }
}

/// What a client named, cut to a length that a record bears.
pub(crate) fn shown(text: &str) -> &str {
    text.get(..text.floor_char_boundary(SHOWN)).unwrap_or_default()
}

const TOO_MANY: Why = "too many forwarded connections are open";
/// Forwarded connections of one client at once.
const PLACES: usize = 256;
const SHOWN: usize = 256;
