//! The two servers that a test of files runs on, Doorward and a stock sshd, and what it compares between them.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::sshd::Sshd;
use crate::{Outcome, Stand, feed, sha256};

/// A server to run a test on.
pub struct Side {
    /// Who it is, for messages.
    pub name: &'static str,
    /// The configuration of `ssh`.
    pub config: PathBuf,
    /// The host's name there.
    pub host: &'static str,
    /// A fresh folder on the server.
    pub remote: PathBuf,
    /// A fresh folder beside the client.
    pub local: PathBuf,
}

/// A connection to a file server, packet by packet.
pub struct Raw {
    to: ChildStdin,
    from: ChildStdout,
    _child: Child,
}

impl Raw {
    /// The next packet, without its length.
    async fn next(&mut self) -> Result<Vec<u8>> {
        let read = async {
            let mut packet = vec![0; self.from.read_u32().await? as usize];
            self.from.read_exact(&mut packet).await?;
            Ok(packet)
        };
        tokio::time::timeout(crate::PATIENCE, read).await?
    }

    /// Asks, and gives the answer's kind and what follows its id. Strings are given as bytes with their length, the
    /// rest as it is on the wire.
    ///
    /// # Errors
    /// When no answer comes.
    pub async fn ask(&mut self, kind: u8, fields: &[Field<'_>]) -> Result<(u8, Vec<u8>)> {
        let mut packet = vec![kind, 0, 0, 0, 9];
        for field in fields {
            match field {
                Field::Int(value) => packet.extend(value.to_be_bytes()),
                Field::Long(value) => packet.extend(value.to_be_bytes()),
                Field::Text(text) => {
                    packet.extend(u32::try_from(text.len())?.to_be_bytes());
                    packet.extend(*text);
                }
            }
        }
        self.to.write_u32(u32::try_from(packet.len())?).await?;
        self.to.write_all(&packet).await?;
        let answer = self.next().await?;
        ensure!(answer.len() >= 9 && answer[1..5] == [0, 0, 0, 9], "{answer:?}");
        Ok((answer[0], answer[5..].to_vec()))
    }

    /// A handle.
    ///
    /// # Errors
    /// When the answer is none.
    pub async fn open(&mut self, kind: u8, fields: &[Field<'_>]) -> Result<Vec<u8>> {
        let (kind, body) = self.ask(kind, fields).await?;
        ensure!(kind == 102, "no handle: {body:?}");
        Ok(body[4..].to_vec())
    }
}

/// A field of a packet.
pub enum Field<'a> {
    /// 32 bits.
    Int(u32),
    /// 64 bits.
    Long(u64),
    /// A string.
    Text(&'a [u8]),
}

/// Doorward, and a stock sshd where there is one.
pub struct Sides {
    /// Doorward first.
    pub sides: Vec<Side>,
    _sshd: Option<Sshd>,
}

impl Sides {
    /// Both, with fresh folders for this test.
    ///
    /// # Errors
    /// When the sshd that is there does not come up.
    pub fn of(stand: &Stand, test: &str) -> Result<Self> {
        let folder = stand.folder().join(test);
        let sshd = Sshd::start(&folder.join("sshd"))?;
        let doorward = Some(("doorward", stand.stack.ssh_config(), "devenv-0"));
        let direct = sshd.as_ref().map(|sshd| ("sshd", sshd.config().to_owned(), "direct"));
        let mut sides = Vec::new();
        for (name, config, host) in [doorward, direct].into_iter().flatten() {
            let (remote, local) = (folder.join(name).join("remote"), folder.join(name).join("local"));
            fs::create_dir_all(&remote)?;
            fs::create_dir_all(&local)?;
            sides.push(Side {
                name,
                config,
                host,
                remote,
                local,
            });
        }
        Ok(Self { sides, _sshd: sshd })
    }
}

impl Side {
    /// A program of OpenSSH's, told where the host is.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.arg("-F").arg(&self.config);
        command
    }

    /// Runs lines of `sftp`, in the fresh folders.
    ///
    /// # Errors
    /// When it cannot be run, or hangs.
    pub async fn batch(&self, lines: &str) -> Result<Outcome> {
        let mut command = self.command("sftp");
        command.args(["-q", "-b", "-", self.host]);
        let lines = format!("cd {}\nlcd {}\n{lines}\n", self.remote.display(), self.local.display());
        feed(command, lines.as_bytes()).await
    }

    /// The same, which must succeed; gives what was printed.
    ///
    /// # Errors
    /// When it does not.
    pub async fn good_batch(&self, lines: &str) -> Result<String> {
        let outcome = self.batch(lines).await?;
        ensure!(
            outcome.code == Some(0),
            "{}: {:?}: {}",
            self.name,
            outcome.code,
            outcome.said()
        );
        // What was typed comes back as well.
        let said = String::from_utf8_lossy(&outcome.stdout).into_owned();
        let said = said.lines().filter(|line| !line.starts_with("sftp> "));
        Ok(said.fold(String::new(), |all, line| all + line + "\n"))
    }

    /// The subsystem itself, greeted.
    ///
    /// # Errors
    /// When it is not served.
    pub async fn raw(&self) -> Result<Raw> {
        let mut command = self.command("ssh");
        let command = command.args(["-s", self.host, "sftp"]).kill_on_drop(true);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (to, from) = (child.stdin.take(), child.stdout.take());
        let mut raw = Raw {
            to: to.context("no stdin")?,
            from: from.context("no stdout")?,
            _child: child,
        };
        raw.to.write_all(&[0, 0, 0, 5, 1, 0, 0, 0, 3]).await?;
        raw.next().await?;
        Ok(raw)
    }

    /// `scp` with these arguments.
    ///
    /// # Errors
    /// When it cannot be run, or hangs.
    pub async fn scp(&self, args: &[&OsStr]) -> Result<Outcome> {
        let mut command = self.command("scp");
        command.arg("-q").args(args);
        feed(command, b"").await
    }

    /// `host:path`.
    #[must_use]
    pub fn at(&self, path: &Path) -> OsString {
        let mut at = OsString::from(format!("{}:", self.host));
        at.push(path);
        at
    }

    /// What was said, without what differs from run to run: folders, and times of the day.
    #[must_use]
    pub fn plain(&self, outcome: &Outcome) -> Vec<String> {
        let said = [outcome.stdout.as_slice(), outcome.stderr.as_slice()].concat();
        let said = String::from_utf8_lossy(&said);
        let said = said.replace(&self.remote.display().to_string(), "REMOTE");
        said.replace(&self.local.display().to_string(), "LOCAL")
            .lines()
            .map(|line| line.trim_end().to_owned())
            .collect()
    }
}

/// Everything below a folder: type, mode, length, time if asked for, and content.
///
/// # Errors
/// When something cannot be read.
pub fn tree(folder: &Path, times: bool) -> Result<BTreeMap<OsString, String>> {
    let mut all = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next)? {
            let path = entry?.path();
            let file = fs::symlink_metadata(&path)?;
            let content = if file.is_dir() {
                folders.push(path.clone());
                "folder".to_owned()
            } else if file.is_symlink() {
                format!("link to {}", fs::read_link(&path)?.display())
            } else {
                sha256(&fs::read(&path)?)
            };
            let time = if times && !file.is_symlink() { file.mtime() } else { 0 };
            let name = path.strip_prefix(folder)?.as_os_str().to_owned();
            all.insert(name, format!("{:o} {time} {content}", file.mode()));
        }
    }
    Ok(all)
}

/// A folder with names that people have, and some that they should not.
///
/// # Errors
/// When it cannot be made.
pub fn make_tree(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder.join("with space/deeper"))?;
    for (name, bytes) in [
        (&b"plain"[..], &b"1"[..]),
        (b"with space/and \"quotes\"", b"22"),
        (b"with space/deeper/new\nline", b"333"),
        (b"not \xff\xfe utf-8", b"4444"),
        (b"\xc3\xa4 umlaut", b""),
        (b"-dash", b"55555"),
    ] {
        let path = folder.join(OsStr::from_bytes(name));
        fs::write(&path, bytes)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640))?;
        // Read last after everything else that happens to it here: so reading it changes no time of it.
        let time = fs::FileTimes::new()
            .set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_200_000_000))
            .set_accessed(std::time::SystemTime::now() + std::time::Duration::from_secs(3600));
        fs::File::options().write(true).open(&path)?.set_times(time)?;
    }
    Ok(())
}

/// The long names of a NAME answer with their attributes, by name.
///
/// # Errors
/// When it is none.
pub fn names(mut body: &[u8]) -> Result<BTreeMap<String, (String, Vec<u8>)>> {
    let mut take = |length: usize| -> Result<&[u8]> {
        let (taken, rest) = body.split_at_checked(length).context("a short answer")?;
        body = rest;
        Ok(taken)
    };
    let number = |bytes: &[u8]| Ok::<_, anyhow::Error>(u32::from_be_bytes(bytes.try_into()?) as usize);
    let mut all = BTreeMap::new();
    for _ in 0..number(take(4)?)? {
        let length = number(take(4)?)?;
        let name = String::from_utf8_lossy(take(length)?).into_owned();
        let length = number(take(4)?)?;
        let line = String::from_utf8_lossy(take(length)?).into_owned();
        // Flags, size, owner, mode, times.
        let mut attributes = take(32)?.to_vec();
        // Listing a folder is itself an access: its time moves.
        attributes.drain(24..28);
        all.insert(name, (line, attributes));
    }
    Ok(all)
}
