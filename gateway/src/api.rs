//! The JSON API for people's programs: what this gateway is, which workspaces they may enter, which recordings they may see.
//!
//! Everything but `/.well-known/doorward` and `/v1/trust` needs a token. What somebody may not see looks like what is not there.

mod admin;
mod holds;
mod keep;
mod log;
mod myself;
mod renew;
mod wake;

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use ::http::{HeaderValue, Request, Response, header};
use bytes::Bytes;
use doorward_audit::{RecordingViewed, SessionIndex};
use doorward_certs::{CaKeys, Capabilities, RemoteForward, Sftp, Terms, WorkspaceName};
use futures_util::TryStreamExt as _;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use serde::Serialize;
use serde_json::json;
use tokio_util::io::ReaderStream;
use uuid::Uuid;

use crate::{
    Gateway, authorize,
    guarded::Guarded,
    http::{self, Route, not_found, token},
    link,
    listen::Permit,
    locks::rfc3339,
    oidc::Identity,
    problem::{self, Body},
    record::{self, Content, FileEntry, Filter},
    refusal::{Refusal, RefusalCode},
    workspace::{Life, State},
};

/// Answers a request that is no tunnel.
pub(crate) async fn answer(
    gateway: &Arc<Gateway>,
    request: &mut Request<Incoming>,
    route: Route,
    peer: SocketAddr,
    permit: &Guarded<Option<Permit>>,
) -> Result<Response<Body>, Refusal> {
    match route {
        Route::WellKnown => return Ok(well_known(gateway)),
        Route::Trust => return trust(gateway).await,
        Route::Logout => {
            let body = http::body(request, &route).await?;
            return renew::logout(gateway, &body).await;
        }
        _ => {}
    }
    let shown = token(request)?.from(peer.ip());
    http::addressed(gateway, &shown)?;
    let who = gateway.identities.identify(&shown).await?;
    let body = http::body(request, &route).await?;
    match route {
        Route::Me => Ok(myself::me(gateway, &who)),
        Route::Explain => myself::explain(gateway, &who, request.uri().query().unwrap_or_default(), peer).await,
        Route::Renew(id) => renew::renew(gateway, who, shown, id, peer).await,
        Route::Kill(id) => admin::kill(gateway, &who, id, &body, peer),
        Route::Locks => admin::locks(gateway, &who, peer),
        Route::Lock => admin::lock(gateway, &who, &body, peer).await,
        Route::Unlock(kind, name) => admin::unlock(gateway, &who, kind, &name, peer).await,
        Route::Holds => holds::list(gateway, &who, peer),
        Route::Hold => holds::hold(gateway, &who, &body, peer).await,
        Route::Release(id) => holds::release(gateway, &who, id, peer).await,
        Route::Workspaces => workspaces(gateway, &who).await,
        Route::Wake(name) => {
            let response = wake::wake(gateway, &who, shown, request, &name, peer).await?;
            // It takes as long as it takes, and is somebody's: no longer one of those that give way.
            permit.with(Option::take);
            Ok(response)
        }
        Route::Keep(name) => keep::keep(gateway, &who, &name, &body, peer).await,
        Route::Unkeep(name) => keep::release(gateway, &who, &name, peer).await,
        Route::Sessions => sessions(gateway, &who, request.uri().query().unwrap_or_default()),
        Route::Log => log::checkpoint(gateway),
        Route::LogAnchor => log::anchor(gateway).await,
        Route::LogConsistency => log::consistency(gateway, request.uri().query().unwrap_or_default()).await,
        Route::LogInclusion => log::inclusion(gateway, request.uri().query().unwrap_or_default()).await,
        Route::LogLeaves => log::leaves(gateway, &who, request.uri().query().unwrap_or_default(), peer).await,
        Route::SessionLog(id) => {
            log::of_session(gateway, &who, id, request.uri().query().unwrap_or_default(), peer).await
        }
        Route::Session(id) => session(gateway, &who, id, peer).await,
        Route::File(id, name) => {
            let response = file(gateway, &who, id, &name, peer).await?;
            // It may take long, and is somebody's: no longer one of those that give way.
            permit.with(Option::take);
            Ok(response)
        }
        Route::WellKnown | Route::Trust | Route::Logout | Route::Connect { .. } => Err(not_found()),
    }
}

/// The owner of a workspace that exists.
fn owner_of(gateway: &Gateway, workspace: &str) -> Option<String> {
    let name = WorkspaceName::try_from(workspace).ok()?;
    gateway.workspaces.find(&name)?.owner.clone()
}

/// What the laptop's program must know before it can log in.
fn well_known(gateway: &Gateway) -> Response<Body> {
    let all = &gateway.config.oidc;
    let first = all.first();
    let issuers: Vec<_> = all
        .iter()
        .map(|one| {
            json!({
                "name": one.name,
                "issuer": one.issuer,
                "client-id": one.client_id,
                "scopes": one.scopes,
                "dpop": one.dpop.as_str(),
                "token": one.token_kind.as_str(),
            })
        })
        .collect();
    problem::json(&json!({
        "version": 1,
        "issuer": first.map(|one| &one.issuer),
        "client-id": first.map(|one| &one.client_id),
        "audience": first.map(|one| &one.audience),
        "scopes": first.map(|one| &one.scopes),
        "issuers": issuers,
        "ssh-identification": doorward_wire::SSH_IDENTIFICATION,
    }))
}

/// The public keys of the CAs: what a laptop's known_hosts trusts, and what verifies recordings.
async fn trust(gateway: &Gateway) -> Result<Response<Body>, Refusal> {
    let lines = |keys: &CaKeys| -> Result<Vec<String>, Refusal> {
        keys.iter()
            .map(|key| key.to_openssh())
            .collect::<Result<_, _>>()
            .map_err(|error| {
                Refusal::new(RefusalCode::Internal, "a CA key cannot be written").with_detail(error.to_string())
            })
    };
    let down = |error: doorward_certs::AuthorityError| Refusal::by_authority(&error);
    let hosts = gateway.authority.host_ca().await.map_err(down)?;
    let users = gateway.authority.user_ca().await.map_err(down)?;
    Ok(problem::json(
        &json!({ "host-ca": lines(&hosts)?, "user-ca": lines(&users)? }),
    ))
}

/// A workspace in the list.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Listed<'a> {
    name: &'a str,
    login: String,
    owner: Option<&'a str>,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_use: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keep_until: Option<String>,
    /// When the platform stops it.
    #[serde(skip_serializing_if = "Option::is_none")]
    stops_at: Option<String>,
    /// For how long at once the person may have it kept awake, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    keep_longest: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent_version: Option<String>,
    capabilities: Vec<String>,
}

async fn workspaces(gateway: &Gateway, who: &Identity) -> Result<Response<Body>, Refusal> {
    let granted = authorize::list(gateway, who).await?;
    let listed: Vec<Listed<'_>> = granted
        .iter()
        .map(|grant| {
            let workspace = grant.workspace();
            let agent_version = match gateway.links.state(&workspace.name) {
                link::State::Up { agent_version } => Some(agent_version),
                link::State::Down { .. } => None,
            };
            let state = match &workspace.state {
                State::Running if agent_version.is_none() => "unreachable",
                other => other.as_str(),
            };
            Listed {
                name: workspace.name.as_str(),
                login: grant.terms().login.to_string(),
                owner: workspace.owner.as_deref(),
                state,
                reason: workspace.state.reason(),
                last_use: gateway.usage.last_use(workspace).map(rfc3339),
                keep_until: gateway.usage.keep_until(workspace).map(rfc3339),
                stops_at: workspace.notes.stop.as_ref().map(|stop| rfc3339(stop.at)),
                keep_longest: keep::longest(gateway, grant).map(|longest| longest.as_secs()),
                agent_version,
                capabilities: words(grant.terms()),
            }
        })
        .collect();
    let names = &gateway.config.workspace_names;
    Ok(problem::json(
        &json!({ "user": who.user(), "workspaces": listed, "names": names }),
    ))
}

/// Capabilities in the words of the policy file.
pub(crate) fn words(terms: &Terms) -> Vec<String> {
    capability_words(&terms.capabilities)
}

/// The same of capabilities alone.
pub(crate) fn capability_words(capabilities: &Capabilities) -> Vec<String> {
    let Capabilities {
        shell,
        exec,
        pty,
        sftp,
        agent_forwarding,
        x11_forwarding,
        local_forward,
        remote_forward,
    } = capabilities;
    let flags = [
        (*shell, "shell"),
        (*exec, "exec"),
        (*pty, "pty"),
        (*sftp == Sftp::ReadOnly, "sftp:read"),
        (*sftp == Sftp::ReadWrite, "sftp:read-write"),
        (*agent_forwarding, "agent-forwarding"),
        (*x11_forwarding, "x11-forwarding"),
        (*remote_forward == RemoteForward::Loopback, "remote-forward"),
        (*remote_forward == RemoteForward::Any, "remote-forward:any"),
    ];
    let flags = flags
        .into_iter()
        .filter(|(held, _)| *held)
        .map(|(_, word)| word.to_owned());
    flags
        .chain(
            local_forward
                .iter()
                .map(|destination| format!("forward-to:{destination}")),
        )
        .collect()
}

/// The sessions that the caller may see, newest first.
fn sessions(gateway: &Gateway, who: &Identity, query: &str) -> Result<Response<Body>, Refusal> {
    let asked = asked(query)?;
    let list = |user: Option<String>| {
        gateway.store.list(&Filter {
            user,
            workspace: asked.workspace.clone(),
            limit: Filter::MOST,
        })
    };
    // One's own are asked for by name, so that the newest of everybody else cannot push them out of the list.
    let mut seen = BTreeMap::new();
    if asked.user.as_deref().is_none_or(|user| user == who.user()) {
        seen.extend(
            list(Some(who.user().to_owned()))
                .into_iter()
                .map(|one| (one.session, one)),
        );
    }
    if asked.user.as_deref() != Some(who.user()) {
        seen.extend(list(asked.user.clone()).into_iter().map(|one| (one.session, one)));
    }
    let visible: Vec<SessionIndex> = seen
        .into_values()
        .rev()
        .filter(|one| may_view(gateway, who, one))
        .take(asked.limit)
        .collect();
    Ok(problem::json(&json!({ "sessions": visible })))
}

/// What a list of sessions is narrowed to.
struct Asked {
    user: Option<String>,
    workspace: Option<String>,
    limit: usize,
}

fn asked(query: &str) -> Result<Asked, Refusal> {
    let bad = |text: &'static str| Refusal::new(RefusalCode::BadRequest, text);
    let mut asked = Asked {
        user: None,
        workspace: None,
        limit: USUAL_LIMIT,
    };
    let mut keys = Vec::new();
    for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
        if keys.contains(&key) {
            return Err(bad("the query says one thing twice"));
        }
        match key.as_ref() {
            "user" => asked.user = Some(value.into_owned()),
            "workspace" => asked.workspace = Some(value.into_owned()),
            "limit" => {
                asked.limit = value
                    .parse()
                    .ok()
                    .filter(|limit| (1..=Filter::MOST).contains(limit))
                    .ok_or_else(|| bad("`limit` must be a number from 1 to 1000"))?;
            }
            _ => return Err(bad("a query may have `user`, `workspace` and `limit`")),
        }
        keys.push(key);
    }
    Ok(asked)
}

fn may_view(gateway: &Gateway, who: &Identity, one: &SessionIndex) -> bool {
    let workspace = doorward_certs::WorkspaceName::try_from(one.workspace.as_str()).ok();
    // Whose workspace it is now says nothing of a recording from an earlier life of that name.
    let workspace = workspace.and_then(|name| gateway.workspaces.find(&name));
    let of_it = |life: &Life| life.uid.as_str() == one.workspace_uid;
    let same = workspace.filter(|workspace| workspace.life.as_ref().is_some_and(of_it));
    gateway.policy.may_view(
        who,
        &one.user,
        &one.workspace,
        same.as_ref().and_then(|workspace| workspace.owner.as_deref()),
    )
}

/// A session that the caller may see, or the same answer as for none.
async fn visible(gateway: &Gateway, who: &Identity, id: Uuid, peer: SocketAddr) -> Result<SessionIndex, Refusal> {
    let one = gateway.store.session(id).await.ok_or_else(not_found)?;
    if may_view(gateway, who, &one) {
        return Ok(one);
    }
    let refusal = not_found().with_detail(format!("no right to see the recording {id}"));
    gateway.denied(who.user(), &one.workspace, &refusal, peer);
    Err(refusal)
}

/// What stands in the place of a recording that was deleted, for whoever may see all recordings of its workspace.
async fn tombstone(gateway: &Gateway, who: &Identity, id: Uuid, peer: SocketAddr) -> Result<Content, Refusal> {
    let found = gateway.store.tombstone(id).await.map_err(|error| unreadable(&error))?;
    let (tombstone, content) = found.ok_or_else(not_found)?;
    let workspace = &tombstone.statement().workspace;
    // Whose it was is no longer known: nobody sees it as their own.
    if gateway
        .policy
        .may_view(who, "", workspace, owner_of(gateway, workspace).as_deref())
    {
        return Ok(content);
    }
    let refusal = not_found().with_detail(format!("no right to see the recording {id}, which was deleted"));
    gateway.denied(who.user(), workspace, &refusal, peer);
    Err(refusal)
}

async fn session(gateway: &Gateway, who: &Identity, id: Uuid, peer: SocketAddr) -> Result<Response<Body>, Refusal> {
    /// A session with its files.
    #[derive(Serialize)]
    struct Whole {
        #[serde(flatten)]
        index: SessionIndex,
        files: Vec<FileEntry>,
    }
    let index = visible(gateway, who, id, peer).await?;
    let files = gateway.store.files(id).await.map_err(|error| unreadable(&error))?;
    Ok(problem::json(&Whole { index, files }))
}

async fn file(
    gateway: &Gateway,
    who: &Identity,
    id: Uuid,
    name: &str,
    peer: SocketAddr,
) -> Result<Response<Body>, Refusal> {
    let deleted = name == doorward_audit::TOMBSTONE_NAME && gateway.store.session(id).await.is_none();
    if !deleted {
        let one = visible(gateway, who, id, peer).await?;
        if !record::is_ours(name) {
            // No program asks for such a file: somebody tries what can be reached.
            let refusal = not_found().with_detail(format!("no file of the recording {id} has such a name"));
            gateway.denied(who.user(), &one.workspace, &refusal, peer);
            return Err(refusal);
        }
    }
    let place = gateway.downloads.enter(who.user().to_owned());
    let place = place.ok_or_else(|| Refusal::too_many("too many recordings are being fetched at the moment"))?;
    let file = match deleted {
        true => tombstone(gateway, who, id, peer).await?,
        false => {
            let file = gateway.store.file(id, name).await.map_err(|error| unreadable(&error))?;
            file.ok_or_else(not_found)?
        }
    };
    let size = file.size;
    gateway.journal.append(RecordingViewed {
        session: id,
        user: who.user().to_owned(),
        what: name.to_owned(),
    });
    let bytes = ReaderStream::with_capacity(file.bytes, CHUNK);
    let frames = bytes.map_ok(move |chunk| {
        // The place is given back with the body.
        let _held = &place;
        Frame::<Bytes>::data(chunk)
    });
    let body = StreamBody::new(frames).boxed_unsync();
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/octet-stream"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(size));
    Ok(response)
}

fn unreadable(error: &std::io::Error) -> Refusal {
    Refusal::new(
        RefusalCode::RecordStoreDown,
        "the recording cannot be read at the moment",
    )
    .with_detail(error.to_string())
}

/// How many sessions a list has if the query does not say.
const USUAL_LIMIT: usize = 50;
/// How much of a file is read at once, in bytes.
const CHUNK: usize = 64 * 1024;
