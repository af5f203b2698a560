//! `POST /v1/workspaces/{name}/wake`: who may enter may also wake, and hears line by line how far it is.
//!
//! Each line is a JSON object with a `state`: `starting` with a `text`, at last `running`, or `failed` with the members of a
//! problem (RFC 9457). Empty lines keep balancers patient. A stream that ends without a last line says nothing: ask again.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use ::http::{HeaderValue, Request, Response, header};
use bytes::Bytes;
use doorward_certs::WorkspaceName;
use futures_util::stream;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    Gateway,
    http::Reason,
    oidc::{Identity, Presented},
    problem::{self, Body},
    refusal::Refusal,
    session,
    wake::{Asker, Told, Wakes},
};

pub(super) async fn wake(
    gateway: &Arc<Gateway>,
    who: &Identity,
    shown: Presented,
    request: &Request<Incoming>,
    name: &WorkspaceName,
    peer: SocketAddr,
) -> Result<Response<Body>, Refusal> {
    let denied = |refusal: Refusal| {
        gateway.denied(who.user(), name.as_str(), &refusal, peer);
        refusal
    };
    let reason = Reason::of(request.headers()).map_err(denied)?;
    let grant = session::may_wake(gateway, who, name, reason.as_ref())
        .await
        .map_err(denied)?;
    let bound = shown.host().is_some();
    let asker = Asker {
        grant,
        token: (!bound).then(|| shown.into_token()),
        peer,
    };
    let place = gateway.listeners.enter(who.user().to_owned());
    let place =
        place.ok_or_else(|| denied(Refusal::too_many("too many wait for workspaces to start at the moment")))?;
    let tale = Wakes::join(gateway, asker).map_err(denied)?;
    let stopping = gateway.tasks.stopping().clone();
    let lines = stream::unfold(Some(tale), move |tale| {
        // The place is given back with the body.
        let _held = &place;
        let stopping = stopping.clone();
        async move {
            let mut tale = tale?;
            let told = tokio::select! {
                told = tale.next() => told?,
                () = stopping.cancelled() => return None,
                () = tokio::time::sleep(SIGN_OF_LIFE) => return Some((frame("\n".into()), Some(tale))),
            };
            let more = matches!(told, Told::Starting(_)).then_some(tale);
            Some((frame(format!("{}\n", line(&told))), more))
        }
    });
    let mut response = Response::new(StreamBody::new(lines).boxed_unsync());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // nginx would collect the lines first.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

fn frame(text: String) -> Result<Frame<Bytes>, std::io::Error> {
    Ok(Frame::data(Bytes::from(text)))
}

fn line(told: &Told) -> Value {
    match told {
        Told::Starting(text) => json!({ "state": "starting", "text": text }),
        Told::Running => json!({ "state": "running" }),
        Told::Failed(refusal) => {
            let mut problem = problem::members(refusal, Uuid::now_v7());
            problem["state"] = "failed".into();
            problem
        }
    }
}

/// How long a stream is silent.
const SIGN_OF_LIFE: Duration = Duration::from_secs(10);
