//! What a refused token says of itself, to tell people why it may have been refused. Nobody signed for any of it here.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;

use super::review::ReviewError;

#[derive(Deserialize)]
struct Claims {
    #[serde(default)]
    aud: Audiences,
    exp: Option<u64>,
    #[serde(rename = "kubernetes.io")]
    kubernetes: Option<Bound>,
}

#[derive(Deserialize, Default)]
#[serde(untagged)]
enum Audiences {
    One(String),
    Several(Vec<String>),
    #[default]
    None,
}

#[derive(Deserialize)]
struct Bound {
    pod: Option<serde::de::IgnoredAny>,
}

/// Why the API server may have refused a token; `said` is its own word.
pub(super) fn why_refused(token: &str, audience: &str, said: String) -> ReviewError {
    let Some(claims) = read(token) else {
        return ReviewError::Refused(said);
    };
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let ours = match &claims.aud {
        Audiences::One(one) => one == audience,
        Audiences::Several(all) => all.iter().any(|one| one == audience),
        Audiences::None => false,
    };
    match claims {
        _ if !ours => ReviewError::Audience {
            audience: audience.to_owned(),
            said,
        },
        Claims { exp: Some(exp), .. } if exp <= now => ReviewError::Expired(said),
        Claims {
            kubernetes: Some(Bound { pod: None }),
            ..
        } => ReviewError::Unbound,
        _ if GONE.iter().any(|words| said.contains(words)) => ReviewError::Gone(said),
        _ => ReviewError::Refused(said),
    }
}

/// The server's own words for a token whose pod, or service account, is gone, the last where there is another of that name.
const GONE: [&str; 4] = ["invalidated", "deleted", "not found", "does not match"];

fn read(token: &str) -> Option<Claims> {
    let mut parts = token.split('.');
    let (_, claims, _, None) = (parts.next()?, parts.next()?, parts.next()?, parts.next()) else {
        return None;
    };
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()
}
