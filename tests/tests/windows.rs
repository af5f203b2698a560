//! The client as Windows has it: built for Windows, run under Wine, used by the `ssh` of this computer.
//!
//! Wine is no Windows: it has its pipes, consoles, access lists and profile folders. It keeps an access list as a mode:
//! what it grants to its owner is the owner's and the group's, what it grants to everybody is everybody's.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};
use doorward_dev::stack::{ClientFolder, Flow};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tests::parts::Place;
use tests::windows::{PROGRAM, Windows};
use tests::{Outcome, PATIENCE, Shared, Stand, feed, noise, sha256};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::OnceCell;
use tokio::time::timeout;

const PLACE: Place = Place {
    program: env!("CARGO_BIN_EXE_doorward-all"),
    tmp: env!("CARGO_TARGET_TMPDIR"),
    file: "windows",
};

fn stand() -> &'static Shared {
    static STAND: OnceLock<Shared> = OnceLock::new();
    STAND.get_or_init(|| Shared::start(PLACE.program, PLACE.tmp, PLACE.file))
}

/// Bob, logged in in the folder that the program chooses by itself.
async fn bob(windows: &Windows, stand: &Stand) -> Result<&'static ClientFolder> {
    static BOB: OnceCell<ClientFolder> = OnceCell::const_new();
    let login = async || {
        let folder = windows.client("bob", "")?;
        stand.stack.log_in(&folder, "bob", Flow::Device).await?;
        Ok(folder)
    };
    BOB.get_or_try_init(login).await
}

/// The configuration that the program wrote, for the `ssh` of this computer: the same lines, with the drive where it
/// lies here, and the program started by Wine.
fn translated(windows: &Windows, folder: &ClientFolder, home: &str) -> Result<PathBuf> {
    let text = fs::read_to_string(folder.ssh_config())?;
    let drive = format!("{}/", windows.drive().display());
    let shell_line = windows.shell_line(home)?;
    let program = format!("\"{}\"", PROGRAM.replace('\\', "/"));
    let line = |line: &str| match line.strip_prefix("  ProxyCommand ") {
        Some(command) => {
            let arguments = command.strip_prefix(&program).unwrap_or("the program is not named");
            format!("  ProxyCommand {shell_line}{arguments}\n")
        }
        None => format!("{}\n", line.replace("C:/", &drive)),
    };
    let file = folder.wrapper().with_extension("ssh_config");
    fs::write(&file, text.lines().map(line).collect::<String>())?;
    Ok(file)
}

async fn ssh(config: &Path, host: &str, remote: &str, input: &[u8]) -> Result<Outcome> {
    let mut command = Command::new("ssh");
    command.arg("-F").arg(config).args([host, remote]);
    feed(command, input).await
}

async fn run(folder: &ClientFolder, args: &[&str], code: i32) -> Result<Outcome> {
    let outcome = feed(folder.command(args), b"").await?;
    ensure!(
        outcome.code == Some(code),
        "{args:?}: {:?}: {}",
        outcome.code,
        outcome.said()
    );
    Ok(outcome)
}

/// What everybody may do.
fn everybody(path: &Path) -> Result<u32> {
    let meta = fs::metadata(path).with_context(|| path.display().to_string())?;
    Ok(meta.permissions().mode() & 0o007)
}

#[test]
fn the_program_says_what_it_is_and_what_it_was_not_asked() -> Result<()> {
    stand().run(|_| async {
        let Some(windows) = Windows::had(PLACE, "the_program_says_what_it_is_and_what_it_was_not_asked").await? else {
            return Ok(());
        };
        let folder = windows.client("nobody", r"C:\nobody")?;
        let said = run(&folder, &["--version"], 0).await?;
        ensure!(
            said.stdout.starts_with(b"doorward ") && said.stdout.ends_with(b"\n"),
            "{said:?}"
        );
        let help = run(&folder, &["connect", "--help"], 0).await?;
        ensure!(
            String::from_utf8_lossy(&help.stdout).contains("Carry one SSH connection"),
            "{help:?}"
        );
        run(&folder, &["no-such-command"], 64).await?;
        let told = run(&folder, &["connect", "--no-login", "devenv-0"], 78).await?;
        ensure!(
            told.stdout.is_empty() && told.said().contains("no gateway is configured"),
            "{told:?}"
        );
        Ok(())
    })
}

/// In a folder with a space in its name and a path that is longer than old programs of Windows can say.
#[test]
fn a_login_is_for_its_owner_alone_however_long_the_path() -> Result<()> {
    stand().run(|stand| async move {
        let Some(windows) = Windows::had(PLACE, "a_login_is_for_its_owner_alone_however_long_the_path").await? else {
            return Ok(());
        };
        let home = format!(
            r"C:\work\{}\{}\{}",
            "a folder of a company ".repeat(4).trim(),
            "b".repeat(110),
            "c".repeat(110)
        );
        ensure!(home.len() > 300);
        let folder = windows.client("long", &home)?;
        stand.stack.log_in(&folder, "bob", Flow::Device).await?;
        let tokens = folder.home().join("tokens.json");
        ensure!(tokens.is_file());
        let mut paths = vec![folder.home().to_owned()];
        for entry in fs::read_dir(folder.home())? {
            paths.push(entry?.path());
        }
        for path in paths {
            ensure!(everybody(&path)? == 0, "everybody is let at {}", path.display());
            ensure!(
                path.extension().is_none_or(|end| end != "new"),
                "{} was left behind",
                path.display()
            );
        }
        let status = run(&folder, &["status"], 0).await?;
        let status = String::from_utf8(status.stdout)?;
        ensure!(status.contains("bob") && status.contains(&home), "{status}");

        // A second login replaces what is there.
        let before = fs::read(&tokens)?;
        stand.stack.log_in(&folder, "bob", Flow::Device).await?;
        ensure!(before != fs::read(&tokens)? && everybody(&tokens)? == 0);

        // What everybody may read is not used. S-1-1-0 is everybody.
        fs::set_permissions(&tokens, fs::Permissions::from_mode(0o644))?;
        let refused = run(&folder, &["connect", "devenv-0"], 78).await?;
        ensure!(
            refused.said().contains("lets S-1-1-0 at it, so it is not used"),
            "{}",
            refused.said()
        );
        ensure!(refused.stdout.is_empty());

        fs::remove_file(&tokens)?;
        std::os::unix::fs::symlink("trust.json", &tokens)?;
        run(&folder, &["connect", "--no-login", "devenv-0"], 78).await?;
        Ok(())
    })
}

#[test]
fn the_configuration_is_included_at_the_top_of_the_profiles_own() -> Result<()> {
    stand().run(|stand| async move {
        let Some(windows) = Windows::had(PLACE, "the_configuration_is_included_at_the_top_of_the_profiles_own").await?
        else {
            return Ok(());
        };
        let folder = bob(windows, stand).await?;
        let text = fs::read_to_string(folder.ssh_config())?;
        let profile = format!(
            "C:/users/{}",
            windows.profile().file_name().context("no name")?.display()
        );
        for line in [
            "Host devenv-0",
            "  ProxyCommand \"C:/Program Files/Doorward/doorward.exe\" connect devenv-0",
            &format!("  UserKnownHostsFile \"{profile}/AppData/Local/doorward/config/known_hosts\""),
            "  ControlMaster no",
        ] {
            ensure!(text.lines().any(|found| found == line), "{line} is not in {text}");
        }
        ensure!(
            !text.contains('\\') && !text.contains('\r') && !text.contains("%"),
            "{text}"
        );

        let theirs = windows.profile().join(".ssh/config");
        fs::create_dir_all(theirs.parent().context("no parent")?)?;
        fs::write(&theirs, "Host work\r\n  User me\r\n")?;
        fs::set_permissions(&theirs, fs::Permissions::from_mode(0o644))?;
        for said in ["includes it now", "includes it already"] {
            let wrote = run(folder, &["config", "--write"], 0).await?;
            ensure!(wrote.said().contains(said), "{}", wrote.said());
            let included = format!("Include \"{profile}/AppData/Local/doorward/config/ssh_config\"\r\n");
            ensure!(fs::read_to_string(&theirs)? == included + "Host work\r\n  User me\r\n");
        }
        ensure!(everybody(&theirs)? & 0o006 == 0o004, "its access list is another one");
        let status = run(folder, &["status"], 0).await?;
        ensure!(
            String::from_utf8_lossy(&status.stdout).contains("written and included"),
            "{status:?}"
        );
        Ok(())
    })
}

#[test]
fn ssh_passes_every_byte_and_every_end_through_it() -> Result<()> {
    stand().run(|stand| async move {
        let Some(windows) = Windows::had(PLACE, "ssh_passes_every_byte_and_every_end_through_it").await? else {
            return Ok(());
        };
        let config = translated(windows, bob(windows, stand).await?, "")?;
        // Every line end and every byte that some reader of text might change.
        let mut pattern: Vec<u8> = (0..=255).collect();
        pattern.extend(b"\r\n\n\r\x1a\x04\r\r\n\0\xff\xfe");
        let mut payload = pattern.repeat(1000);
        payload.extend(noise(16 << 20));
        let echoed = ssh(&config, "devenv-0", "cat", &payload).await?;
        ensure!(echoed.code == Some(0), "{}", echoed.said());
        ensure!(
            sha256(&echoed.stdout) == sha256(&payload),
            "{} of {} bytes",
            echoed.stdout.len(),
            payload.len()
        );
        ensure!(echoed.stderr.is_empty(), "{}", echoed.said());

        // The command sees the end of its input, and goes on to speak on both streams.
        let ended = ssh(&config, "devenv-0", "sha256sum; echo end >&2; exit 7", &payload).await?;
        ensure!(ended.code == Some(7) && ended.stderr == b"end\n", "{ended:?}");
        ensure!(String::from_utf8(ended.stdout)?.starts_with(&sha256(&payload)));

        // The last bytes of a session that says nothing afterwards.
        let last = ssh(&config, "devenv-0", "head -c 3000000 /dev/zero", b"").await?;
        ensure!(
            last.code == Some(0) && last.stdout == vec![0; 3_000_000],
            "{} bytes",
            last.stdout.len()
        );
        Ok(())
    })
}

#[test]
fn a_refusal_is_told_on_standard_error_alone() -> Result<()> {
    stand().run(|stand| async move {
        let Some(windows) = Windows::had(PLACE, "a_refusal_is_told_on_standard_error_alone").await? else {
            return Ok(());
        };
        let folder = bob(windows, stand).await?;
        let here = feed(stand.stack.client().command(["connect", "devenv-9"]), b"").await?;
        let there = run(folder, &["connect", "devenv-9"], 77).await?;
        ensure!(there.stdout.is_empty() && here.code == Some(77), "{there:?}");
        ensure!(there.said() == here.said(), "{} on Unix: {}", there.said(), here.said());

        let config = translated(windows, folder, "")?;
        let text = fs::read_to_string(&config)?.replace("connect devenv-0", "connect devenv-9");
        let wrong = config.with_extension("wrong");
        fs::write(&wrong, text)?;
        let told = ssh(&wrong, "devenv-0", "true", b"").await?;
        ensure!(
            told.code == Some(255) && told.said().contains(here.said().lines().next().context("no line")?),
            "{told:?}"
        );
        Ok(())
    })
}

fn start(folder: &ClientFolder, args: &[&str]) -> Result<Child> {
    let mut command = folder.command(args);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Ok(command.spawn()?)
}

/// A connection that has begun.
async fn connected(folder: &ClientFolder) -> Result<Child> {
    let mut child = start(folder, &["connect", "devenv-0"])?;
    let mut banner = [0; 8];
    let read = child.stdout.as_mut().context("no stdout")?.read_exact(&mut banner);
    timeout(PATIENCE, read).await.context("no banner")??;
    ensure!(&banner == b"SSH-2.0-", "{banner:?}");
    Ok(child)
}

fn interrupt(child: &Child) -> Result<()> {
    let id = child.id().context("it ended")?;
    Ok(kill(Pid::from_raw(i32::try_from(id)?), Signal::SIGINT)?)
}

async fn end(child: Child) -> Result<Outcome> {
    let output = timeout(PATIENCE, child.wait_with_output())
        .await
        .context("it did not end")??;
    Ok(Outcome {
        code: output.status.code(),
        stdout: output.stdout,
        stderr: output.stderr,
    })
}

/// Wine makes a Ctrl-C of an interrupt that its process is sent.
#[test]
fn control_c_and_the_end_of_the_pipes_end_it_as_on_unix() -> Result<()> {
    stand().run(|stand| async move {
        let Some(windows) = Windows::had(PLACE, "control_c_and_the_end_of_the_pipes_end_it_as_on_unix").await? else {
            return Ok(());
        };
        let there = bob(windows, stand).await?;
        let mut codes = Vec::new();
        for folder in [stand.stack.client(), there] {
            let child = connected(folder).await?;
            interrupt(&child)?;
            let interrupted = end(child).await?;

            let mut child = connected(folder).await?;
            drop(child.stdin.take());
            let hung_up = end(child).await?;

            let mut child = connected(folder).await?;
            drop((child.stdin.take(), child.stdout.take()));
            let left_alone = end(child).await?;
            codes.push([interrupted.code, hung_up.code, left_alone.code]);
        }
        ensure!(
            codes[0] == codes[1] && codes[0].iter().all(Option::is_some),
            "Unix and Windows: {codes:?}"
        );

        let nobody = windows.client("waiting", r"C:\waiting")?;
        let (url, ca) = (stand.stack.gateway_url(), stand.stack.ca_file());
        let mut child = start(
            &nobody,
            &["login", &url, "--ca", ca.to_str().context("not UTF-8")?, "--device"],
        )?;
        let mut lines = BufReader::new(child.stderr.take().context("no stderr")?).lines();
        loop {
            let line = timeout(PATIENCE, lines.next_line()).await??;
            if line.context("no code was shown")?.contains("code:") {
                break;
            }
        }
        interrupt(&child)?;
        let interrupted = end(child).await?;
        ensure!(interrupted.code == Some(130), "{interrupted:?}");
        ensure!(!nobody.home().join("tokens.json").exists());
        Ok(())
    })
}

#[test]
fn tokens_come_from_a_program_of_windows_and_from_no_batch_file() -> Result<()> {
    stand().run(|stand| async move {
        let Some(windows) = Windows::had(PLACE, "tokens_come_from_a_program_of_windows_and_from_no_batch_file").await?
        else {
            return Ok(());
        };
        let giver = windows.client("giver", r"C:\giver")?;
        stand.stack.log_in(&giver, "bob", Flow::Device).await?;
        let tokens: serde_json::Value = serde_json::from_slice(&fs::read(giver.home().join("tokens.json"))?)?;
        let token = tokens["access-token"].as_str().context("no token")?;
        let files = windows.drive().join("my files");
        fs::create_dir_all(&files)?;
        fs::write(files.join("a token.txt"), format!("{token}\r\n"))?;
        fs::write(files.join("token.cmd"), "@type \"C:\\my files\\a token.txt\"\r\n")?;

        let folder = windows.client("by-command", r"C:\by command")?;
        let (url, ca) = (stand.stack.gateway_url(), stand.stack.ca_file());
        let login = [
            "login",
            &url,
            "--ca",
            ca.to_str().context("not UTF-8")?,
            "--token-command",
        ];
        let with = |command: &[&'static str]| [login.as_slice(), command].concat();
        let refused = run(&folder, &with(&[r"C:\my files\token.cmd"]), 77).await?;
        ensure!(refused.said().contains("it is a batch file"), "{refused:?}");
        let taken = run(&folder, &with(&["cmd", "/c", "type", r"C:\my files\a token.txt"]), 0).await?;
        ensure!(taken.said().contains("takes you for bob"), "{taken:?}");
        ensure!(!folder.home().join("tokens.json").exists());
        let listed = run(&folder, &["ls"], 0).await?;
        ensure!(
            String::from_utf8_lossy(&listed.stdout).contains("devenv-0"),
            "{listed:?}"
        );
        Ok(())
    })
}
