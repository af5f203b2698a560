//! A refusal as the gateway words it (RFC 9457), or as little as an intermediary says.

use std::fmt;

use http::{Response, StatusCode};
use hyper::body::Incoming;
use serde::Deserialize;

/// The largest problem body that is read, in bytes.
const LARGEST: usize = 16 * 1024;
/// How much of a text of the other side is shown, in bytes.
const LONGEST_TEXT: usize = 1024;

/// What a refusal says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// The gateway's code, one of a closed set; empty where something else answered.
    pub code: String,
    /// One sentence; untrusted, so escaped where it is shown.
    pub text: String,
    /// What to do about it; untrusted as well.
    pub hint: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Body {
    title: Option<String>,
    detail: Option<String>,
    code: Option<String>,
    hint: Option<String>,
}

impl Problem {
    /// Reads a problem body; anything else becomes a sentence about the status. The gateway itself always sends one.
    pub(crate) fn parse(status: StatusCode, body: &[u8]) -> Self {
        let body: Body = serde_json::from_slice(body).unwrap_or_default();
        let text = body
            .detail
            .or(body.title)
            .filter(|text| !text.trim().is_empty())
            .unwrap_or_else(|| format!("something in front of the gateway answered {}", describe(status)));
        Self {
            status: status.as_u16(),
            code: cut(body.code.unwrap_or_default()),
            text: cut(text),
            hint: body.hint.map(cut),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Reads the body of a refusal. One that is too large, or that breaks off, tells nothing more than its status.
pub(crate) async fn read_problem(response: Response<Incoming>) -> Problem {
    let status = response.status();
    let body = super::collect("the gateway", response.into_body(), LARGEST)
        .await
        .unwrap_or_default();
    Problem::parse(status, &body)
}

/// `503 Service Unavailable`.
pub(crate) fn describe(status: StatusCode) -> String {
    match status.canonical_reason() {
        Some(reason) => format!("{} {reason}", status.as_u16()),
        None => status.as_u16().to_string(),
    }
}

fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(LONGEST_TEXT));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_body_says_it_all() {
        let body = br#"{"type":"urn:x","title":"denied","status":403,"detail":"bob may not enter devenv-0","code":"denied","hint":"ask an admin","instance":"urn:uuid:1"}"#;
        let problem = Problem::parse(StatusCode::FORBIDDEN, body);
        assert_eq!(problem.text, "bob may not enter devenv-0");
        assert_eq!(problem.code, "denied");
        assert_eq!(problem.hint.as_deref(), Some("ask an admin"));
    }

    #[test]
    fn other_bodies_become_their_status() {
        for body in [
            &b"<html>nginx</html>"[..],
            b"",
            b"[]",
            b"{\"title\":7}",
            b"{\"title\":\" \"}",
            b"\xff",
        ] {
            let problem = Problem::parse(StatusCode::BAD_GATEWAY, body);
            assert_eq!(
                problem.text,
                "something in front of the gateway answered 502 Bad Gateway"
            );
            assert_eq!(problem.hint, None);
        }
        let long = format!("{{\"title\":\"{}\"}}", "é".repeat(5000));
        assert_eq!(
            Problem::parse(StatusCode::BAD_REQUEST, long.as_bytes()).text.len(),
            LONGEST_TEXT
        );
    }
}
