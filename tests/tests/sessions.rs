//! What OpenSSH's own client sees of a session, and what the recording holds of it.

use std::process::Stdio;
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};
use tests::{Shared, noise, sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixStream};

fn stand() -> &'static Shared {
    static STAND: OnceLock<Shared> = OnceLock::new();
    STAND.get_or_init(|| {
        Shared::start(
            env!("CARGO_BIN_EXE_doorward-all"),
            env!("CARGO_TARGET_TMPDIR"),
            "sessions",
        )
    })
}

#[test]
fn both_streams_and_the_exit_code_arrive_apart() -> Result<()> {
    stand().run(|stand| async move {
        let outcome = stand
            .run(&[], "devenv-0", "echo out; echo err >&2; exit 7", b"")
            .await?;
        ensure!(
            outcome.code == Some(7),
            "exit code {:?}: {}",
            outcome.code,
            outcome.said()
        );
        ensure!(outcome.stdout == b"out\n", "stdout: {:?}", outcome.stdout);
        ensure!(outcome.said().contains("err\n"), "stderr: {}", outcome.said());
        Ok(())
    })
}

#[test]
fn a_signal_that_ends_the_command_is_told() -> Result<()> {
    stand().run(|stand| async move {
        let outcome = stand.run(&["-v"], "devenv-0", "kill -TERM $$", b"").await?;
        ensure!(
            outcome.code == Some(255) || outcome.code == Some(143),
            "exit code {:?}",
            outcome.code
        );
        ensure!(
            outcome.said().contains("exit-signal"),
            "no exit-signal: {}",
            outcome.said()
        );
        Ok(())
    })
}

#[test]
fn a_large_upload_and_a_large_download_arrive_whole() -> Result<()> {
    stand().run(|stand| async move {
        let bytes = noise(64 << 20);
        let up = stand.run(&[], "devenv-0", "sha256sum", &bytes).await?;
        ensure!(
            String::from_utf8_lossy(&up.stdout).starts_with(&sha256(&bytes)),
            "upload: {}",
            up.said()
        );
        let both = stand.run(&[], "devenv-0", "cat", &bytes).await?;
        ensure!(
            sha256(&both.stdout) == sha256(&bytes),
            "cat returned {} of {} bytes",
            both.stdout.len(),
            bytes.len()
        );
        Ok(())
    })
}

#[test]
fn a_filter_that_multiplies_its_input_does_not_hang() -> Result<()> {
    stand().run(|stand| async move {
        let bytes = noise(4 << 20);
        let outcome = stand
            .run(&[], "devenv-0", "tee /dev/stderr /dev/stderr /dev/stderr | cat", &bytes)
            .await
            .context("multiplying filter")?;
        ensure!(
            outcome.stdout.len() == bytes.len() && sha256(&outcome.stdout) == sha256(&bytes),
            "stdout differs"
        );
        ensure!(
            outcome.stderr.len() >= 3 * bytes.len(),
            "stderr has {} bytes",
            outcome.stderr.len()
        );
        Ok(())
    })
}

#[test]
fn the_end_of_input_reaches_the_command_and_late_output_comes_back() -> Result<()> {
    stand().run(|stand| async move {
        let outcome = stand.run(&[], "devenv-0", "sort; echo last", b"b\na\n").await?;
        ensure!(
            outcome.stdout == b"a\nb\nlast\n",
            "sort: {:?}",
            String::from_utf8_lossy(&outcome.stdout)
        );
        let late = stand
            .run(&[], "devenv-0", "(sleep 1; echo late) & echo early", b"")
            .await?;
        ensure!(
            late.stdout == b"early\nlate\n",
            "late: {:?}",
            String::from_utf8_lossy(&late.stdout)
        );
        Ok(())
    })
}

#[test]
fn a_command_of_many_kilobytes_runs() -> Result<()> {
    stand().run(|stand| async move {
        let word = "x".repeat(100_000);
        let outcome = stand
            .run(&[], "devenv-0", &format!("printf %s {word} | wc -c"), b"")
            .await?;
        ensure!(
            String::from_utf8_lossy(&outcome.stdout).trim() == "100000",
            "{:?}: {}",
            outcome.code,
            outcome.said()
        );
        Ok(())
    })
}

#[test]
fn two_sessions_at_once_do_not_mix() -> Result<()> {
    stand().run(|stand| async move {
        let ones = "yes one | head -n 200000";
        let twos = "yes two | head -n 200000";
        let (one, two) = tokio::join!(
            stand.run(&[], "devenv-0", ones, b""),
            stand.run(&[], "devenv-1", twos, b"")
        );
        ensure!(
            one?.stdout == "one\n".repeat(200_000).as_bytes(),
            "the first session's output is not its own"
        );
        ensure!(
            two?.stdout == "two\n".repeat(200_000).as_bytes(),
            "the second session's output is not its own"
        );
        Ok(())
    })
}

#[test]
fn many_channels_share_one_connection() -> Result<()> {
    stand().run(|stand| async move {
        let control = format!("ControlPath={}/mux", stand.folder().display());
        let mut master = stand
            .ssh(&["-MN", "-o", &control], "devenv-0")
            .stdout(Stdio::null())
            .spawn()?;
        while !stand.folder().join("mux").exists() {
            ensure!(master.try_wait()?.is_none(), "the master connection ended");
            tokio::task::yield_now().await;
        }
        let channels = (0..20).map(|n| {
            let control = &control;
            async move {
                stand
                    .run(&["-o", control], "devenv-0", &format!("echo {n}; exit {n}"), b"")
                    .await
                    .map(|o| (n, o))
            }
        });
        for result in futures_util::future::join_all(channels).await {
            let (n, outcome) = result?;
            ensure!(
                outcome.code == Some(n),
                "channel {n} ended with {:?}: {}",
                outcome.code,
                outcome.said()
            );
            ensure!(
                outcome.stdout == format!("{n}\n").as_bytes(),
                "channel {n} said {:?}",
                outcome.stdout
            );
        }
        master.kill().await?;
        Ok(())
    })
}

#[test]
fn a_channel_that_nobody_reads_does_not_stop_another() -> Result<()> {
    stand().run(|stand| async move {
        let control = format!("ControlPath={}/stall", stand.folder().display());
        let mut stalled = stand
            .ssh(&["-M", "-o", &control], "devenv-0")
            .arg("yes")
            .stdout(Stdio::piped())
            .spawn()?;
        let mut first = [0u8; 2];
        stalled
            .stdout
            .as_mut()
            .context("no stdout")?
            .read_exact(&mut first)
            .await?;
        let beside = stand.run(&["-o", &control], "devenv-0", "echo alive", b"").await?;
        ensure!(
            beside.stdout == b"alive\n",
            "beside a stalled reader: {:?} {}",
            beside.code,
            beside.said()
        );
        let mut flooded = stand.ssh(&["-o", &control], "devenv-0");
        let mut flooded = flooded
            .arg("sleep 60")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()?;
        let mut stdin = flooded.stdin.take().context("no stdin")?;
        let flood = async {
            let block = noise(1 << 20);
            while stdin.write_all(&block).await.is_ok() {}
        };
        let options = ["-o", &control];
        let live = stand.run(&options, "devenv-0", "echo alive", b"");
        tokio::select! {
            () = flood => anyhow::bail!("a command that reads nothing took everything"),
            outcome = live => ensure!(outcome?.stdout == b"alive\n", "beside a stalled command"),
        }
        flooded.kill().await?;
        stalled.kill().await?;
        Ok(())
    })
}

#[test]
fn a_user_name_that_was_not_granted_is_refused() -> Result<()> {
    stand().run(|stand| async move {
        let outcome = stand.run(&["-l", "somebody-else"], "devenv-0", "true", b"").await?;
        ensure!(outcome.code == Some(255), "exit code {:?}", outcome.code);
        Ok(())
    })
}

#[test]
fn variables_pass_by_the_list_alone() -> Result<()> {
    stand().run(|stand| async move {
        let options = [
            "-o",
            "SetEnv=LC_TEST=yes LD_PRELOAD=/nowhere.so BASH_ENV=/nowhere GIT_PROTOCOL=version=2",
        ];
        let outcome = stand.run(&options, "devenv-0", "env", b"").await?;
        let env = String::from_utf8_lossy(&outcome.stdout);
        ensure!(env.contains("LC_TEST=yes"), "LC_TEST did not pass: {env}");
        ensure!(
            !env.contains("LD_PRELOAD") && !env.contains("BASH_ENV"),
            "a dangerous variable passed: {env}"
        );
        for name in [
            "HOME=",
            "USER=",
            "LOGNAME=",
            "SHELL=",
            "PATH=",
            "SSH_CONNECTION=",
            "SSH_CLIENT=",
        ] {
            ensure!(
                env.lines().any(|line| line.starts_with(name)),
                "{name} is missing: {env}"
            );
        }
        Ok(())
    })
}

#[test]
fn a_subsystem_that_is_not_there_is_refused_and_a_listener_does_not_disturb() -> Result<()> {
    stand().run(|stand| async move {
        // What comes in by the listener is this connection's own business, beside its command.
        let from = TcpListener::bind("127.0.0.1:0").await?;
        let socket = format!("/tmp/listens-{}", uuid::Uuid::new_v4().simple());
        let forward = format!("{socket}:{}", from.local_addr()?);
        let options = ["-o", "ExitOnForwardFailure=yes", "-R", &forward];
        let mut ssh = stand.ssh(&options, "devenv-0");
        let mut ssh = ssh
            .arg("echo on; read word; echo $word")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (input, output) = (ssh.stdin.take(), ssh.stdout.take());
        let (mut input, mut output) = (input.context("no stdin")?, output.context("no stdout")?);
        let mut on = [0; 3];
        output.read_exact(&mut on).await?;
        ensure!(&on == b"on\n", "{on:?}");
        let mut inside = UnixStream::connect(&socket).await.context("nobody listens")?;
        let (mut outside, _) = tokio::time::timeout(tests::PATIENCE, from.accept()).await??;
        inside.write_all(b"in").await?;
        outside.write_all(b"out").await?;
        let (mut heard_outside, mut heard_inside) = ([0; 2], [0; 3]);
        outside.read_exact(&mut heard_outside).await?;
        inside.read_exact(&mut heard_inside).await?;
        ensure!(&heard_outside == b"in" && &heard_inside == b"out", "the bytes changed");
        // ssh stays for as long as something is forwarded
        drop((inside, outside));
        input.write_all(b"off\n").await?;
        let mut rest = String::new();
        tokio::time::timeout(tests::PATIENCE, output.read_to_string(&mut rest)).await??;
        ensure!(rest == "off\n" && ssh.wait().await?.success(), "{rest:?}");
        let other = stand.run(&["-s"], "devenv-0", "netconf", b"").await?;
        ensure!(other.code != Some(0), "a subsystem that is not there said yes");
        Ok(())
    })
}
