//! `doorward connect`: what `ssh` runs as its `ProxyCommand`.
//!
//! Standard input and output are the SSH connection and nothing else ever reaches them. The way to the gateway is kept
//! short, because it is part of every `ssh` command: read two small files, dial once, ask once.

mod early;
mod pump;
mod renew;
mod stdio;
mod upgrade;
mod wake;

use std::cell::Cell;
use std::pin::pin;
use std::time::Duration;

use doorward_certs::{Login, WorkspaceName};
use doorward_wire::driver::{Closed, DriverError};
use doorward_wire::{Limits, client_end};

use crate::cli::ConnectArgs;
use crate::error::{EXIT_TRANSPORT, Error};
use crate::gateway::Gateway;
use crate::home::Home;
use crate::home::settings::{Asking, Settings};
use crate::pass::Pass;
use crate::tokens::Need;
use crate::{login, name, say, signals};
use early::Early;
use renew::Renewal;
use tokio::time::sleep;
use upgrade::{Entered, Wanted};
use wake::{Wait, Woken};

/// After how long without a byte from the gateway it is asked for a sign of life.
const PING: Duration = Duration::from_secs(20);
/// Between two times that a workspace is woken.
const AGAIN: Duration = Duration::from_secs(1);
/// How long the gateway has to close a tunnel after its end. Nobody waits for that but this process.
const LINGER: Duration = Duration::from_secs(1);
/// After how long without a byte from the gateway it is given up.
const SILENCE: Duration = Duration::from_secs(60);

/// Carries one SSH connection; the program's exit code.
pub(crate) async fn connect(home: &Home, args: &ConnectArgs) -> Result<u8, Error> {
    let workspace = name::workspace(&args.workspace)?;
    if let Some(login) = &args.login {
        Login::try_from(login.as_str()).map_err(|error| Error::Usage(format!("{login:?} is no login: {error}")))?;
    }
    let mut settings = Settings::read(home)?;
    if args.no_login {
        settings.login = Asking::Never;
    }
    let gateway = Gateway::configured(home, &settings)?;
    let wanted = Wanted {
        workspace: &workspace,
        reason: args.reason.as_deref().filter(|reason| !reason.is_empty()),
    };
    let mut early = Early::default();
    let waiting = Cell::new(false);
    let way_in = enter(home, &settings, &gateway, &wanted, &mut early, &waiting);
    let entered = signals::interruptible(Box::pin(way_in)).await;
    if waiting.get() && matches!(entered, Err(Error::Interrupted)) {
        say::note(&format!("not waiting for {workspace} any longer; it goes on starting"));
    }
    let (entered, pass) = entered?;
    let limits = Limits {
        ping: PING,
        silence: SILENCE,
        linger: LINGER,
        ..Limits::default()
    };
    let (stream, incoming, handle, driver) = client_end(entered.tunnel, limits);
    let (input, output) = stdio::open().map_err(|error| Error::Broken(error.to_string()))?;
    let said = early.expected();
    let carried = pump::run(stream, incoming, handle, driver, input, output, said);
    let Some(session) = entered.session else {
        return judge(&gateway.whom(), carried.await);
    };
    let mut renewal = Renewal::new(home, &settings, &gateway, session, pass);
    let over = {
        let mut carried = pin!(carried);
        let mut kept = pin!(renewal.keep());
        let over = tokio::select! {
            over = &mut carried => over,
            () = &mut kept => carried.await,
        };
        signals::finish_whole(kept).await;
        over
    };
    let judged = judge(&gateway.whom(), over);
    if let (Err(Error::Ended { .. }), Some(why)) = (&judged, renewal.refusal()) {
        say::note(&format!("this session's right was not renewed: {why}"));
    }
    judged
}

/// The way in: a pass, then the tunnel; and in between, where the workspace sleeps, a wait.
async fn enter(
    home: &Home,
    settings: &Settings,
    gateway: &Gateway,
    wanted: &Wanted<'_>,
    early: &mut Early,
    waiting: &Cell<bool>,
) -> Result<(Entered, Pass), Error> {
    let mut pass = login::pass_for_connect(home, settings, Need::Valid, |known| early.say(known)).await?;
    let whom = gateway.whom();
    let mut wait: Option<Wait> = None;
    let mut renewed = false;
    loop {
        let refused = match say::impatiently(&whom, upgrade::ask(gateway, wanted, &pass)).await {
            Ok(entered) => return Ok((entered, pass)),
            Err(Error::Refused(problem)) => problem,
            Err(error) => return Err(error),
        };
        // Keys may have been rotated, the session at the issuer ended: one other token is worth a try.
        if refused.status == 401 && !renewed {
            renewed = true;
            let need = Need::Other(pass.token());
            pass = login::pass_for_connect(home, settings, need, |known| early.say(known)).await?;
            continue;
        }
        if !wake::helps(&refused) {
            return Err(Error::Refused(refused));
        }
        let wait = match &mut wait {
            None => {
                early.say(&gateway.well_known().await?);
                waiting.set(true);
                wait.insert(Wait::begin())
            }
            Some(wait) if wait.is_over() => return Err(Error::Refused(refused)),
            // What has just run and does not any more is given a moment.
            Some(wait) => {
                sleep(AGAIN).await;
                wait
            }
        };
        // A long wait outlives a token.
        pass = login::pass_for_connect(home, settings, Need::Valid, |known| early.say(known)).await?;
        match wait.wake(gateway, wanted, &pass).await {
            Ok(Woken::Running) => {
                renewed = false;
                pass = login::pass_for_connect(home, settings, Need::Valid, |known| early.say(known)).await?;
            }
            Ok(Woken::Unknown) => return Err(Error::Refused(refused)),
            // What the wake began with is over; the next answer of the gateway's says what is.
            Err(Error::Refused(problem)) if problem.status == 401 && !renewed => {}
            // A balancer's patience, or a gateway that was replaced: asking again joins the same wake.
            Err(Error::Broken(_) | Error::Unreachable { .. }) if !wait.is_over() => {}
            Err(error) => return Err(error),
        }
    }
}

/// Wakes a workspace that sleeps, and waits until it runs; it is not entered. Hears signals by itself.
pub(crate) async fn wake(
    home: &Home,
    settings: &Settings,
    gateway: &Gateway,
    workspace: &WorkspaceName,
    reason: Option<&str>,
) -> Result<(), Error> {
    let wanted = Wanted {
        workspace,
        reason: reason.filter(|reason| !reason.is_empty()),
    };
    let waited = signals::interruptible(Box::pin(woken(home, settings, gateway, &wanted))).await;
    if matches!(waited, Err(Error::Interrupted)) {
        say::note(&format!("not waiting for {workspace} any longer; it goes on starting"));
    }
    waited
}

async fn woken(home: &Home, settings: &Settings, gateway: &Gateway, wanted: &Wanted<'_>) -> Result<(), Error> {
    let mut wait = Wait::begin();
    loop {
        // A long wait outlives a token.
        let pass = login::pass(home, settings).await?;
        match wait.wake(gateway, wanted, &pass).await {
            Ok(Woken::Running) => return Ok(()),
            Ok(Woken::Unknown) => {
                return Err(Error::Ended {
                    exit: EXIT_TRANSPORT,
                    code: "asleep".to_owned(),
                    text: format!("{} sleeps, and the gateway wakes nothing", wanted.workspace),
                });
            }
            Err(Error::Broken(_) | Error::Unreachable { .. }) if !wait.is_over() => sleep(AGAIN).await,
            Err(error) => return Err(error),
        }
    }
}

fn judge(whom: &str, over: Result<Closed, DriverError>) -> Result<u8, Error> {
    let broken = |why: String| Err(Error::Broken(why));
    match over {
        Ok(Closed::Heard(end)) if end.exit != 0 => {
            let text = if end.text.is_empty() {
                format!("the session ended: {}", end.code)
            } else {
                end.text
            };
            Err(Error::Ended {
                exit: end.exit,
                code: end.code,
                text,
            })
        }
        // An end in order is no news; what a person should read comes as a notice.
        Ok(Closed::Heard(_) | Closed::Said(_) | Closed::Finished) => Ok(0),
        Err(DriverError::Silent) => broken(format!(
            "no sign of life from {whom} for {} seconds; is the network still there?",
            SILENCE.as_secs()
        )),
        Err(DriverError::Cut) => broken(format!("{whom} closed it before the session ended")),
        Err(DriverError::Io(error)) => broken(error.to_string()),
        Err(error @ (DriverError::Frame(_) | DriverError::Protocol(_))) => {
            let what = format!(
                "{error} ({})",
                std::error::Error::source(&error).map_or_else(String::new, ToString::to_string)
            );
            Err(Error::Ended {
                exit: EXIT_TRANSPORT,
                code: "protocol".to_owned(),
                text: format!("{whom}: {what}"),
            })
        }
    }
}
