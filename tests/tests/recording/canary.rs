//! A secret of the workspace is shown to the person, whole, and is nowhere in what is kept.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, BuildError};
use anyhow::{Context, Result, bail, ensure};
use doorward_dev::stack::ClientFolder;
use tests::journal::recorded;
use tests::stored::session;
use tests::{PATIENCE, feed};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;
use tokio::time::timeout;

use crate::stand;

pub(crate) const NAME: &str = "SECRET_CANARY";
pub(crate) const CANARY: &str = "secret-canary-4711-Zq8w";
/// In base64, with nothing, `x` and `xy` before it.
const ENCODED: [&str; 3] = [
    "c2VjcmV0LWNhbmFyeS00NzExLVpxOHc=",
    "eHNlY3JldC1jYW5hcnktNDcxMS1acTh3",
    "eHlzZWNyZXQtY2FuYXJ5LTQ3MTEtWnE4dw==",
];

/// Bytes of it that the script shows first.
const HALF: usize = 13;

/// Shows the secret in every way, each part let out by a line of input, so that parts are writes of their own.
const SCRIPT: &str = r#"printf '1 %s\n' "$SECRET_CANARY"
for before in '' x xy; do printf '%s%s' "$before" "$SECRET_CANARY" | base64 -w 0; echo; done
printf %s "${SECRET_CANARY%??????????}"; read x; printf '%s\n' "${SECRET_CANARY#?????????????}"
rest=$SECRET_CANARY
while [ -n "$rest" ]; do next=${rest#?}; read x; printf %s "${rest%"$next"}"; rest=$next; done
echo; echo over"#;

#[test]
fn a_secret_is_shown_and_kept_nowhere() -> Result<()> {
    let _alone = tests::alone();
    stand().run(|stand| async move {
        for terminal in [false, true] {
            let before = stand.before().await?;
            shown(stand.ssh(&[], "devenv-0"), terminal, async || Ok(())).await?;
            let entries = stand.ended_since(&before, 1).await?;
            let id = session(entries.first().context("no entry")?)?;
            said(stand.stack.client(), id).await?;
            let verdict = stand.verdict(id).await?;
            ensure!(verdict == "complete", "{verdict}");
        }
        nowhere(&[stand.folder()])
    })
}

/// Runs the script, letting its parts out one by one, and makes sure that all of it is seen. `at_half` is called when half of a secret
/// was shown, and the rest of it not yet.
pub(crate) async fn shown(mut ssh: Command, terminal: bool, at_half: impl AsyncFnOnce() -> Result<()>) -> Result<()> {
    let script = match terminal {
        true => {
            ssh.arg("-tt");
            format!("stty -echo -opost; {SCRIPT}")
        }
        false => SCRIPT.to_owned(),
    };
    let mut ssh = ssh.arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let (mut stdin, mut stdout) = (
        ssh.stdin.take().context("no stdin")?,
        ssh.stdout.take().context("no stdout")?,
    );
    let mut seen = Vec::new();
    let reading = async {
        let mut lines = 0;
        while lines < 4 {
            let byte = stdout.read_u8().await?;
            lines += usize::from(byte == b'\n');
            seen.push(byte);
        }
        // The half that comes by itself, the other half with its line's end, then one byte after the other.
        read(&mut stdout, &mut seen, HALF).await?;
        at_half().await?;
        stdin.write_all(b"\n").await?;
        read(&mut stdout, &mut seen, CANARY.len() - HALF + 1).await?;
        for _ in 0..CANARY.len() {
            stdin.write_all(b"\n").await?;
            read(&mut stdout, &mut seen, 1).await?;
        }
        stdout.read_to_end(&mut seen).await?;
        anyhow::Ok(ssh.wait().await?)
    };
    let status = timeout(PATIENCE, reading)
        .await
        .context("what is shown waits for more")??;
    ensure!(status.success(), "ssh ended with {status}");
    let expected = format!("1 {CANARY}\n{}\n{CANARY}\n{CANARY}\nover\n", ENCODED.join("\n"));
    ensure!(
        seen == expected.as_bytes(),
        "the person saw {:?}",
        String::from_utf8_lossy(&seen)
    );
    Ok(())
}

async fn read(from: &mut (impl tokio::io::AsyncRead + Unpin), seen: &mut Vec<u8>, count: usize) -> Result<()> {
    let start = seen.len();
    seen.resize(start + count, 0);
    from.read_exact(&mut seen[start..]).await?;
    Ok(())
}

/// The recording says where something is missing, and no way of reading it brings that back.
pub(crate) async fn said(client: &ClientFolder, id: &str) -> Result<()> {
    let shown = feed(client.command(["sessions", "show", id]), b"").await?;
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    let masked = text
        .lines()
        .filter(|line| line.contains("masked") && line.contains(NAME))
        .count();
    // plain, three times in base64, in two halves, byte by byte
    ensure!(masked == 6, "{masked} places are named:\n{text}");
    let exports: [&[&str]; 5] = [
        &["replay", "--raw", id],
        &["replay", id],
        &["sessions", "show", id, "--json"],
        &["export", "--format", "asciicast-v2", id],
        &["export", "--format", "asciicast-v3", id],
    ];
    for args in exports {
        let outcome = feed(client.command(args), b"").await?;
        ensure!(outcome.code == Some(0), "{args:?}: {}", outcome.said());
        ensure!(outcome.stdout.len() > 20, "{args:?} prints nothing");
        clean(&outcome.stdout).with_context(|| format!("{args:?}"))?;
    }
    Ok(())
}

/// Every file below these folders, raw, and every recording and journal, unpacked.
pub(crate) fn nowhere(folders: &[&Path]) -> Result<()> {
    let (mut files, mut streams) = (0, 0);
    let mut folders: Vec<PathBuf> = folders.iter().map(|folder| (*folder).to_owned()).collect();
    while let Some(folder) = folders.pop() {
        let mut is_stream = false;
        // What another moves away while we look is looked at where it is now, or is gone.
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry?.path();
            if path.is_symlink() {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(bytes) = fs::read(&path) {
                is_stream |= path.extension().is_some_and(|extension| extension == "dwr");
                clean(&bytes).with_context(|| path.display().to_string())?;
                files += 1;
            }
        }
        if is_stream {
            events(&folder)?;
            streams += 1;
        }
    }
    ensure!(
        files > 10 && streams >= 3,
        "only {files} files and {streams} streams were searched"
    );
    Ok(())
}

/// The output of a stream in one piece, and all of its events.
fn events(folder: &Path) -> Result<()> {
    let events = recorded(folder)?;
    let (mut output, mut others) = (Vec::new(), Vec::new());
    for event in &events {
        match event {
            doorward_audit::Event::Output(some) => output.extend_from_slice(&some.bytes),
            other => others.push(other),
        }
    }
    clean(&output)?;
    clean(format!("{others:?}").as_bytes()).with_context(|| folder.display().to_string())
}

pub(crate) fn clean(bytes: &[u8]) -> Result<()> {
    // Neither may a half of it be there, nor what base64 makes of its middle.
    static WANTED: LazyLock<Result<AhoCorasick, BuildError>> = LazyLock::new(|| {
        let middles = ENCODED.map(|text| &text[4..text.len() - 4]);
        AhoCorasick::new([CANARY, &CANARY[..HALF], &CANARY[10..]].into_iter().chain(middles))
    });
    let wanted = WANTED.as_ref().map_err(Clone::clone)?;
    if let Some(found) = wanted.find(bytes) {
        let secret = String::from_utf8_lossy(&bytes[found.range()]);
        bail!("the secret is there as {secret}");
    }
    Ok(())
}

#[test]
fn a_secret_is_found_in_every_form() -> Result<()> {
    for form in [CANARY, &CANARY[..HALF], &CANARY[10..]].into_iter().chain(ENCODED) {
        let text = format!("before{form}behind");
        ensure!(clean(text.as_bytes()).is_err(), "{form} is not found");
    }
    clean(&CANARY.as_bytes()[1..HALF])
}
