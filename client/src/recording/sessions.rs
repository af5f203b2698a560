//! `doorward sessions`.

use doorward_audit::export::csv;
use doorward_audit::{Outcome, SessionIndex};

use crate::cli::ListArgs;
use crate::error::Error;
use crate::gateway::{Gateway, Wanted};
use crate::home::Home;
use crate::home::settings::Settings;
use crate::{login, say};

/// Lists sessions, newest first.
pub(crate) async fn list(home: &Home, args: &ListArgs) -> Result<(), Error> {
    let settings = Settings::read(home)?;
    let gateway = Gateway::configured(home, &settings)?;
    let pass = login::pass(home, &settings).await?;
    let wanted = Wanted {
        user: args.user.as_deref(),
        workspace: args.workspace.as_deref(),
        limit: args.limit,
    };
    let sessions = gateway.sessions(&pass, &wanted).await?;
    if args.json {
        return say::print_json(&sessions);
    }
    if args.csv {
        return say::print(&table(&sessions));
    }
    let rows: Vec<Vec<String>> = sessions
        .into_iter()
        .map(|session| {
            vec![
                session.session.to_string(),
                say::moment(session.started),
                length(&session),
                state(&session).to_owned(),
                say::size(session.record_bytes),
                session.workspace,
                session.login,
                session.user,
            ]
        })
        .collect();
    let head = [
        "SESSION",
        "STARTED",
        "LENGTH",
        "STATE",
        "SIZE",
        "WORKSPACE",
        "LOGIN",
        "USER",
    ];
    say::print(&say::table(&head, &rows))
}

/// For spreadsheets: exact values, times in UTC.
fn table(sessions: &[SessionIndex]) -> String {
    let head = [
        "session",
        "started",
        "ended",
        "state",
        "record-bytes",
        "workspace",
        "workspace-uid",
        "login",
        "user",
        "client-address",
        "reason",
    ];
    let rows: Vec<Vec<String>> = sessions
        .iter()
        .map(|session| {
            vec![
                session.session.to_string(),
                say::utc(session.started),
                session.ended.map(say::utc).unwrap_or_default(),
                state(session).to_owned(),
                session.record_bytes.to_string(),
                session.workspace.clone(),
                session.workspace_uid.clone(),
                session.login.clone(),
                session.user.clone(),
                session.client_address.clone().unwrap_or_default(),
                session.reason.clone().unwrap_or_default(),
            ]
        })
        .collect();
    csv(&head, &rows)
}

pub(super) fn length(session: &SessionIndex) -> String {
    session
        .ended
        .map(|ended| say::length(ended.saturating_sub(session.started)))
        .unwrap_or_default()
}

pub(super) fn state(session: &SessionIndex) -> &'static str {
    match (session.ended, session.outcome) {
        (None, None) => "open",
        (_, Some(Outcome::Complete)) => "complete",
        (_, Some(Outcome::Abnormal)) => "abnormal",
        (Some(_), None) => "ended",
    }
}
