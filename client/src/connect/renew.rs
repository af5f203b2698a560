//! The right of an open session, kept alive: before the token expires that the session was opened with, the gateway is
//! shown a fresh one.
//!
//! All of it is quiet, for standard error is a person's terminal in the middle of something. What fails for now is tried
//! again; a refusal is kept, and told only if the session then ends.

use std::time::{Duration, SystemTime};

use tokio::time::sleep;
use uuid::Uuid;

use crate::error::Error;
use crate::gateway::Gateway;
use crate::home::Home;
use crate::home::settings::Settings;
use crate::http::Problem;
use crate::pass::Pass;
use crate::tokens::{Need, Voice, silent};

/// How long before a token expires the next one is fetched, at most; of tokens that live shorter, half of their life.
const LEAD: Duration = Duration::from_secs(60);
/// How often the clock is looked at: a laptop that slept has aged by more than its timers.
const LOOK: Duration = Duration::from_secs(30);
/// The first wait after a failure; doubled up to [`SLOWEST`].
const FIRST: Duration = Duration::from_secs(2);
const SLOWEST: Duration = Duration::from_secs(60);

/// How often in a row, and after which wait, a gateway is asked that does not know the session while its tunnel stands: behind a
/// balancer it is another than the one that has it, and each attempt is a connection of its own.
const OTHERS: u32 = 16;
const OTHER: Duration = Duration::from_millis(250);

/// Keeps one session's right alive while it is polled.
#[derive(Debug)]
pub(super) struct Renewal<'a> {
    home: &'a Home,
    settings: &'a Settings,
    gateway: &'a Gateway,
    session: Uuid,
    /// What the gateway saw last.
    pass: Pass,
    refusal: Option<String>,
}

/// What came of one attempt.
#[derive(Debug)]
enum Tried {
    Renewed,
    /// Something that passes.
    Again,
    /// The gateway that answered does not have the session.
    Elsewhere,
    /// Nothing that helps before somebody logs in.
    Over(String),
    /// The gateway's last word, unless the session's end says it as well.
    Refused(Option<String>),
}

impl<'a> Renewal<'a> {
    /// Of the session that was opened with this pass.
    pub(super) fn new(home: &'a Home, settings: &'a Settings, gateway: &'a Gateway, session: Uuid, pass: Pass) -> Self {
        Self {
            home,
            settings,
            gateway,
            session,
            pass,
            refusal: None,
        }
    }

    /// Why the right was not renewed, if so.
    pub(super) fn refusal(&self) -> Option<&str> {
        self.refusal.as_deref()
    }

    /// Renews, again and again; ends when the gateway does not want it.
    pub(super) async fn keep(&mut self) {
        loop {
            let lead = lead(self.pass.life());
            until_left(&self.pass, lead).await;
            let mut wait = FIRST;
            let mut others = 0_u32;
            loop {
                match self.once(lead).await {
                    Tried::Elsewhere => {
                        others += 1;
                        if !others.is_multiple_of(OTHERS) {
                            sleep(OTHER.mul_f64(rand::random_range(0.75..1.25))).await;
                            continue;
                        }
                    }
                    Tried::Renewed => {
                        self.refusal = None;
                        break;
                    }
                    Tried::Again => {}
                    Tried::Over(why) => {
                        self.refusal = Some(why);
                        wait = SLOWEST;
                    }
                    Tried::Refused(why) => {
                        self.refusal = why;
                        return;
                    }
                }
                sleep(wait.mul_f64(rand::random_range(0.75..1.25))).await;
                wait = (wait * 2).min(SLOWEST);
            }
            // Tokens that live for next to no time must not make us ask without a pause.
            sleep(FIRST).await;
        }
    }

    async fn once(&mut self, lead: Duration) -> Tried {
        let pass = match self.fresh(Need::Longer(lead)).await {
            Ok(pass) => pass,
            Err(tried) => return tried,
        };
        let mut posted = self.gateway.renew(&pass, self.session).await;
        let mut shown = pass;
        if matches!(&posted, Err(Error::Refused(Problem { status: 401, .. }))) {
            // Keys may have been rotated: one other token is worth a try.
            shown = match self.fresh(Need::Other(shown.token())).await {
                Ok(pass) => pass,
                Err(tried) => return tried,
            };
            posted = self.gateway.renew(&shown, self.session).await;
        }
        match posted {
            Ok(()) => {
                self.pass = shown;
                Tried::Renewed
            }
            Err(Error::Refused(Problem {
                status: 429 | 500.., ..
            })) => Tried::Again,
            Err(Error::Refused(Problem { status: 404, .. })) => Tried::Elsewhere,
            // The gateway has ended the session, and says why in its own words.
            Err(Error::Refused(Problem { code, .. })) if code == "session-over" => Tried::Refused(None),
            Err(Error::Refused(problem)) => Tried::Refused(Some(problem.text)),
            Err(_) => Tried::Again,
        }
    }

    async fn fresh(&self, need: Need<'_>) -> Result<Pass, Tried> {
        match silent(self.home, self.settings, need, Voice::Quiet).await {
            Ok(Some(pass)) => Ok(pass),
            Ok(None) => Err(Tried::Over(format!("the login at {} is over", self.gateway.whom()))),
            Err(_) => Err(Tried::Again),
        }
    }
}

/// How long before the end of a life to act, not all sessions of a person at once.
fn lead(life: Duration) -> Duration {
    LEAD.min(life / 2).mul_f64(rand::random_range(0.8..1.0))
}

/// Waits until the token has no more than this left.
async fn until_left(pass: &Pass, lead: Duration) {
    loop {
        let left = pass.life().saturating_sub(lead);
        if left.is_zero() {
            return;
        }
        let before = SystemTime::now();
        sleep(left.min(LOOK)).await;
        if SystemTime::now() < before {
            // The clock was set back, and nobody knows how long the token still lives.
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_time_to_try_again_before_the_end() {
        for (life, least, most) in [(3600, 48, 60), (120, 48, 60), (60, 24, 30), (2, 0, 1), (0, 0, 0)] {
            let lead = lead(Duration::from_secs(life));
            assert!(
                (Duration::from_secs(least)..=Duration::from_secs(most)).contains(&lead),
                "{life}: {lead:?}"
            );
        }
    }

    #[tokio::test]
    async fn a_token_that_is_over_is_not_waited_for() {
        let pass = |seconds| Pass::new("t".to_owned().into(), None, 0, crate::pass::now() + seconds);
        until_left(&pass(0), Duration::ZERO).await;
        until_left(&pass(50), Duration::from_secs(50)).await;
    }
}
