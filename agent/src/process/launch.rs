//! Starting a shell or a command as the account: own session, own process group, own terminal if one was asked for.

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::unistd::Pid;
use tokio::net::unix::pipe;
use tokio::process::Child;

use super::syscall::{self, Identity, Preparation};
use super::{Account, Awaited, Slave, Terminal};

/// What to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Program {
    /// The login shell.
    Shell,
    /// A command line for the shell's `-c`.
    Command(Vec<u8>),
}

impl Program {
    /// Whether it is what mosh's client starts, alone or behind a question for the address: a server that would wait in
    /// vain for datagrams.
    pub(crate) fn is_mosh(&self) -> bool {
        const STARTS: [&[u8]; 2] = [b"mosh-server 'new'", b"mosh-server new"];
        let Self::Command(line) = self else { return false };
        let from = line.windows(4).rposition(|four| four == b"' ; ").map_or(0, |at| at + 4);
        let last = line.get(from..).unwrap_or_default();
        STARTS.iter().any(|start| last.starts_with(start))
    }
}

/// A running process and our ends of what it reads and writes.
#[derive(Debug)]
pub(crate) struct Launched {
    /// The process; it leads its own session and group.
    pub(crate) child: Child,
    /// Its id, which is also its group's.
    pub(crate) leader: Pid,
    /// Somebody here waits for it.
    pub(crate) awaited: Awaited,
    /// Where its input goes.
    pub(crate) stdin: pipe::Sender,
    /// Where its output comes from: standard output, or the terminal.
    pub(crate) stdout: pipe::Receiver,
    /// Its standard error, where that is apart.
    pub(crate) stderr: Option<pipe::Receiver>,
}

/// Why a program could not be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LaunchError {
    /// Not even a pipe could be had.
    #[error("cannot make the process's pipes: {0}")]
    Pipes(#[source] io::Error),
    /// The shell did not start.
    #[error("cannot start {shell}: {source}")]
    Spawn {
        /// The shell's path.
        shell: String,
        /// Why not.
        source: io::Error,
    },
    /// An image without a shell.
    #[error(
        "there is no {shell} in this workspace: commands and shells do not run here, files over sftp and forwards work"
    )]
    NoShell {
        /// Its path.
        shell: String,
    },
    /// A root that may not become anybody else.
    #[error(
        "the agent is root and may not become '{login}': its container drops CAP_SETUID and CAP_SETGID; \
         let it keep them, or run it as that user (runAsUser)"
    )]
    MayNotBecome {
        /// Whom.
        login: String,
    },
    /// The kernel takes no argument that long (execve(2)).
    #[error(
        "the command is {0} bytes long, and the system takes {LONGEST_LINE} at most; a longer script can be sent on standard input"
    )]
    LongLine(usize),
    /// A NUL where none may stand.
    #[error("a command or path contains a NUL")]
    Nul,
}

/// Starts the program, in the account's container. Blocks until the new process runs or has failed: call it where that is allowed.
pub(crate) fn launch(
    account: &Account,
    program: &Program,
    environment: Vec<(OsString, OsString)>,
    terminal: Option<(&Terminal, Slave)>,
) -> Result<Launched, LaunchError> {
    if let Program::Command(line) = program
        && line.len() > LONGEST_LINE
    {
        return Err(LaunchError::LongLine(line.len()));
    }
    let mut command = shell_command(account, program);
    command.env_clear().envs(environment);
    syscall::prepare(&mut command, preparation(account, terminal.is_some())?);
    let ends = match terminal {
        Some((terminal, slave)) => on_terminal(&mut command, terminal, slave),
        None => on_pipes(&mut command),
    };
    spawn(command, ends.map_err(LaunchError::Pipes)?, &account.shell).map_err(|error| match error {
        LaunchError::Spawn { source, .. } if account.switch && source.raw_os_error() == Some(EPERM) => {
            LaunchError::MayNotBecome {
                login: account.name.clone(),
            }
        }
        LaunchError::Spawn { source, shell } if source.kind() == io::ErrorKind::NotFound => {
            LaunchError::NoShell { shell }
        }
        other => other,
    })
}

/// Starts a command that is prepared; `program` names it if it does not start.
pub(super) fn spawn(command: Command, (stdin, stdout, stderr): Ends, program: &Path) -> Result<Launched, LaunchError> {
    let failed = |source| LaunchError::Spawn {
        shell: program.display().to_string(),
        source,
    };
    let child = tokio::process::Command::from(command).spawn().map_err(failed)?;
    // A child that was never waited for has its id.
    let leader = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
    let leader = leader.ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
    Ok(Launched {
        child,
        leader,
        awaited: Awaited::mark(leader),
        stdin,
        stdout,
        stderr,
    })
}

/// `-bash` for a login shell, `bash -c 'line'` for a command, as sshd names them.
fn shell_command(account: &Account, program: &Program) -> Command {
    let mut command = Command::new(&account.shell);
    let name = account.shell.file_name().unwrap_or(account.shell.as_os_str());
    match program {
        Program::Shell => {
            let mut login = OsString::from("-");
            login.push(name);
            command.arg0(login);
        }
        Program::Command(line) => {
            command.arg0(name).arg("-c").arg(OsStr::from_bytes(line));
        }
    }
    command
}

fn preparation(account: &Account, terminal: bool) -> Result<Preparation, LaunchError> {
    let home = CString::new(account.home.as_os_str().as_bytes()).map_err(|_| LaunchError::Nul)?;
    let homeless = format!(
        "Could not chdir to home directory {}, starting in /\r\n",
        account.home.display()
    );
    let identity = account.switch.then(|| Identity {
        uid: account.uid,
        gid: account.gid,
        groups: account.groups.clone(),
    });
    Ok(Preparation {
        root: account.root.clone(),
        identity,
        terminal,
        home,
        homeless: homeless.into_bytes(),
    })
}

pub(super) type Ends = (pipe::Sender, pipe::Receiver, Option<pipe::Receiver>);

fn on_terminal(command: &mut Command, terminal: &Terminal, slave: Slave) -> io::Result<Ends> {
    let ends = (terminal.writer()?, terminal.reader()?, None);
    command
        .stdin(slave.fd.try_clone()?)
        .stdout(slave.fd.try_clone()?)
        .stderr(slave.fd);
    Ok(ends)
}

pub(super) fn on_pipes(command: &mut Command) -> io::Result<Ends> {
    let (in_read, in_write) = io::pipe()?;
    let (out_read, out_write) = io::pipe()?;
    let (err_read, err_write) = io::pipe()?;
    command
        .stdin(Stdio::from(in_read))
        .stdout(Stdio::from(out_write))
        .stderr(Stdio::from(err_write));
    let stdin = pipe::Sender::from_owned_fd(OwnedFd::from(in_write))?;
    let stdout = pipe::Receiver::from_owned_fd(OwnedFd::from(out_read))?;
    let stderr = pipe::Receiver::from_owned_fd(OwnedFd::from(err_read))?;
    Ok((stdin, stdout, Some(stderr)))
}

/// What setgroups(2) and setresuid(2) say without the capability; a shell that may not be run is EACCES.
const EPERM: i32 = nix::libc::EPERM;
/// Linux: one argument has 32 pages at most, with the NUL at its end (`MAX_ARG_STRLEN`; with pages of 4 KiB).
const LONGEST_LINE: usize = 32 * 4096 - 1;

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use nix::unistd::{Uid, User};
    use tokio::io::AsyncReadExt;

    use super::*;

    #[test]
    fn a_start_by_mosh_is_known_and_nothing_else() {
        let command = |line: &str| Program::Command(line.into());
        for line in [
            "mosh-server new -s -c 8",
            "mosh-server 'new' '-s'",
            "sh -c '[ -n \"$SSH_CONNECTION\" ] && printf x' ; mosh-server 'new' '-c' '8'",
        ] {
            assert!(command(line).is_mosh(), "{line}");
        }
        for line in [
            "mosh-server --version",
            "mosh-server",
            "",
            "echo mosh-server new",
            "xmosh-server new",
        ] {
            assert!(!command(line).is_mosh(), "{line}");
        }
        assert!(!Program::Shell.is_mosh());
    }

    use crate::process::{Overrides, Size};

    fn account(home: Option<&str>) -> Account {
        let me = User::from_uid(Uid::effective()).unwrap().unwrap();
        let overrides = Overrides {
            home: home.map(PathBuf::from),
            shell: Some("/bin/sh".into()),
            login: None,
        };
        Account::find(&me.name, &overrides).unwrap()
    }

    fn line(text: &str) -> Program {
        Program::Command(text.as_bytes().to_vec())
    }

    async fn outputs(mut launched: Launched) -> (String, String, Option<i32>) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        drop(launched.stdin);
        launched.stdout.read_to_end(&mut out).await.unwrap();
        launched.stderr.as_mut().unwrap().read_to_end(&mut err).await.unwrap();
        let status = launched.child.wait().await.unwrap();
        (
            String::from_utf8(out).unwrap(),
            String::from_utf8(err).unwrap(),
            status.code(),
        )
    }

    #[tokio::test]
    async fn a_command_leads_its_own_session_and_keeps_its_streams_apart() {
        let environment = vec![("A".into(), "b c".into()), ("PATH".into(), "/usr/bin:/bin".into())];
        let program = line("echo \"$0 $A $(pwd)\"; echo oops >&2; ps -o sid= -p $$; echo $$; exit 7");
        let launched = launch(&account(Some("/tmp")), &program, environment, None).unwrap();
        let leader = launched.leader;
        let (out, err, code) = outputs(launched).await;
        let lines: Vec<_> = out.lines().map(str::trim).collect();
        assert_eq!(lines[0], "sh b c /tmp");
        assert_eq!(
            (lines[1], lines[2]),
            (leader.to_string().as_str(), leader.to_string().as_str())
        );
        assert_eq!((err.as_str(), code), ("oops\n", Some(7)));
    }

    #[tokio::test]
    async fn a_missing_home_is_said_and_the_root_is_taken() {
        let launched = launch(&account(Some("/no/such/home")), &line("pwd"), Vec::new(), None).unwrap();
        let (out, err, code) = outputs(launched).await;
        assert_eq!((out.as_str(), code), ("/\n", Some(0)));
        assert!(err.contains("/no/such/home"), "{err}");
    }

    #[tokio::test]
    async fn a_missing_shell_is_an_error_that_names_it() {
        let mut account = account(None);
        account.shell = "/no/such/shell".into();
        let error = launch(&account, &Program::Shell, Vec::new(), None).unwrap_err();
        assert!(error.to_string().contains("/no/such/shell"), "{error}");
    }

    #[tokio::test]
    async fn a_command_may_be_as_long_as_the_kernel_takes_and_no_longer() {
        let of_length = |length: usize| {
            let text = "echo $0 #";
            line(&format!("{text}{}", "x".repeat(length - text.len())))
        };
        let launched = launch(&account(Some("/")), &of_length(LONGEST_LINE), Vec::new(), None).unwrap();
        assert_eq!(outputs(launched).await.0, "sh\n");
        let error = launch(&account(Some("/")), &of_length(LONGEST_LINE + 1), Vec::new(), None).unwrap_err();
        assert!(matches!(error, LaunchError::LongLine(_)), "{error}");
        assert!(error.to_string().contains("131072 bytes"), "{error}");
    }

    /// Whatever of these shells the system has.
    #[tokio::test]
    async fn every_shell_runs_a_command_under_its_own_name() {
        let mut ran = 0;
        for shell in [
            "/bin/sh",
            "/bin/bash",
            "/bin/dash",
            "/bin/zsh",
            "/usr/bin/fish",
            "/bin/mksh",
        ] {
            if !std::path::Path::new(shell).exists() {
                continue;
            }
            let mut account = account(Some("/"));
            account.shell = shell.into();
            let env = vec![
                ("PATH".into(), "/usr/bin:/bin".into()),
                ("HOME".into(), "/nonexistent".into()),
            ];
            let launched = launch(&account, &line("printf ok; exit 9"), env, None).unwrap();
            let (out, err, code) = outputs(launched).await;
            assert_eq!(code, Some(9), "{shell}: {out} {err}");
            assert!(out == "ok", "{shell}: {out} {err}");
            ran += 1;
        }
        assert!(ran >= 1);
    }

    #[tokio::test]
    async fn a_terminal_is_the_controlling_terminal_with_its_size() {
        let account = account(Some("/"));
        let (terminal, slave) = Terminal::open(&account, Size::asked(91, 33, 0, 0), &[]).unwrap();
        let path = slave.path().display().to_string();
        let program = line("stty size; tty; ps -o tty= -p $$; exec sleep 0");
        let env = vec![("PATH".into(), "/usr/bin:/bin".into())];
        let mut launched = launch(&account, &program, env, Some((&terminal, slave))).unwrap();
        let mut out = Vec::new();
        // Reading ends with EIO once the last process has closed the terminal.
        let ended = launched.stdout.read_to_end(&mut out).await;
        assert!(ended.is_ok() || ended.unwrap_err().raw_os_error() == Some(nix::libc::EIO));
        let out = String::from_utf8(out).unwrap();
        let lines: Vec<_> = out.split("\r\n").map(str::trim).collect();
        assert_eq!(lines, ["33 91", &path, path.trim_start_matches("/dev/"), ""]);
        assert!(launched.child.wait().await.unwrap().success());
    }

    #[tokio::test]
    async fn root_becomes_the_account_for_good() {
        if !Uid::effective().is_root() {
            return;
        }
        let overrides = Overrides {
            home: Some("/".into()),
            shell: Some("/bin/sh".into()),
            login: None,
        };
        let account = Account::find("daemon", &overrides).unwrap();
        let env = vec![("PATH".into(), "/usr/bin:/bin".into())];
        let (out, err, _) = outputs(launch(&account, &line("id -un; id -u; id -Gn"), env, None).unwrap()).await;
        let lines: Vec<_> = out.lines().collect();
        assert_eq!(
            (lines[0], lines[1], err.as_str()),
            ("daemon", account.uid.to_string().as_str(), "")
        );
        assert!(!lines[2].split(' ').any(|group| group == "root"), "{out}");
    }
}
