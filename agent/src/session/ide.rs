//! Looking for servers of IDEs beside a session, so that the recording says what it cannot hold.

use std::convert::Infallible;
use std::time::Duration;

use super::Session;
use crate::process::ide_servers;

/// Looks now and then for as long as the session lasts.
pub(super) async fn watch(session: &Session) -> Infallible {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        look(session).await;
    }
}

/// Looks once. What was found is recorded, each product once.
pub(super) async fn look(session: &Session) {
    let account = session.account().uid;
    let seen = tokio::task::spawn_blocking(move || ide_servers(account)).await;
    for product in seen.unwrap_or_default() {
        session.recording().ide_server(product);
    }
}

/// A server lives for hours.
const LOOK_EVERY: Duration = Duration::from_secs(30);
