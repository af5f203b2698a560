//! The transparency log, as it is shown: checkpoint and proofs to everybody who is known here, the leaves of a session to those
//! who may see its recording, all leaves to those who may see every recording.
//!
//! Leaves say which sessions there were. So nobody learns from them of a session that would otherwise look as if it were not there.

use std::{io, net::SocketAddr, sync::Arc};

use ::http::Response;
use doorward_audit::{hex, log::Hash};
use serde_json::{Value, json};
use uuid::Uuid;

use super::visible;
use crate::{
    Gateway,
    http::not_found,
    journal::log::PublicLog,
    oidc::Identity,
    problem::{self, Body},
    refusal::{Refusal, RefusalCode},
};

/// The newest checkpoint.
pub(super) fn checkpoint(gateway: &Gateway) -> Result<Response<Body>, Refusal> {
    let checkpoint = gateway.journal.public().checkpoint().ok_or_else(nothing_signed)?;
    let signature = checkpoint
        .signature()
        .map_err(|error| unreadable(&io::Error::other(error)))?;
    Ok(problem::json(&json!({
        "statement": checkpoint.text(),
        "signature": signature,
    })))
}

/// The newest checkpoint that was attested by somebody outside.
pub(super) async fn anchor(gateway: &Gateway) -> Result<Response<Body>, Refusal> {
    let line = ask(gateway, PublicLog::anchor).await?.ok_or_else(not_found)?;
    let line: Value = serde_json::from_str(&line).map_err(|error| unreadable(&error.into()))?;
    Ok(problem::json(&line))
}

/// The proof that the log of size `to` begins with that of size `from`.
pub(super) async fn consistency(gateway: &Gateway, query: &str) -> Result<Response<Body>, Refusal> {
    let [from, to] = numbers(query, ["from", "to"])?;
    let proof = ask(gateway, move |log| log.consistency(from, to)).await?;
    Ok(problem::json(&json!({ "proof": texts(&proof) })))
}

/// The proof that the leaf `index` is in the log of this size.
pub(super) async fn inclusion(gateway: &Gateway, query: &str) -> Result<Response<Body>, Refusal> {
    let [index, size] = numbers(query, ["index", "size"])?;
    let proof = ask(gateway, move |log| log.inclusion(index, size)).await?;
    Ok(problem::json(&json!({ "proof": texts(&proof) })))
}

/// Leaves, at most [`PublicLog::MOST_LEAVES`] at once.
pub(super) async fn leaves(
    gateway: &Gateway,
    who: &Identity,
    query: &str,
    peer: SocketAddr,
) -> Result<Response<Body>, Refusal> {
    let [start, end] = numbers(query, ["start", "end"])?;
    if !gateway.policy.may_audit(who) {
        let refusal = Refusal::new(
            RefusalCode::NoRight,
            "only those who may see every recording may read the whole log",
        );
        gateway.denied(who.user(), "", &refusal, peer);
        return Err(refusal);
    }
    let leaves = ask(gateway, move |log| log.leaves(start, end)).await?;
    Ok(problem::json(&json!({ "leaves": leaves })))
}

/// The leaves of one session from one on, each with its proof, at most [`PublicLog::MOST_PROVED`] at once.
pub(super) async fn of_session(
    gateway: &Gateway,
    who: &Identity,
    session: Uuid,
    query: &str,
    peer: SocketAddr,
) -> Result<Response<Body>, Refusal> {
    let [from, size] = numbers(query, ["from", "size"])?;
    visible(gateway, who, session, peer).await?;
    let logged = ask(gateway, move |log| log.of_session(session, from, size)).await?;
    let leaves: Vec<Value> = logged
        .iter()
        .map(|leaf| json!({ "index": leaf.index, "leaf": leaf.text, "proof": texts(&leaf.proof) }))
        .collect();
    Ok(problem::json(&json!({ "leaves": leaves })))
}

async fn ask<T: Send + 'static>(
    gateway: &Gateway,
    question: impl FnOnce(&PublicLog) -> io::Result<T> + Send + 'static,
) -> Result<T, Refusal> {
    // Nobody's in particular: an answer takes a moment.
    let place = gateway.downloads.enter(String::new());
    let _place =
        place.ok_or_else(|| Refusal::too_many("too many recordings and proofs are being fetched at the moment"))?;
    let log = Arc::clone(gateway.journal.public());
    let asked = tokio::task::spawn_blocking(move || question(&log)).await;
    asked
        .map_err(io::Error::other)
        .flatten()
        .map_err(|error| match error.kind() {
            io::ErrorKind::InvalidInput => Refusal::new(RefusalCode::BadRequest, "the log has no such size or leaf"),
            io::ErrorKind::NotFound => nothing_signed(),
            _ => unreadable(&error),
        })
}

/// These numbers of a query, each once, and nothing else.
fn numbers<const N: usize>(query: &str, names: [&str; N]) -> Result<[u64; N], Refusal> {
    let bad = || {
        let names = names.join("`, `");
        Refusal::new(
            RefusalCode::BadRequest,
            format!("the query must have the numbers `{names}`, each once"),
        )
    };
    let mut found = [None; N];
    for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
        let at = names.iter().position(|name| *name == key).ok_or_else(bad)?;
        let number = value.parse::<u64>().ok().filter(|number| number.to_string() == value);
        if found[at].is_some() {
            return Err(bad());
        }
        found[at] = Some(number.ok_or_else(bad)?);
    }
    let mut numbers = [0; N];
    for (number, found) in numbers.iter_mut().zip(found) {
        *number = found.ok_or_else(bad)?;
    }
    Ok(numbers)
}

fn texts(proof: &[Hash]) -> Vec<String> {
    proof.iter().map(|hash| hex(hash)).collect()
}

fn nothing_signed() -> Refusal {
    Refusal::new(
        RefusalCode::AuthorityDown,
        "the gateway has no certificate yet with which it could sign its log",
    )
}

fn unreadable(error: &io::Error) -> Refusal {
    Refusal::new(RefusalCode::RecordStoreDown, "the log cannot be read at the moment").with_detail(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_has_its_numbers_once_and_nothing_else() {
        assert_eq!(numbers("to=7&from=3", ["from", "to"]).unwrap(), [3, 7]);
        for bad in [
            "",
            "from=3",
            "from=3&to=7&to=7",
            "from=3&to=7&x=1",
            "from=+3&to=7",
            "from=03&to=7",
            "from=-1&to=7",
        ] {
            assert!(numbers(bad, ["from", "to"]).is_err(), "{bad}");
        }
    }
}
