//! The sessions that are open now: how many there may be, whose they are, and how one is ended.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::watch;
use uuid::Uuid;

use super::Standing;
use crate::guarded::Guarded;
use crate::metrics;
use crate::oidc::{BearerToken, Identity};
use crate::refusal::{Refusal, RefusalCode};
use crate::workspace::{Directory, Stop};

/// How many sessions there may be at once.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Of all people together.
    pub all: usize,
    /// Of one person.
    pub per_user: usize,
}

/// A session that is open.
#[derive(Debug, Clone)]
pub struct Live {
    /// The session.
    pub session: Uuid,
    /// Who.
    pub user: String,
    /// Where.
    pub workspace: String,
    /// Since when.
    pub since: SystemTime,
}

/// All open sessions. Clones are the same list.
#[derive(Clone)]
pub struct Sessions(Arc<Inner>);

struct Inner {
    limits: Limits,
    table: Guarded<Table>,
}

#[derive(Default)]
struct Table {
    live: BTreeMap<Uuid, Entry>,
    of_user: HashMap<String, usize>,
}

struct Entry {
    about: Live,
    standing: Option<Arc<Standing>>,
    kill: watch::Sender<Option<Dismissal>>,
    stops: watch::Sender<Option<Stop>>,
}

/// Why a session is ended by the gateway, with the sentence for its user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dismissal {
    /// Somebody with the right to do so ended it.
    Killed(String),
    /// Its person or its workspace was locked.
    Locked(String),
    /// What it was opened for is not granted any more.
    Revoked(String),
    /// The workspace's life is over.
    Over(String),
}

impl Sessions {
    /// An empty list with these limits.
    pub fn new(limits: Limits) -> Self {
        Self(Arc::new(Inner {
            limits,
            table: Guarded::default(),
        }))
    }

    /// The open sessions, oldest first.
    pub fn live(&self) -> Vec<Live> {
        self.0
            .table
            .with(|table| table.live.values().map(|entry| entry.about.clone()).collect())
    }

    /// An open session.
    pub fn find(&self, session: Uuid) -> Option<Live> {
        self.0
            .table
            .with(|table| table.live.get(&session).map(|entry| entry.about.clone()))
    }

    /// Ends a session with a sentence for its user; whether it was open. The first dismissal stays.
    pub fn dismiss(&self, session: Uuid, why: &Dismissal) -> bool {
        self.0.table.with(|table| match table.live.get(&session) {
            Some(entry) => {
                entry.kill.send_if_modified(|said| match said {
                    Some(_) => false,
                    None => {
                        *said = Some(why.clone());
                        true
                    }
                });
                true
            }
            None => false,
        })
    }

    /// Tells a session when its workspace is stopped, as the directory knows it now. Whoever comes last has the newest word.
    pub(crate) fn follow_stop(&self, session: Uuid, directory: &Directory) {
        self.0.table.with(|table| {
            let Some(entry) = table.live.get(&session) else { return };
            let Some(standing) = &entry.standing else { return };
            let stop = directory
                .find(&standing.grant().workspace().name)
                .and_then(|workspace| workspace.notes.stop.clone());
            entry.stops.send_if_modified(|known| {
                let changed = *known != stop;
                *known = stop;
                changed
            });
        });
    }

    /// With what an open session was told to end, if it was.
    #[cfg(test)]
    pub(crate) fn dismissal(&self, session: Uuid) -> Option<Dismissal> {
        self.0
            .table
            .with(|table| table.live.get(&session)?.kill.borrow().clone())
    }

    /// What an open session stands on; nothing while it is being opened.
    pub(crate) fn standing(&self, session: Uuid) -> Option<Arc<Standing>> {
        self.0.table.with(|table| table.live.get(&session)?.standing.clone())
    }

    /// What every open session stands on, oldest first.
    pub(crate) fn standings(&self) -> Vec<(Uuid, Arc<Standing>)> {
        self.0.table.with(|table| {
            let all = table.live.iter();
            all.filter_map(|(id, entry)| Some((*id, Arc::clone(entry.standing.as_ref()?))))
                .collect()
        })
    }

    /// Takes newer word of a session's person, unless what there is was issued later.
    pub(crate) fn renew(&self, session: Uuid, identity: Identity, token: Option<BearerToken>) {
        self.0.table.with(|table| {
            if let Some(entry) = table.live.get_mut(&session)
                && let Some(standing) = &entry.standing
            {
                entry.standing = Some(Arc::new(standing.renewed(identity, token)));
            }
        });
    }

    /// Takes a seat for a session of a person in a workspace.
    ///
    /// # Errors
    /// When all seats, or all of this person's, are taken.
    pub(super) fn enter(&self, session: Uuid, user: &str, workspace: &str) -> Result<Seat, Refusal> {
        let limits = self.0.limits;
        let (killed, stops) = self.0.table.with(|table| {
            if table.live.len() >= limits.all {
                return Err(Refusal::new(
                    RefusalCode::Overloaded,
                    "the gateway has as many sessions as it may have",
                )
                .with_detail(format!("limit of all sessions: {}", limits.all)));
            }
            let mine = table.of_user.entry(user.to_owned()).or_default();
            if *mine >= limits.per_user {
                return Err(Refusal::too_many(format!(
                    "you have {mine} sessions open, and may have no more"
                )));
            }
            *mine += 1;
            let about = Live {
                session,
                user: user.to_owned(),
                workspace: workspace.to_owned(),
                since: SystemTime::now(),
            };
            let (kill, killed) = watch::channel(None);
            let (tell, stops) = watch::channel(None);
            let entry = Entry {
                about,
                standing: None,
                kill,
                stops: tell,
            };
            table.live.insert(session, entry);
            metrics::sessions(table.live.len());
            Ok((killed, stops))
        })?;
        Ok(Seat {
            session,
            sessions: self.clone(),
            killed,
            stops,
        })
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sessions({})", self.0.table.with(|table| table.live.len()))
    }
}

/// A session's place in the list, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    session: Uuid,
    sessions: Sessions,
    killed: watch::Receiver<Option<Dismissal>>,
    stops: watch::Receiver<Option<Stop>>,
}

impl Seat {
    /// Says what the session stands on: from here on it is looked at again.
    pub(super) fn stands_on(&self, standing: Standing) {
        self.sessions.0.table.with(|table| {
            if let Some(entry) = table.live.get_mut(&self.session) {
                entry.standing = Some(Arc::new(standing));
            }
        });
    }

    /// Tells when somebody ends the session.
    pub(super) fn killed(&self) -> watch::Receiver<Option<Dismissal>> {
        self.killed.clone()
    }

    /// Tells when the workspace is stopped.
    pub(super) fn stops(&self) -> watch::Receiver<Option<Stop>> {
        self.stops.clone()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.sessions.0.table.with(|table| {
            let Some(entry) = table.live.remove(&self.session) else {
                return;
            };
            if let Some(mine) = table.of_user.get_mut(&entry.about.user) {
                *mine -= 1;
                if *mine == 0 {
                    table.of_user.remove(&entry.about.user);
                }
            }
            metrics::sessions(table.live.len());
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seats_are_bounded_per_person_and_in_all_and_come_back() {
        let sessions = Sessions::new(Limits { all: 3, per_user: 2 });
        let enter = |user: &str| sessions.enter(Uuid::now_v7(), user, "devenv-0");
        let first = enter("bob").unwrap();
        let _second = enter("bob").unwrap();
        assert_eq!(enter("bob").unwrap_err().code(), RefusalCode::TooMany);
        let _third = enter("alice").unwrap();
        assert_eq!(enter("carol").unwrap_err().code(), RefusalCode::Overloaded);
        drop(first);
        assert_eq!(sessions.live().len(), 2);
        let _fourth = enter("bob").unwrap();
        assert_eq!(sessions.live().len(), 3);
    }

    #[test]
    fn a_refused_person_leaves_no_trace() {
        let sessions = Sessions::new(Limits { all: 9, per_user: 0 });
        assert!(sessions.enter(Uuid::now_v7(), "bob", "devenv-0").is_err());
        assert!(sessions.live().is_empty());
    }

    #[tokio::test]
    async fn a_kill_reaches_its_session_alone() {
        let sessions = Sessions::new(Limits { all: 9, per_user: 9 });
        let (one, two) = (Uuid::now_v7(), Uuid::now_v7());
        let first = sessions.enter(one, "bob", "devenv-0").unwrap();
        let second = sessions.enter(two, "bob", "devenv-0").unwrap();
        let because = Dismissal::Killed("because".to_owned());
        assert!(sessions.dismiss(one, &because));
        assert!(sessions.dismiss(one, &Dismissal::Locked("too late".to_owned())));
        assert_eq!(
            first.killed().wait_for(Option::is_some).await.unwrap().as_ref(),
            Some(&because)
        );
        assert_eq!(*second.killed().borrow(), None);
        drop(first);
        assert!(!sessions.dismiss(one, &because));
    }
}
