//! `doorward sessions`.

use doorward_audit::{Outcome, SessionIndex, printable};
use uuid::Uuid;

use crate::cli::ListArgs;
use crate::error::Error;
use crate::gateway::{Gateway, Session, Wanted};
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

/// Shows one session.
pub(crate) async fn show(home: &Home, id: Uuid, json: bool) -> Result<(), Error> {
    let settings = Settings::read(home)?;
    let gateway = Gateway::configured(home, &settings)?;
    let pass = login::pass(home, &settings).await?;
    let session = gateway.session(&pass, id).await?;
    if json {
        return say::print_json(&session);
    }
    say::print(&describe(&session))
}

fn describe(session: &Session) -> String {
    let index = &session.index;
    let rows = [
        ("session", index.session.to_string()),
        ("user", index.user.clone()),
        (
            "workspace",
            format!("{} (uid {})", index.workspace, index.workspace_uid),
        ),
        ("login", index.login.clone()),
        ("from", index.client_address.clone().unwrap_or_default()),
        ("started", say::moment(index.started)),
        ("ended", index.ended.map(say::moment).unwrap_or_default()),
        ("length", length(index)),
        ("state", state(index).to_owned()),
        ("reason", index.reason.clone().unwrap_or_default()),
        ("recorded", say::size(index.record_bytes)),
    ];
    let mut text = String::new();
    for (name, value) in rows.iter().filter(|(_, value)| !value.is_empty()) {
        text.push_str(&format!("{name:<10} {}\n", printable(value.as_bytes())));
    }
    for file in &session.files {
        text.push_str(&format!(
            "file       {} ({})\n",
            printable(file.name.as_bytes()),
            say::size(file.size)
        ));
    }
    text
}

fn length(session: &SessionIndex) -> String {
    session
        .ended
        .map(|ended| say::length(ended.saturating_sub(session.started)))
        .unwrap_or_default()
}

fn state(session: &SessionIndex) -> &'static str {
    match (session.ended, session.outcome) {
        (None, None) => "open",
        (_, Some(Outcome::Complete)) => "complete",
        (_, Some(Outcome::Abnormal)) => "abnormal",
        (Some(_), None) => "ended",
    }
}
