//! What was found, for people and as JSON. What others said is escaped.

use std::{
    fmt::{Display, Write as _},
    io::IsTerminal as _,
};

use serde::Serialize;

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Which check.
    pub check: &'static str,
    /// What it looked at: a name, an address, a file; empty where there is only one.
    pub subject: String,
    /// How it is.
    pub verdict: Verdict,
    /// What was found.
    pub text: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// How a thing is; the later is the worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it has to be.
    Ok,
    /// It works, and should be looked at.
    Warning,
    /// It does not work.
    Broken,
}

impl Finding {
    pub(super) fn ok(check: &'static str, subject: impl Display, text: impl Into<String>) -> Self {
        Self::new(check, subject, Verdict::Ok, text, None)
    }

    pub(super) fn warning(
        check: &'static str,
        subject: impl Display,
        text: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::new(check, subject, Verdict::Warning, text, Some(remedy.into()))
    }

    pub(super) fn broken(
        check: &'static str,
        subject: impl Display,
        text: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::new(check, subject, Verdict::Broken, text, Some(remedy.into()))
    }

    fn new(
        check: &'static str,
        subject: impl Display,
        verdict: Verdict,
        text: impl Into<String>,
        remedy: Option<String>,
    ) -> Self {
        Self {
            check,
            subject: escaped(&subject.to_string()),
            verdict,
            text: escaped(&text.into()),
            remedy,
        }
    }
}

/// One line for each finding, and one with its remedy where there is one; the last line counts.
#[must_use]
pub fn text(findings: &[Finding]) -> String {
    let mut out = String::new();
    for finding in findings {
        let word = match finding.verdict {
            Verdict::Ok => "ok     ",
            Verdict::Warning => "warning",
            Verdict::Broken => "broken ",
        };
        let subject = match finding.subject.as_str() {
            "" => String::new(),
            subject => format!(" {subject}"),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{word} {}{subject}: {}", finding.check, finding.text);
        if let Some(remedy) = &finding.remedy {
            let _ = writeln!(out, "        → {remedy}");
        }
    }
    let count = |verdict| findings.iter().filter(|finding| finding.verdict == verdict).count();
    let _ = writeln!(
        out,
        "{} ok, {} to look at, {} broken",
        count(Verdict::Ok),
        count(Verdict::Warning),
        count(Verdict::Broken)
    );
    out
}

/// The findings as a JSON array.
///
/// # Errors
/// None that findings can cause; the encoder's type has one.
pub fn json(findings: &[Finding]) -> Result<String, serde_json::Error> {
    match std::io::stdout().is_terminal() {
        true => serde_json::to_string_pretty(findings),
        false => serde_json::to_string(findings),
    }
}

/// The exit code that says the worst: 0 all is well, 1 something should be looked at, 2 something is broken.
#[must_use]
pub fn exit_code(findings: &[Finding]) -> u8 {
    match findings.iter().map(|finding| finding.verdict).max() {
        None | Some(Verdict::Ok) => 0,
        Some(Verdict::Warning) => 1,
        Some(Verdict::Broken) => 2,
    }
}

/// On one line, without control and direction characters, and bounded.
fn escaped(text: &str) -> String {
    let plain = |character: char| match character {
        '\n' => vec![';', ' '],
        '"' | '\'' | '\\' => vec![character],
        other => other.escape_debug().collect(),
    };
    text.trim().chars().flat_map(plain).take(LONGEST).collect()
}

const LONGEST: usize = 1000;
