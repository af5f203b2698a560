//! The steps of the tour, in order.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use doorward_dev::stack::{ClientFolder, Flow, Stack};
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncReadExt as _;

use super::real;
use super::recordings::{Damage, Recordings, Session, stored};
use super::report::Report;
use super::ssh::{self, Outcome};
use super::terminal::Terminal;

pub(super) async fn walk(report: &Report, stack: &mut Stack, folder: &Path) -> Result<()> {
    let what = "bob logs in: authorization code with PKCE";
    let mut bob = report.step(what, log_in(stack, Flow::Code)).await?;
    if stack.realm().is_some() {
        let what = "bob logs in again on Keycloak's pages: device grant, login form, consent";
        bob = report.step(what, log_in(stack, Flow::Device)).await?;
    }
    let what = "mallory, who is in no group, logs in: device grant";
    let mallory = async { Ok(stack.login("mallory", &folder.join("mallory")).await?) };
    let mallory = report.step(what, mallory).await?;
    let what = "bob sees his workspaces, mallory none";
    report.step(what, lists(&bob, &mallory)).await?;

    let config = &stack.ssh_config();
    let recordings = &mut Recordings::new(bob.clone());
    let what = "ssh gives both streams and the exit code of a command";
    report.step(what, command(config, recordings)).await?;
    let what = "each workspace has its own home";
    report.step(what, homes(stack, config, recordings)).await?;
    let what = "64 MiB go through `cat` and back unchanged";
    let bulk = report.step(what, bulk(config, recordings)).await?;
    let what = "ssh -tt gives a terminal of the right size";
    let (pty, shown) = report.step(what, terminal(config, recordings)).await?;
    let what = "two sessions at once do not mix";
    let two = report.step(what, two_at_once(config, recordings)).await?;
    let what = "mallory is refused, and cannot tell what exists";
    report.step(what, refused(&mallory)).await?;

    let what = "the list of sessions says who was where";
    report.step(what, listed(recordings)).await?;
    let what = "replay gives what the terminal showed, byte for byte";
    report.step(what, replayed(recordings, &pty, &shown)).await?;
    let what = "the recordings can be verified";
    report
        .step(what, verified(recordings, &[&bulk, &pty, &two[0], &two[1]]))
        .await?;
    let what = "a flipped bit, a cut end and a lost segment are found";
    report.step(what, damaged(recordings, stack, &pty, folder)).await?;

    let what = "kill -9 of the agent: all that was shown is in the recording";
    report.step(what, crash(stack, config, recordings)).await?;
    let what = "the agent comes back, and its workspaces with it";
    let back = async {
        stack.restart_agent().await?;
        command(config, recordings).await
    };
    report.step(what, back).await?;
    let Some(vault) = stack.vault() else { return Ok(()) };
    let what = "Vault's audit log has one signing for each session, under bob's name";
    report
        .step(what, real::signed(vault, stack.realm().is_some(), recordings))
        .await
}

async fn log_in(stack: &Stack, flow: Flow) -> Result<ClientFolder> {
    stack.log_in(stack.client(), "bob", flow).await?;
    Ok(stack.client().clone())
}

async fn lists(bob: &ClientFolder, mallory: &ClientFolder) -> Result<()> {
    let list = async |folder: &ClientFolder| -> Result<String> {
        Ok(String::from_utf8(folder.run(&["ls", "--json"]).await?.stdout)?)
    };
    let (bobs, mallorys) = (list(bob).await?, list(mallory).await?);
    ensure!(
        bobs.contains("devenv-0") && bobs.contains("devenv-1"),
        "bob sees {bobs}"
    );
    ensure!(!mallorys.contains("devenv"), "mallory sees {mallorys}");
    Ok(())
}

async fn command(config: &Path, recordings: &mut Recordings) -> Result<()> {
    let outcome = ssh::run(config, "devenv-0", "echo out; echo err >&2; exit 7").await?;
    let wanted = Outcome {
        stdout: b"out\n".to_vec(),
        stderr: "err\n".to_owned(),
        code: Some(7),
    };
    ensure!(outcome == wanted, "{outcome:?}");
    recordings.one_ended().await.map(drop)
}

async fn homes(stack: &Stack, config: &Path, recordings: &mut Recordings) -> Result<()> {
    for workspace in doorward_dev::stack::WORKSPACES {
        let outcome = ssh::run(config, workspace, "pwd").await?;
        let home = stack.home(workspace);
        ensure!(
            outcome.stdout == format!("{}\n", home.display()).as_bytes(),
            "{workspace}: {outcome:?}"
        );
    }
    recordings.ended(2).await.map(drop)
}

async fn bulk(config: &Path, recordings: &mut Recordings) -> Result<Session> {
    let block: [u8; 4096] = std::array::from_fn(|_| rand::random());
    let mut file = block.repeat(BULK_BYTES / block.len());
    // No two blocks are the same, so that one left out or doubled shows.
    for (number, block) in (0_u64..).zip(file.chunks_mut(block.len())) {
        block[..8].copy_from_slice(&number.to_be_bytes());
    }
    let sent = Sha256::digest(&file);
    let outcome = ssh::run_with_input(config, "devenv-0", "cat", file).await?;
    ensure!(outcome.code == Some(0), "exit {:?}: {}", outcome.code, outcome.stderr);
    ensure!(
        outcome.stdout.len() == BULK_BYTES,
        "{} bytes came back",
        outcome.stdout.len()
    );
    ensure!(Sha256::digest(&outcome.stdout) == sent, "other bytes came back");
    recordings.one_ended().await
}

/// The session, and everything that the terminal showed.
async fn terminal(config: &Path, recordings: &mut Recordings) -> Result<(Session, Vec<u8>)> {
    let mut terminal = Terminal::start(config, "devenv-0", 31, 97)?;
    terminal.wake().await?;
    // Sums keep what is typed, and echoed, apart from what is printed.
    terminal.type_line("stty size; echo size-$((1+1))").await?;
    terminal.until("size-2").await?;
    terminal.until("31 97").await?;
    terminal.resize(44, 123)?;
    terminal
        .type_line("until [ \"$(stty size)\" = '44 123' ]; do sleep 0.05; done; echo size-$((2+2))")
        .await?;
    terminal.until("size-4").await?;
    terminal
        .type_line("printf 'raw \\377\\200 \\033[1mbold\\033[0m\\n'; tty; exit 3")
        .await?;
    let (shown, code) = terminal.end().await?;
    ensure!(code == Some(3), "exit {code:?}");
    ensure!(
        shown.windows(2).any(|pair| pair == [0xff, 0x80]),
        "raw bytes were changed"
    );
    Ok((recordings.one_ended().await?, shown))
}

async fn two_at_once(config: &Path, recordings: &mut Recordings) -> Result<Vec<Session>> {
    let lines = |tag: &str| (0..LINES).map(|n| format!("{tag} {n}\n")).collect::<String>();
    let count = |tag: &str| format!("i=0; while [ $i -lt {LINES} ]; do echo {tag} $i; i=$((i+1)); done");
    let (left, right) = (count("left"), count("right"));
    let (left, right) = tokio::try_join!(
        ssh::run(config, "devenv-0", &left),
        ssh::run(config, "devenv-1", &right)
    )?;
    for (tag, outcome) in [("left", left), ("right", right)] {
        ensure!(
            outcome.code == Some(0) && outcome.stdout == lines(tag).as_bytes(),
            "{tag}: {}",
            outcome.stderr
        );
    }
    recordings.ended(2).await
}

async fn refused(mallory: &ClientFolder) -> Result<()> {
    let config = mallory.ssh_config();
    let mut texts = Vec::new();
    for workspace in ["devenv-0", "devenv-9"] {
        let outcome = ssh::run(&config, &format!("{workspace}.doorward"), "true").await?;
        ensure!(outcome.code == Some(255) && outcome.stdout.is_empty(), "{outcome:?}");
        let helper = mallory.command(["connect", workspace]).output().await?;
        ensure!(helper.status.code() == Some(77), "connect ended with {}", helper.status);
        texts.push(outcome.stderr.replace(workspace, "NAME"));
    }
    ensure!(!texts[0].trim().is_empty(), "nothing says why");
    ensure!(texts[0] == texts[1], "the refusals differ: {texts:?}");
    Ok(())
}

async fn listed(recordings: &Recordings) -> Result<()> {
    let sessions = recordings.list().await?;
    ensure!(sessions.iter().all(|session| session.user == "bob"), "{sessions:?}");
    let in_workspace = |name: &str| sessions.iter().filter(|session| session.workspace == name).count();
    ensure!(
        (in_workspace("devenv-0"), in_workspace("devenv-1")) == (5, 2),
        "{sessions:?}"
    );
    Ok(())
}

async fn replayed(recordings: &Recordings, session: &Session, shown: &[u8]) -> Result<()> {
    let replayed = recordings.replay_raw(session).await?;
    let (recorded, seen) = (Sha256::digest(&replayed), Sha256::digest(shown));
    ensure!(
        recorded == seen,
        "{} bytes were shown, {} are replayed",
        shown.len(),
        replayed.len()
    );
    Ok(())
}

async fn verified(recordings: &Recordings, sessions: &[&Session]) -> Result<()> {
    for session in sessions {
        let verdict = recordings.verify(&session.session).await?;
        let whole = verdict.ok && verdict.outcome.as_deref() == Some("complete");
        ensure!(whole, "{} in {}: {verdict:?}", session.session, session.workspace);
    }
    Ok(())
}

async fn damaged(recordings: &Recordings, stack: &Stack, session: &Session, folder: &Path) -> Result<()> {
    let whole = stored(&stack.records_dir(), session)?;
    let verdict = recordings.verify(&whole.to_string_lossy()).await?;
    ensure!(verdict.ok, "the untouched recording: {verdict:?}");
    for (number, damage) in Damage::every().enumerate() {
        let copy = folder.join(format!("damaged-{number}"));
        damage.copy(&whole, &copy)?;
        let verdict = recordings.verify(&copy.to_string_lossy()).await?;
        ensure!(!verdict.ok, "{damage:?} was not found");
        let place = verdict.findings.first().and_then(|finding| finding.segment);
        ensure!(place.is_some(), "{damage:?}: the place is not named: {verdict:?}");
    }
    Ok(())
}

async fn crash(stack: &mut Stack, config: &Path, recordings: &mut Recordings) -> Result<()> {
    let endless = "i=0; while :; do echo \"line $i of something that goes on and on\"; i=$((i+1)); done";
    let mut child = ssh::start(config, "devenv-1", endless, Stdio::null())?;
    let mut received = ssh::read_at_least(&mut child, CRASH_BYTES).await?;
    stack.kill_agent().await;
    child
        .stdout
        .as_mut()
        .context("no standard output")?
        .read_to_end(&mut received)
        .await?;
    let status = child.wait().await?;
    ensure!(!status.success(), "ssh did not notice");

    let session = recordings.one_ended().await?;
    ensure!(session.outcome.as_deref() == Some("abnormal"), "{session:?}");
    let recorded = recordings.replay_raw(&session).await?;
    ensure!(
        recorded.starts_with(&received),
        "{} bytes were shown, {} recorded",
        received.len(),
        recorded.len()
    );
    let verdict = recordings.verify(&session.session).await?;
    let honest = verdict.ok && verdict.outcome.as_deref() == Some("abnormal");
    ensure!(honest, "{verdict:?}");
    Ok(())
}

const BULK_BYTES: usize = 64 << 20;
const CRASH_BYTES: usize = 512 << 10;
const LINES: usize = 3000;
