//! Waiting for a workspace that sleeps or starts: the gateway is asked to wake it and tells how far it is, line by line.
//!
//! `ssh` hears the identification before the wait begins, because an editor above it gives that 15 seconds. Leaving ends
//! this program's wait and nothing else: the workspace goes on starting, and others may wait for it.

use std::io::{IsTerminal as _, stderr};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Response, StatusCode};
use hyper::body::Incoming;
use serde::Deserialize;
use terminal_size::{Width, terminal_size_of};
use tokio::time::Instant;

use super::upgrade::{Wanted, with_reason};
use crate::error::Error;
use crate::gateway::Gateway;
use crate::http::dial;
use crate::http::{Problem, exchange, next_part, refusal, request};
use crate::pass::Pass;
use crate::say;

/// How long one line may be, in bytes.
const LONGEST_LINE: usize = 16 * 1024;
/// How much the gateway may tell of one wake, in bytes.
const LONGEST_TALE: usize = 4 * 1024 * 1024;
/// How long a workspace may take, however often it has to be asked for. The gateway has a shorter deadline of its own for each.
const PATIENCE: Duration = Duration::from_secs(15 * 60);

/// Whether a refusal means that waiting helps.
pub(super) fn helps(problem: &Problem) -> bool {
    matches!(problem.code.as_str(), "asleep" | "starting")
}

/// What became of one request.
#[derive(Debug)]
pub(super) enum Woken {
    /// It can be entered.
    Running,
    /// This gateway wakes nothing.
    Unknown,
}

/// One wait, from the first refusal to the tunnel or to giving up.
#[derive(Debug)]
pub(super) struct Wait {
    until: Instant,
    shown: Shown,
}

impl Wait {
    pub(super) fn begin() -> Self {
        Self {
            until: Instant::now() + PATIENCE,
            shown: Shown::new(stderr().is_terminal()),
        }
    }

    /// Whether there is any time left.
    pub(super) fn is_over(&self) -> bool {
        Instant::now() >= self.until
    }

    /// Asks the gateway to wake the workspace, and shows how far it is until it runs.
    ///
    /// # Errors
    /// The gateway's refusal, or why the workspace does not start.
    pub(super) async fn wake(&mut self, gateway: &Gateway, wanted: &Wanted<'_>, pass: &Pass) -> Result<Woken, Error> {
        let url = gateway.at(&["v1", "workspaces", wanted.workspace.as_str(), "wake"]);
        let whom = gateway.whom();
        let request = with_reason(request(Method::POST, &url, Some(pass), Bytes::new())?, wanted);
        let stream = dial::dial(&url, || gateway.web.tls()).await?;
        let (until, name) = (self.until, wanted.workspace.to_string());
        let shown = &mut self.shown;
        let work = async |response: Response<Incoming>| {
            match response.status() {
                StatusCode::OK => {}
                StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => return Ok(Woken::Unknown),
                _ => return Err(refusal(&whom, response).await),
            }
            let tale = listen(&whom, &name, response.into_body(), shown);
            match tokio::time::timeout_at(until, tale).await {
                Ok(heard) => heard.map(|()| Woken::Running),
                Err(_) => Err(Error::Broken(format!(
                    "{name} did not start within {} minutes",
                    PATIENCE.as_secs() / 60
                ))),
            }
        };
        let woken = exchange(&whom, stream, request, work).await;
        self.shown.clear();
        woken
    }
}

/// A line as the gateway writes it. A last one that is no good is a problem (RFC 9457) with the state `failed`.
#[derive(Debug, Deserialize)]
struct Line {
    state: String,
    #[serde(default)]
    text: String,
}

async fn listen(whom: &str, name: &str, mut body: Incoming, shown: &mut Shown) -> Result<(), Error> {
    let mut lines = Lines::default();
    while let Some(part) = next_part(whom, &mut body).await? {
        let wrong = |what: &str| Error::Answer {
            whom: whom.to_owned(),
            what: what.to_owned(),
        };
        for line in lines.take(&part).map_err(wrong)? {
            let read: Line = serde_json::from_slice(&line).map_err(|error| wrong(&error.to_string()))?;
            match read.state.as_str() {
                "running" => return Ok(()),
                "failed" => {
                    shown.clear();
                    return Err(Error::Refused(Problem::parse(StatusCode::SERVICE_UNAVAILABLE, &line)));
                }
                // A state that a later gateway knows is shown like any other.
                state if read.text.is_empty() => shown.show(&format!("{name} is {state}")),
                state => shown.show(&format!("{name} is {state}: {}", read.text)),
            }
        }
    }
    Err(Error::Broken(format!("{whom} stopped telling how far {name} is")))
}

/// Whole lines out of parts.
#[derive(Debug, Default)]
struct Lines {
    rest: Vec<u8>,
    heard: usize,
}

impl Lines {
    /// The lines that this part ends; empty ones are only a sign of life.
    fn take(&mut self, part: &[u8]) -> Result<Vec<Vec<u8>>, &'static str> {
        self.heard += part.len();
        if self.heard > LONGEST_TALE {
            return Err("it tells more of a workspace that starts than anybody reads");
        }
        self.rest.extend_from_slice(part);
        let mut lines = Vec::new();
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            let line = line.trim_ascii();
            if line.len() > LONGEST_LINE {
                return Err("a line is too long");
            }
            if !line.is_empty() {
                lines.push(line.to_vec());
            }
        }
        match self.rest.len() > LONGEST_LINE {
            true => Err("a line is too long"),
            false => Ok(lines),
        }
    }
}

/// What the person sees: one line that changes on a terminal, a line for each change elsewhere.
#[derive(Debug)]
struct Shown {
    terminal: bool,
    last: String,
}

impl Shown {
    fn new(terminal: bool) -> Self {
        Self {
            terminal,
            last: String::new(),
        }
    }

    fn show(&mut self, text: &str) {
        if self.last == text {
            return;
        }
        text.clone_into(&mut self.last);
        match self.terminal {
            true => say::progress(&fitting(text, columns())),
            false => say::note(text),
        }
    }

    fn clear(&mut self) {
        if self.terminal && !self.last.is_empty() {
            say::progress("");
        }
        self.last.clear();
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.clear();
    }
}

fn columns() -> usize {
    terminal_size_of(stderr()).map_or(80, |(Width(columns), _)| columns.into())
}

/// The text escaped, and no longer than a line of the terminal: what wraps cannot be taken back.
fn fitting(text: &str, columns: usize) -> String {
    let text = format!("doorward: {}", say::shown(text));
    // Characters that take two columns count as two.
    let mut left = columns.saturating_sub(2);
    let mut out = String::new();
    for character in text.chars() {
        let width = if character.is_ascii() { 1 } else { 2 };
        match left.checked_sub(width) {
            Some(rest) => left = rest,
            None => return out + "…",
        }
        out.push(character);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_whole_however_they_are_cut_and_never_without_bound() {
        let text = b"{\"state\":\"starting\"}\n\n\r\n{\"state\":\"running\"}\n";
        for size in 1..=text.len() {
            let mut lines = Lines::default();
            let read: Vec<Vec<u8>> = text.chunks(size).flat_map(|part| lines.take(part).unwrap()).collect();
            assert_eq!(
                read,
                [&b"{\"state\":\"starting\"}"[..], b"{\"state\":\"running\"}"],
                "{size}"
            );
        }
        Lines::default().take(&vec![b'x'; LONGEST_LINE + 1]).unwrap_err();
        Lines::default()
            .take(&[vec![b'x'; LONGEST_LINE + 1], b"\n".to_vec()].concat())
            .unwrap_err();
        let mut lines = Lines::default();
        let line = [vec![b' '; LONGEST_LINE - 1], b"\n".to_vec()].concat();
        let mut heard = 0;
        while lines.take(&line).is_ok() {
            heard += line.len();
            assert!(heard <= LONGEST_TALE);
        }
    }

    #[test]
    fn a_line_fits_the_terminal_and_does_nothing_to_it() {
        assert_eq!(fitting("abc", 80), "doorward: abc");
        assert_eq!(fitting("a\u{1b}[2J\n", 80), "doorward: a\\x1b[2J\\n");
        for columns in [0, 1, 12, 40] {
            let fitted = fitting(&"é→x".repeat(100), columns);
            let width: usize = fitted
                .chars()
                .map(|one| if one.is_ascii() || one == '…' { 1 } else { 2 })
                .sum();
            assert!(width <= columns.max(1), "{columns}: {fitted}");
        }
    }
}
