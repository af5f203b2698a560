//! Sessions: the same words, the same environment, the same end.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tests::both::{both, same};
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::stand;

type Case<'a> = (&'a str, &'a [&'a str], &'a str, &'a [u8]);

#[test]
fn commands_and_shells_do_the_same() -> Result<()> {
    let cases: &[Case<'_>] = &[
        ("the shell's name", &[], "echo $0", b""),
        ("a login shell's name", &["-T"], "", b"echo $0\nexit 4\n"),
        (
            "a command line with quotes",
            &[],
            "printf '%s|' \"a  b\" 'c\"d' $'e\\tf'",
            b"",
        ),
        ("both streams", &[], "echo out; echo err >&2; exit 7", b""),
        ("no such command", &[], "no-such-command-anywhere", b""),
        ("exit beyond a byte", &[], "exit 300", b""),
        ("killed by TERM", &[], "kill -TERM $$", b""),
        ("killed by KILL", &[], "kill -KILL $$", b""),
        ("killed by SEGV", &[], "ulimit -c 0; kill -SEGV $$", b""),
        ("killed by USR2", &[], "kill -USR2 $$", b""),
        ("who I am", &[], "id; echo $USER $LOGNAME $SHELL $MAIL", b""),
        ("home", &[], "echo $HOME", b""),
        ("the mask of new files", &[], "umask", b""),
        (
            "no terminal",
            &[],
            "tty; test -t 0 || test -t 1 || test -t 2 || echo none",
            b"",
        ),
        (
            "a terminal",
            &["-tt", "-q"],
            "test -t 0 && test -t 1 && test -t 2 && stty -a | head -1 | tr ';' '\\n' | head -1",
            b"",
        ),
        (
            "a terminal's variables",
            &["-tt", "-q"],
            "test -c $SSH_TTY && test $SSH_TTY = $(tty) && echo same; echo $TERM",
            b"",
        ),
        ("no input", &["-n"], "cat; echo end", b""),
        ("input", &[], "sort; echo end", b"b\na\n"),
        ("input that nobody reads", &[], "exec <&-; echo done", &[b'x'; 300_000]),
        (
            "output closed early",
            &[],
            "exec >&-; cat >/dev/null; exit 5",
            &[b'x'; 300_000],
        ),
        ("errors closed early", &[], "exec 2>&-; echo on; exit 6", b""),
        (
            "where from",
            &[],
            "set -- $SSH_CONNECTION; echo $# $1 $3; set -- $SSH_CLIENT; echo $# $1",
            b"",
        ),
        ("no signal is blocked", &[], "grep '^SigBlk' /proc/self/status", b""),
        ("only three descriptors", &[], "ls /proc/self/fd", b""),
        (
            "its own session",
            &[],
            "ps -o pid=,sid=,pgid= -p $$ | awk '{print ($1==$2), ($2==$3)}'",
            b"",
        ),
        (
            "a variable that may be sent",
            &["-o", "SetEnv=LC_ALL=C"],
            "echo $LC_ALL",
            b"",
        ),
        (
            "a variable that may not",
            &["-o", "SetEnv=LD_PRELOAD=/x"],
            "echo ${LD_PRELOAD-unset}",
            b"",
        ),
        ("a subsystem that nobody has", &["-s"], "no-such-subsystem", b""),
        ("bytes of every value", &[], "cat", &EVERY_BYTE),
    ];
    stand().run(|stand| async move {
        same(stand, "same", "AcceptEnv LANG LC_*", cases, |server, text| {
            text.replace(&*server.home().to_string_lossy(), "~")
        })
        .await
    })
}

const EVERY_BYTE: [u8; 256] = {
    let mut all = [0; 256];
    let mut at = 0;
    while at < 256 {
        all[at] = at as u8;
        at += 1;
    }
    all
};

/// Whoever keeps the output open keeps the connection; whoever gave it away does not.
#[test]
fn a_job_in_the_background_holds_the_connection_by_its_output_alone() -> Result<()> {
    stand().run(|stand| async move {
        both(stand, "background", "", async |server| {
            for (remote, held) in [
                ("sleep 3 & echo x", true),
                ("(sleep 3) >/dev/null & echo x", true),
                ("sleep 3 >/dev/null 2>&1 & echo x", false),
                ("nohup sleep 3 >/dev/null 2>&1 </dev/null & echo x", false),
                ("(setsid sleep 3 &) ; echo x", true),
            ] {
                let begun = Instant::now();
                let outcome = server.run(&[], remote, b"").await?;
                ensure!(
                    outcome.stdout == b"x\n" && outcome.code == Some(0),
                    "{remote}: {}",
                    outcome.said()
                );
                let took = begun.elapsed();
                ensure!(
                    !held || took >= Duration::from_millis(2_900),
                    "{remote}: ended after {took:?}"
                );
                // The other side of it is a matter of seconds on a busy machine; so it is asked of long sleeps below.
            }
            let begun = Instant::now();
            server.run(&[], "sleep 300 >/dev/null 2>&1 & echo x", b"").await?;
            ensure!(
                begun.elapsed() < Duration::from_secs(250),
                "a silent job held the connection"
            );
            Ok(())
        })
        .await
    })
}

/// A terminal that is closed hangs up its shell, and what ignores that lives on.
#[test]
fn a_terminal_whose_client_vanishes_hangs_up() -> Result<()> {
    stand().run(|stand| async move {
        both(stand, "vanished", "", async |server| {
            let remote = "trap '' HUP; sleep 300 >/dev/null 2>&1 & trap - HUP; echo $$ $!; cat";
            let mut child = server
                .ssh(&["-tt", "-q"])
                .arg(remote)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()?;
            let mut lines = BufReader::new(child.stdout.take().context("no stdout")?).lines();
            let line = tokio::time::timeout(tests::PATIENCE, lines.next_line())
                .await??
                .context("no line")?;
            let (leader, background) = line.trim().split_once(' ').context("two numbers")?;
            child.kill().await?;
            let proc = |pid: &str| std::path::Path::new("/proc").join(pid).exists();
            tests::until("the end of the shell", async || {
                tokio::time::sleep(Duration::from_millis(20)).await;
                Ok((!proc(leader)).then_some(()))
            })
            .await?;
            ensure!(proc(background), "what ignores the hang-up was not spared");
            let background = nix::unistd::Pid::from_raw(background.parse()?);
            nix::sys::signal::kill(background, nix::sys::signal::Signal::SIGKILL)?;
            Ok(())
        })
        .await
    })
}
