//! `doorward connect`: what `ssh` runs as its `ProxyCommand`.
//!
//! Standard input and output are the SSH connection and nothing else ever reaches them. The way to the gateway is kept
//! short, because it is part of every `ssh` command: read two small files, dial once, ask once.

mod early;
mod pump;
mod renew;
mod stdio;
mod upgrade;

use std::pin::pin;
use std::time::Duration;

use doorward_certs::Login;
use doorward_wire::driver::{Closed, DriverError};
use doorward_wire::{Limits, client_end};

use crate::cli::ConnectArgs;
use crate::error::{EXIT_TRANSPORT, Error};
use crate::gateway::Gateway;
use crate::home::Home;
use crate::home::settings::{Asking, Settings};
use crate::http::Problem;
use crate::pass::Pass;
use crate::tokens::Need;
use crate::{login, name, say, signals};
use early::Early;
use renew::Renewal;
use upgrade::{Entered, Wanted};

/// After how long without a byte from the gateway it is asked for a sign of life.
const PING: Duration = Duration::from_secs(20);
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
    let way_in = enter(home, &settings, &gateway, &wanted, &mut early);
    let (entered, pass) = signals::interruptible(Box::pin(way_in)).await?;
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

/// The way in: a pass, then the tunnel.
async fn enter(
    home: &Home,
    settings: &Settings,
    gateway: &Gateway,
    wanted: &Wanted<'_>,
    early: &mut Early,
) -> Result<(Entered, Pass), Error> {
    let mut pass = login::pass_for_connect(home, settings, Need::Valid, |known| early.say(known)).await?;
    let whom = gateway.whom();
    let asked = say::impatiently(&whom, upgrade::ask(gateway, wanted, &pass)).await;
    let entered = match asked {
        // Keys may have been rotated, the session at the issuer ended: one other token is worth a try.
        Err(Error::Refused(Problem { status: 401, .. })) => {
            let need = Need::Other(pass.token());
            pass = login::pass_for_connect(home, settings, need, |known| early.say(known)).await?;
            say::impatiently(&whom, upgrade::ask(gateway, wanted, &pass)).await?
        }
        asked => asked?,
    };
    Ok((entered, pass))
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
