//! A token from a program of the person's choice (`oc whoami -t`), in place of a login of our own.
//!
//! The program is started by its absolute path with its arguments as they are, never through a shell. What it prints is the token and is
//! kept in memory alone; what it says on standard error is shown only if it fails.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;
use tokio::sync::Mutex;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::Need;
use crate::error::Error;
use crate::oidc::Glance;
use crate::pass::{Pass, now};
use crate::program;
use crate::secret::Secret;

/// How long it may take; some ask a person.
const WITHIN: Duration = Duration::from_secs(60);
/// The longest token, in bytes: as much as a gateway takes.
const LONGEST: usize = 16 * 1024;
/// How much of what it says is shown, in bytes.
const MOST_SAID: usize = 2 * 1024;
/// After how long it is asked anew for an open session, in seconds: it may have a newer one, and nobody says how long one lives.
const AGAIN: u64 = 600;

/// What it printed last, which serves this process alone.
static LAST: Mutex<Option<(Vec<String>, Pass)>> = Mutex::const_new(None);

/// A pass with the token that the program prints.
///
/// # Errors
/// [`Error::TokenCommand`].
pub(crate) async fn pass(command: &[String], need: Need<'_>) -> Result<Pass, Error> {
    // Of several that need one at once, one asks.
    let mut last = LAST.lock().await;
    if let Some((of, pass)) = &*last
        && of == command
        && need.met_by_pass(pass)
    {
        return Ok(pass.clone());
    }
    let token = token(command, WITHIN).await?;
    // Where the token says itself when it ends, that counts.
    let until = now().saturating_add(AGAIN);
    let until = Glance::at(token.expose()).exp.map_or(until, |exp| exp.min(until));
    let pass = Pass::new(token, None, 0, until);
    *last = Some((command.to_vec(), pass.clone()));
    Ok(pass)
}

async fn token(command: &[String], within: Duration) -> Result<Secret, Error> {
    let (name, arguments) = command
        .split_first()
        .ok_or_else(|| Error::Configuration("token-command is empty".into()))?;
    let failed = |why: String| Error::TokenCommand {
        program: name.clone(),
        why,
    };
    let found = found(name).map_err(&failed)?;
    let mut command = Command::new(found);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.kill_on_drop(true);
    #[cfg(windows)]
    command.creation_flags(NO_WINDOW);
    let mut child = command
        .spawn()
        .map_err(|error| failed(format!("it cannot be started: {error}")))?;
    let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(failed("it cannot be heard".to_owned()));
    };
    let work = async { tokio::join!(printed(stdout), said(stderr), child.wait()) };
    let (printed, said, status) = match timeout(within, work).await {
        Ok(done) => done,
        Err(_) => return Err(failed(format!("it did not end within {} s", within.as_secs()))),
    };
    let status = status.map_err(|error| failed(error.to_string()))?;
    if !status.success() {
        let said = said.trim();
        let more = if said.is_empty() {
            String::new()
        } else {
            format!(": {said}")
        };
        return Err(failed(format!("it ended with {status}{more}")));
    }
    let printed = printed.ok_or_else(|| failed(format!("it printed more than {LONGEST} bytes")))?;
    read(&printed).map_err(|what| failed(what.to_owned()))
}

/// Where the program is. Batch files are left alone: a shell would read the arguments.
fn found(name: &str) -> Result<PathBuf, String> {
    let found = program::find(name).ok_or_else(|| "there is no such program".to_owned())?;
    let ending = found.extension().unwrap_or(OsStr::new(""));
    match cfg!(windows) && (ending.eq_ignore_ascii_case("cmd") || ending.eq_ignore_ascii_case("bat")) {
        true => Err("it is a batch file, and those are not run".to_owned()),
        false => Ok(found),
    }
}

/// Everything that is printed; nothing if it is more than any token.
async fn printed(mut from: impl AsyncRead + Unpin) -> Option<Zeroizing<Vec<u8>>> {
    // With room for all of it, so that no piece stays behind when it grows.
    let mut all = Zeroizing::new(Vec::with_capacity(2 * LONGEST));
    let mut limited = (&mut from).take(LONGEST as u64 + 3);
    limited.read_to_end(&mut all).await.ok()?;
    if all.len() > LONGEST + 2 {
        tokio::io::copy(&mut from, &mut tokio::io::sink()).await.ok()?;
        return None;
    }
    Some(all)
}

/// The end of what is said.
async fn said(mut from: impl AsyncRead + Unpin) -> String {
    let mut end = Vec::new();
    let mut piece = vec![0; MOST_SAID];
    while let Ok(length @ 1..) = from.read(&mut piece).await {
        end.extend_from_slice(piece.get(..length).unwrap_or_default());
        let over = end.len().saturating_sub(MOST_SAID);
        end.drain(..over);
    }
    String::from_utf8_lossy(&end).into_owned()
}

/// The token in what was printed: one word of the characters that a bearer token has (RFC 6750 section 2.1).
fn read(printed: &[u8]) -> Result<Secret, &'static str> {
    let word = printed.trim_ascii();
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(byte);
    match std::str::from_utf8(word) {
        _ if word.is_empty() => Err("it printed nothing"),
        Ok(text) if word.iter().all(allowed) => Ok(Secret::from(text.to_owned())),
        _ => Err("it printed something else than a token"),
    }
}

/// `CREATE_NO_WINDOW`: an editor that starts us has no console, and none should flash up.
#[cfg(windows)]
const NO_WINDOW: u32 = 0x0800_0000;

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Vec<String> {
        ["sh", "-c", script].map(str::to_owned).to_vec()
    }

    async fn why(command: &[String]) -> String {
        let error = token(command, WITHIN).await.unwrap_err();
        assert_eq!(error.exit(), 77);
        assert!(!error.to_string().contains("sesame"), "{error}");
        error.to_string()
    }

    #[tokio::test]
    async fn what_it_prints_is_the_token_and_nothing_else_of_it_counts() {
        let printed = token(&sh("echo it is late >&2; printf ' sha256~sesame_1\\r\\n'"), WITHIN).await;
        assert!(printed.is_ok(), "{printed:?}");
        assert_eq!(printed.unwrap().expose(), "sha256~sesame_1");
        for (script, expected) in [
            ("true", "printed nothing"),
            ("echo sesame open", "something else than a token"),
            ("printf 'sesame\\nopen'", "something else than a token"),
            ("printf 'sesame\\033[2J'", "something else than a token"),
            ("printf 'sesame\\377'", "something else than a token"),
            ("head -c 20000 /dev/zero | tr '\\0' s", "more than 16384 bytes"),
            (
                "echo sesame; echo log in first >&2; exit 3",
                "exit status: 3: log in first",
            ),
            ("echo sesame; exit 3", "exit status: 3"),
            ("kill -9 $$", "signal: 9"),
            (
                "head -c 100000 /dev/zero | tr '\\0' x >&2; echo the end >&2; exit 1",
                "xthe end",
            ),
        ] {
            let said = why(&sh(script)).await;
            assert!(said.contains(expected), "{script}: {said}");
            assert!(said.len() < 3 * MOST_SAID, "{}", said.len());
        }
        assert!(
            why(&["doorward-no-such-program".to_owned()])
                .await
                .contains("no such program")
        );
    }

    #[tokio::test]
    async fn no_shell_reads_the_arguments() {
        let command = ["printf", "%s", "$(id);*"].map(str::to_owned);
        assert!(why(&command).await.contains("something else"));
        let command = ["printf", "%s", "a~b"].map(str::to_owned);
        assert_eq!(token(&command, WITHIN).await.unwrap().expose(), "a~b");
    }

    #[tokio::test]
    async fn one_that_does_not_end_is_ended() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pid");
        let script = format!("echo $$ > {}; exec sleep 86400", file.display());
        let error = token(&sh(&script), Duration::from_secs(2)).await.unwrap_err();
        assert!(error.to_string().contains("did not end within 2 s"), "{error}");
        let pid = std::fs::read_to_string(&file).unwrap();
        let gone = async {
            // Reaped, or waiting for it.
            let status = format!("/proc/{}/stat", pid.trim());
            while std::fs::read_to_string(&status).is_ok_and(|text| !text.contains(") Z")) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(30), gone).await.unwrap();
    }

    #[tokio::test]
    async fn it_is_asked_once_until_another_token_is_needed() {
        let dir = tempfile::tempdir().unwrap();
        let count = dir.path().join("count");
        let command = sh(&format!(
            "echo x >> {0}; printf token-; wc -l < {0} | tr -d ' '",
            count.display()
        ));
        let first = pass(&command, Need::Valid).await.unwrap();
        assert_eq!(first.token().expose(), "token-1");
        assert!(first.life() > Duration::from_secs(500));
        let same = pass(&command, Need::Valid).await.unwrap();
        assert_eq!(same.token().expose(), "token-1");
        let other = pass(&command, Need::Other(first.token())).await.unwrap();
        assert_eq!(other.token().expose(), "token-2");
        let longer = pass(&command, Need::Longer(Duration::from_secs(AGAIN + 60)))
            .await
            .unwrap();
        assert_eq!(longer.token().expose(), "token-3");
    }
}
