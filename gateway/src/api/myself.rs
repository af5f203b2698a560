//! Who one is here, and why one may enter what.

use std::{collections::BTreeSet, net::SocketAddr};

use ::http::Response;
use doorward_certs::WorkspaceName;
use serde_json::json;

use super::{admin::right, owner_of};
use crate::{
    Gateway, authorize,
    locks::rfc3339,
    oidc::{Email, Identity, Person, supposed},
    policy::Right,
    problem::{self, Body},
    refusal::{Refusal, RefusalCode},
};

/// `GET /v1/me`
pub(super) fn me(gateway: &Gateway, who: &Identity) -> Response<Body> {
    let may: Vec<_> = gateway
        .policy
        .rights_of(who.person())
        .into_iter()
        .map(Right::as_str)
        .collect();
    problem::json(&json!({
        "user": who.user(),
        "issuer": who.issuer(),
        "groups": who.groups(),
        "email": who.email().map(ToString::to_string),
        "roles": gateway.policy.roles_of(who.person()),
        "may": may,
        "token-expires": rfc3339(who.expires()),
    }))
}

/// `GET /v1/explain?workspace=W[&user=U&groups=a,b&email=E]`: for oneself, or with the right to for anybody.
pub(super) async fn explain(
    gateway: &Gateway,
    who: &Identity,
    query: &str,
    peer: SocketAddr,
) -> Result<Response<Body>, Refusal> {
    let asked = asked(query)?;
    let owner = owner_of(gateway, asked.workspace.as_str());
    let over = (asked.workspace.as_str(), owner.as_deref());
    let has = gateway.policy.may(who.person(), Right::Explain, Some(over));
    let explanation = match &asked.other {
        None => authorize::explain(gateway, who.person(), &asked.workspace, has).await?,
        Some(other) => {
            right(gateway, who, has, asked.workspace.as_str(), peer)?;
            let login = gateway
                .config
                .oidc
                .first()
                .and_then(|oidc| supposed(oidc, &other.user, other.email.as_ref()));
            let person = Person {
                user: &other.user,
                groups: &other.groups,
                // Nobody says which ones the issuer would assign.
                workspaces: &BTreeSet::new(),
                email: other.email.as_ref(),
                login: login.as_ref(),
                cluster: None,
            };
            authorize::explain(gateway, person, &asked.workspace, true).await?
        }
    };
    Ok(problem::json(&explanation))
}

struct Asked {
    workspace: WorkspaceName,
    other: Option<Other>,
}

struct Other {
    user: String,
    groups: BTreeSet<String>,
    email: Option<Email>,
}

fn asked(query: &str) -> Result<Asked, Refusal> {
    let bad = |text: &'static str| Refusal::new(RefusalCode::BadRequest, text);
    let (mut workspace, mut user, mut groups, mut email) = (None, None, None, None);
    for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
        let place = match &*key {
            "workspace" => &mut workspace,
            "user" => &mut user,
            "groups" => &mut groups,
            "email" => &mut email,
            _ => return Err(bad("the query has a key that is not known")),
        };
        if place.replace(value.into_owned()).is_some() {
            return Err(bad("the query has a key twice"));
        }
    }
    let workspace = workspace.ok_or_else(|| bad("the query must name a workspace"))?;
    let other = match user {
        None if groups.is_some() || email.is_some() => return Err(bad("groups and email are those of a user")),
        None => None,
        Some(user) if user.is_empty() || user.len() > 256 => return Err(bad("that is no name")),
        Some(user) => Some(Other {
            user,
            groups: groups
                .unwrap_or_default()
                .split(',')
                .filter(|group| !group.is_empty())
                .map(str::to_owned)
                .collect(),
            email: email
                .map(|email| Email::parse(&email).ok_or_else(|| bad("that is no e-mail address")))
                .transpose()?,
        }),
    };
    Ok(Asked {
        workspace: WorkspaceName::try_from(workspace).map_err(|_| bad("that is no workspace name"))?,
        other,
    })
}
