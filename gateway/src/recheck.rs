//! Open sessions are decided again: every `recheck-interval`, when the policy changes, and whenever a client renews.
//!
//! With introspection the newest token is shown to its issuer again, so that a person who was disabled or taken out of a
//! group is seen within one interval. Without it the newest token counts until `renew-grace` after its end; the laptop's
//! program shows a newer one before. An issuer that cannot be asked ends nothing: what is not known is not held against
//! anybody, and the grace begins again when it is back.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use doorward_audit::RecheckSuspended;
use futures_util::{StreamExt as _, stream};
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior},
};
use uuid::Uuid;

use crate::{
    Gateway,
    authorize::{self, Heard},
    guarded::Guarded,
    oidc::{Identity, Recheck},
    session::{Dismissal, Standing},
};

/// Looks at open sessions until the gateway closes.
pub(crate) async fn run(gateway: Arc<Gateway>) {
    let closing = gateway.tasks.closing().clone();
    let mut changes = gateway.policy.changes();
    let mut access = gateway.access.as_ref().map(crate::kube::Access::changes);
    let mut tick = tokio::time::interval(gateway.config.session.recheck_interval);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let issuers = Outages::default();
    loop {
        let asking = tokio::select! {
            () = closing.cancelled() => return,
            _ = tick.tick() => true,
            changed = changes.changed() => match changed {
                Ok(()) => false,
                Err(_) => return,
            },
            true = changed(access.as_mut()) => false,
        };
        let sweep = sweep(&gateway, &issuers, asking);
        tokio::select! {
            () = closing.cancelled() => return,
            () = sweep => {}
        }
    }
}

/// Waits until what objects of the cluster say has changed; for ever where they have no say.
async fn changed(access: Option<&mut watch::Receiver<u64>>) -> bool {
    match access {
        Some(changes) => changes.changed().await.is_ok(),
        None => std::future::pending().await,
    }
}

/// Decides every open session again; where `asking`, after having asked the issuers.
async fn sweep(gateway: &Gateway, issuers: &Outages, asking: bool) {
    let began = Instant::now();
    if asking {
        issuers.begin();
    }
    stream::iter(gateway.sessions.standings())
        .for_each_concurrent(AT_ONCE, |(session, standing)| async move {
            let looked = match asking {
                true => look(gateway, issuers, session, &standing).await,
                false => Ok(()),
            };
            let standing = gateway.sessions.standing(session).unwrap_or(standing);
            let decided = match (looked, asking) {
                (Err(sentence), _) => Err(sentence),
                (Ok(()), true) => ask(gateway, issuers, &standing, began.into_std()).await,
                (Ok(()), false) => as_heard(gateway, &standing, standing.identity(), standing.grant().heard()),
            };
            // Who showed a newer token meanwhile was decided by that.
            let newest = gateway.sessions.standing(session);
            let outdated = newest.is_some_and(|newest| !Arc::ptr_eq(&newest, &standing));
            if let Err(sentence) = decided
                && !outdated
            {
                tracing::info!(%session, user = standing.identity().user(), "the session is ended: {sentence}");
                gateway.sessions.dismiss(session, &Dismissal::Revoked(sentence));
            }
        })
        .await;
    if asking {
        issuers.end();
    }
    #[cfg(test)]
    LOOKS.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
}

/// Decides a session again for this person: whether what it began with is still granted by everybody who has a say. Who
/// cannot be asked is taken to say what they said when it began.
///
/// # Errors
/// The sentence for its user.
pub(crate) async fn decide(gateway: &Gateway, standing: &Standing, who: &Identity) -> Result<(), String> {
    let heard = authorize::hear_again(gateway, who, standing.grant(), std::time::Instant::now()).await;
    let heard = heard.unwrap_or_else(|_| standing.grant().heard().clone());
    as_heard(gateway, standing, who, &heard)
}

/// The same for one of many sessions: what was answered since the first of them was looked at will do.
async fn ask(
    gateway: &Gateway,
    outages: &Outages,
    standing: &Standing,
    oldest: std::time::Instant,
) -> Result<(), String> {
    let began = standing.grant();
    if outages.is_down(API_SERVER) {
        return as_heard(gateway, standing, standing.identity(), began.heard());
    }
    let heard = match authorize::hear_again(gateway, standing.identity(), began, oldest).await {
        Ok(heard) => {
            outages.answered(API_SERVER);
            heard
        }
        Err(error) => {
            outages.failed(gateway, API_SERVER, format!("{}: {error}", error.code()));
            began.heard().clone()
        }
    };
    as_heard(gateway, standing, standing.identity(), &heard)
}

/// Decides a session again by the policy, the locks and the directory, and by what was heard of others.
///
/// # Errors
/// The sentence for its user.
pub(crate) fn as_heard(gateway: &Gateway, standing: &Standing, who: &Identity, heard: &Heard) -> Result<(), String> {
    let began = standing.grant();
    let name = &began.workspace().name;
    if let Some(lock) = gateway.locks.against(who.user(), Some(name.as_str())) {
        return Err(lock.sentence());
    }
    let workspace = gateway.workspaces.find(name);
    if let Some(over) = began.workspace().over(workspace.as_deref()) {
        return Err(over);
    }
    let now = authorize::again(gateway, who, began, heard)
        .inspect_err(|refusal| tracing::info!(user = who.user(), workspace = %name, "no longer granted: {refusal}"))
        .map_err(|_| "you may no longer enter this workspace; ask your platform team".to_owned())?;
    if who.user() != began.user() {
        return Err("your name at the identity provider has changed; connect again".to_owned());
    }
    if let Some(lost) = began.lost_in(&now) {
        return Err(format!("{lost}; connect again to go on with what is left"));
    }
    if now.terms().longest < began.terms().longest && standing.age() >= now.terms().longest {
        return Err(format!(
            "it reached the longest time that your role allows now, {}",
            humantime::format_duration(now.terms().longest)
        ));
    }
    Ok(())
}

/// Looks at the person: asks the issuer about the token, or sees that the token is too old.
async fn look(gateway: &Gateway, issuers: &Outages, session: Uuid, standing: &Standing) -> Result<(), String> {
    let (who, now) = (standing.identity(), SystemTime::now());
    if issuers.is_down(who.issuer()) {
        return Ok(());
    }
    gateway
        .identities
        .not_logged_out(who)
        .map_err(|refusal| refusal.text().to_owned())?;
    if let Some(token) = standing.token()
        && now < who.expires()
    {
        let said = gateway.identities.recheck(who, token).await;
        if !matches!(said, Recheck::Unknown(_)) {
            issuers.answered(who.issuer());
        }
        return match said {
            Recheck::Good(newer) => {
                gateway.sessions.renew(session, *newer, Some(token.clone()));
                Ok(())
            }
            // It may have ended while its issuer was asked.
            Recheck::Over(_) if SystemTime::now() >= who.expires() => Ok(()),
            Recheck::Over(sentence) => Err(sentence),
            Recheck::Unknown(why) => {
                issuers.failed(gateway, who.issuer(), why);
                Ok(())
            }
        };
    }
    let grace = gateway.config.session.renew_grace;
    let over = now.duration_since(who.expires()).is_ok_and(|since| since >= grace);
    if !over {
        return Ok(());
    }
    // A client could not have renewed while its issuer was down.
    if let Err(why) = gateway.identities.reach(who.issuer()).await {
        issuers.failed(gateway, who.issuer(), why);
        return Ok(());
    }
    issuers.answered(who.issuer());
    match issuers.back_for(who.issuer()) {
        Some(since) if since < grace => Ok(()),
        _ => Err(format!(
            "your login was not renewed for {} after its end; connect again",
            humantime::format_duration(grace)
        )),
    }
}

/// Which issuers do not answer, and since when they do again.
#[derive(Debug, Default)]
struct Outages(Guarded<HashMap<String, Outage>>);

#[derive(Debug, Clone)]
struct Outage {
    /// It failed in this sweep: asking it for the next session would only take time.
    down: bool,
    /// It was asked in this sweep, and answered.
    answered: bool,
    told: bool,
    last: Instant,
}

impl Outages {
    fn begin(&self) {
        self.0.with(|all| {
            all.values_mut()
                .for_each(|outage| (outage.down, outage.answered) = (false, false))
        });
    }

    fn end(&self) {
        self.0.with(|all| {
            for (issuer, outage) in all {
                if outage.told && outage.answered && !outage.down {
                    tracing::info!(issuer, "who is asked about open sessions answers again");
                    outage.told = false;
                }
            }
        });
    }

    fn is_down(&self, issuer: &str) -> bool {
        self.0.with(|all| all.get(issuer).is_some_and(|outage| outage.down))
    }

    fn answered(&self, issuer: &str) {
        self.0.with(|all| {
            if let Some(outage) = all.get_mut(issuer) {
                outage.answered = true;
            }
        });
    }

    fn failed(&self, gateway: &Gateway, issuer: &str, why: String) {
        let new = self.0.with(|all| {
            let outage = all.entry(issuer.to_owned()).or_insert(Outage {
                down: true,
                answered: false,
                told: false,
                last: Instant::now(),
            });
            outage.down = true;
            outage.last = Instant::now();
            !std::mem::replace(&mut outage.told, true)
        });
        if new {
            tracing::warn!(issuer, "open sessions cannot be checked again and go on: {why}");
            gateway.journal.append(RecheckSuspended {
                issuer: issuer.to_owned(),
                why,
            });
        }
    }

    /// How long ago the issuer was last met down, if it was.
    fn back_for(&self, issuer: &str) -> Option<Duration> {
        self.0.with(|all| all.get(issuer).map(|outage| outage.last.elapsed()))
    }
}

#[cfg(test)]
static LOOKS: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);

/// How often open sessions were looked at, by every gateway of the test.
#[cfg(test)]
pub(crate) fn looks() -> usize {
    LOOKS.load(std::sync::atomic::Ordering::SeqCst)
}

/// By this name the API server stands beside the issuers.
const API_SERVER: &str = "kubernetes";
/// How many sessions are looked at at once.
const AT_ONCE: usize = 16;
