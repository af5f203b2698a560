//! What keeps a session's identity true while it lasts: fresh tokens from its own client, and logouts from its issuer.

use std::net::SocketAddr;

use ::http::{Response, StatusCode};
use doorward_audit::LoggedOut;
use uuid::Uuid;

use crate::{
    Gateway,
    http::not_found,
    oidc::{BearerToken, Identity, Presented},
    problem::{self, Body},
    recheck,
    refusal::{Refusal, RefusalCode},
    session::Dismissal,
};

/// `POST /v1/sessions/{id}/renew`: the session's own person shows a fresh token, and the session is decided again.
pub(super) async fn renew(
    gateway: &Gateway,
    who: Identity,
    shown: Presented,
    id: Uuid,
    peer: SocketAddr,
) -> Result<Response<Body>, Refusal> {
    let standing = gateway.sessions.standing(id).ok_or_else(not_found)?;
    let workspace = standing.grant().workspace().name.as_str().to_owned();
    if !standing.is_of(&who) {
        let refusal = not_found().with_detail(format!("the session {id} is somebody else's"));
        gateway.denied(who.user(), &workspace, &refusal, peer);
        return Err(refusal);
    }
    let user = who.user().to_owned();
    if let Err(sentence) = recheck::decide(gateway, &standing, &who).await {
        gateway.sessions.dismiss(id, &Dismissal::Revoked(sentence.clone()));
        let refusal = Refusal::new(RefusalCode::SessionOver, format!("the session was ended: {sentence}"));
        gateway.denied(&user, &workspace, &refusal, peer);
        return Err(refusal);
    }
    let keep = gateway.identities.introspects(who.issuer());
    gateway.sessions.renew(id, who, keep.then(|| shown.into_token()));
    Ok(problem::done())
}

/// `POST /v1/backchannel-logout`: the issuer says that somebody was logged out (OpenID Connect Back-Channel Logout 1.0,
/// section 2.5). The token is the whole proof; what is wrong with it is 400 (section 2.8).
pub(super) async fn logout(gateway: &Gateway, body: &[u8]) -> Result<Response<Body>, Refusal> {
    log_out(gateway, body)
        .await
        .map_err(|refusal| match refusal.code().status() {
            StatusCode::UNAUTHORIZED => Refusal::new(RefusalCode::BadRequest, "the logout token is not taken")
                .with_detail(format!("the logout token: {refusal}")),
            _ => refusal,
        })
}

async fn log_out(gateway: &Gateway, body: &[u8]) -> Result<Response<Body>, Refusal> {
    let bad = || Refusal::new(RefusalCode::BadRequest, "the body is not one logout_token");
    let mut token = None;
    for (key, value) in url::form_urlencoded::parse(body) {
        // Other keys are for later versions of the protocol.
        if key == "logout_token" && token.replace(value.into_owned()).is_some() {
            return Err(bad());
        }
    }
    let token = BearerToken::new(&token.ok_or_else(bad)?).map_err(|_| bad())?;
    let said = gateway.identities.log_out(&token).await?;
    let mut ended = 0;
    for (id, standing) in gateway.sessions.standings() {
        if standing.was_logged_out(&said) {
            let sentence = "you were logged out at the identity provider".to_owned();
            ended += u64::from(gateway.sessions.dismiss(id, &Dismissal::Revoked(sentence)));
        }
    }
    tracing::info!(issuer = said.issuer, ended, "the identity provider logged somebody out");
    gateway.journal.append(LoggedOut {
        issuer: said.issuer,
        subject: said.subject,
        login_session: said.login_session,
        sessions: ended,
    });
    let mut response = problem::done();
    *response.status_mut() = StatusCode::OK;
    Ok(response)
}
