//! One probe: a program that does what people do with one client, and says line by line what worked.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result};
use tests::both::Server;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::Command;
use tokio::time::{Duration, timeout};

/// A client and the program that tries it.
#[derive(Debug)]
pub struct Probe {
    /// The client, as the table names it.
    pub client: &'static str,
    /// What must be there for it: programs in the path, or paths.
    needs: &'static [&'static str],
    /// The program and its arguments.
    line: &'static [&'static str],
}

/// `{probes}` and `{installed}` stand for the folders of the probes and of what was installed for them.
macro_rules! probes {
    ($( $client:literal needs [$($need:literal),+] runs [$($part:literal),+] ),+ $(,)?) => {
        /// Every client that is tried.
        pub const PROBES: &[Probe] =
            &[$(Probe { client: $client, needs: &[$($need),+], line: &[$($part),+] }),+];
    };
}

probes! {
    "OpenSSH" needs ["ssh", "scp", "sftp"] runs ["{probes}/shell/openssh.sh", "openssh"],
    "OpenSSH 7.5" needs ["ssh1", "scp1"] runs ["{probes}/shell/openssh.sh", "openssh-7"],
    "sshfs" needs ["sshfs", "/dev/fuse"] runs ["{probes}/shell/sshfs.sh"],
    "Dropbear dbclient" needs ["dbclient"] runs ["{probes}/shell/dropbear.sh"],
    "PuTTY" needs ["plink", "psftp", "pscp"] runs ["{probes}/shell/putty.sh"],
    "rsync" needs ["rsync"] runs ["{probes}/shell/rsync.sh"],
    "git" needs ["git"] runs ["{probes}/shell/git.sh"],
    "lftp" needs ["lftp"] runs ["{probes}/shell/lftp.sh"],
    "rclone" needs ["rclone"] runs ["{probes}/shell/rclone.sh"],
    "curl" needs ["curl"] runs ["{probes}/shell/curl.sh"],
    "tmux" needs ["tmux"] runs ["{probes}/shell/tmux.sh"],
    "autossh" needs ["autossh"] runs ["{probes}/shell/autossh.sh"],
    "ansible-core" needs ["{installed}/python/bin/ansible"]
        runs ["{probes}/shell/ansible.sh", "{installed}/python/bin"],
    "ssh-audit" needs ["{installed}/python/bin/ssh-audit"]
        runs ["{probes}/shell/ssh-audit.sh", "{installed}/python/bin/ssh-audit"],
    "Paramiko" needs ["{installed}/python/bin/python"]
        runs ["{installed}/python/bin/python", "{probes}/python/probe_paramiko.py"],
    "AsyncSSH" needs ["{installed}/python/bin/python"]
        runs ["{installed}/python/bin/python", "{probes}/python/probe_asyncssh.py"],
    "parallel-ssh (libssh2)" needs ["{installed}/python/bin/python"]
        runs ["{installed}/python/bin/python", "{probes}/python/probe_parallel.py", "ssh2"],
    "parallel-ssh (libssh)" needs ["{installed}/python/bin/python"]
        runs ["{installed}/python/bin/python", "{probes}/python/probe_parallel.py", "ssh"],
    "ssh2 for Node" needs ["node", "{installed}/node/probe.js"] runs ["node", "{installed}/node/probe.js"],
    "Go x/crypto/ssh, pkg/sftp" needs ["{installed}/go-probe"] runs ["{installed}/go-probe"],
    "Ruby Net::SSH, Net::SFTP" needs ["ruby"] runs ["ruby", "{probes}/ruby/probe.rb"],
    "JSch" needs ["java", "{installed}/java/classes"]
        runs ["java", "-cp", "{installed}/java/classes:{installed}/java/lib/*", "Probe", "jsch"],
    "Apache MINA SSHD" needs ["java", "{installed}/java/classes"]
        runs ["java", "-cp", "{installed}/java/classes:{installed}/java/lib/*", "Probe", "mina"],
    "sshj" needs ["java", "{installed}/java/classes"]
        runs ["java", "-cp", "{installed}/java/classes:{installed}/java/lib/*", "Probe", "sshj"],
}

/// A server, as a probe is told of it.
#[derive(Debug)]
pub struct Place {
    /// Which it is, for what reads OpenSSH's configuration.
    pub server: Server,
    /// Its port on 127.0.0.1, for what does not.
    pub port: u16,
    /// Who logs in.
    pub account: String,
    /// A private key in OpenSSH's format.
    pub key: PathBuf,
    /// A port on the server's loopback that sends back what it gets.
    pub echo: u16,
}

/// What a probe said: the client's version, and each feature, with the reason if it failed.
#[derive(Debug, Default)]
pub struct Report {
    version: String,
    features: Vec<(String, Result<(), String>)>,
}

/// One line of the table.
#[derive(Debug)]
pub struct Row {
    /// The client.
    pub client: &'static str,
    /// Its version, as it says it itself.
    pub version: String,
    /// What was tried.
    pub feature: String,
    /// How it went with sshd.
    pub sshd: Result<(), String>,
    /// How it went with Doorward.
    pub doorward: Result<(), String>,
}

impl Row {
    /// The rows of two reports about the same client.
    pub fn pair(client: &'static str, stock: Report, ours: Report) -> Vec<Self> {
        let version = stock.version;
        let mut ours = ours.features;
        let mut of_ours = |feature: &str| {
            let at = ours.iter().position(|(name, _)| name == feature);
            at.map_or_else(
                || Err("the probe did not get so far".to_owned()),
                |at| ours.remove(at).1,
            )
        };
        let row = |(feature, sshd): (String, Result<(), String>)| Self {
            client,
            version: version.clone(),
            doorward: of_ours(&feature),
            feature,
            sshd,
        };
        let mut rows: Vec<_> = stock.features.into_iter().map(row).collect();
        // what only Doorward was asked, since the probe hung or did not begin there
        rows.extend(ours.into_iter().map(|(feature, doorward)| Self {
            client,
            version: version.clone(),
            feature,
            sshd: Ok(()),
            doorward,
        }));
        rows
    }

    /// The rows of two tries, in which only those are worse that are so both times, and which were worse once, as they
    /// were then.
    pub fn of_both_tries(first: Vec<Self>, mut second: Vec<Self>) -> (Vec<Self>, Vec<Self>) {
        let (mut rows, mut unsteady) = (Vec::new(), Vec::new());
        for row in first {
            let at = second.iter().position(|again| again.feature == row.feature);
            match at.map(|at| second.remove(at)) {
                Some(again) if row.is_worse() == again.is_worse() => rows.push(again),
                Some(again) if again.is_worse() => {
                    rows.push(row);
                    unsteady.push(again);
                }
                again => {
                    rows.extend(again);
                    if row.is_worse() {
                        unsteady.push(row);
                    }
                }
            }
        }
        unsteady.extend(second.into_iter().filter(Self::is_worse));
        (rows, unsteady)
    }

    /// Whether Doorward fails where sshd does not.
    pub fn is_worse(&self) -> bool {
        self.sshd.is_ok() && self.doorward.is_err()
    }
}

impl Probe {
    /// Whether everything that it needs is there.
    pub fn is_there(&self) -> bool {
        self.needs.iter().all(|need| Self::program_is_there(&filled(need)))
    }

    /// Whether a program is in the path, or a path is there.
    pub fn program_is_there(program: &str) -> bool {
        let path = std::env::var_os("PATH").unwrap_or_default();
        // an absolute path takes the place of the folder that it is joined to
        std::env::split_paths(&path).any(|folder| folder.join(program).exists())
    }

    /// Runs it against a server.
    pub async fn run(&self, place: &Place) -> Result<Report> {
        let folder = tempfile::tempdir().context("no folder for a probe")?;
        let mut line = self.line.iter().map(|part| filled(part));
        let mut command = Command::new(line.next().unwrap_or_default());
        command
            .args(line)
            .current_dir(folder.path())
            .env("PROBE_PORT", place.port.to_string())
            .env("PROBE_USER", &place.account)
            .env("PROBE_KEY", &place.key)
            .env("PROBE_ECHO", place.echo.to_string())
            .env("PROBE_FOLDER", folder.path())
            .env("PROBE_NAME", format!("probe-{}", uuid::Uuid::new_v4().simple()))
            .env("PROBE_CONFIG", place.server.config())
            .env("PROBE_HOST", place.server.host())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env_remove("SSH_AUTH_SOCK")
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("{} cannot be run", self.client))?;
        let (mut said, mut errors) = (String::new(), String::new());
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let reading = async {
            tokio::join!(read(stdout, &mut said), read(stderr, &mut errors));
            child.wait().await
        };
        // what was said until then still counts
        let hung = timeout(LONGEST, reading).await.is_err();
        let mut report = Report::read(&said);
        if hung {
            report.features.push(("the rest".to_owned(), Err("it hung".to_owned())));
        } else if report.features.is_empty() {
            let why = format!("it did not begin: {errors}");
            report.features.push(("anything".to_owned(), Err(why)));
        }
        Ok(report)
    }
}

async fn read(from: Option<impl AsyncRead + Unpin>, to: &mut String) {
    let Some(from) = from else { return };
    let mut lines = BufReader::new(from).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        to.push_str(&line);
        to.push('\n');
    }
}

impl Report {
    fn read(text: &str) -> Self {
        let mut report = Self::default();
        for line in text.lines() {
            if let Some(version) = line.strip_prefix("version ") {
                version.trim().clone_into(&mut report.version);
            } else if let Some(feature) = line.strip_prefix("ok ") {
                report.features.push((feature.to_owned(), Ok(())));
            } else if let Some((feature, why)) = line.strip_prefix("fail ").and_then(|rest| rest.split_once(": ")) {
                report.features.push((feature.to_owned(), Err(why.to_owned())));
            }
        }
        report
    }
}

fn filled(text: &str) -> String {
    let cache = std::env::var("XDG_CACHE_HOME").or_else(|_| std::env::var("HOME").map(|home| format!("{home}/.cache")));
    text.replace("{probes}", concat!(env!("CARGO_MANIFEST_DIR"), "/clients"))
        .replace(
            "{installed}",
            &format!("{}/doorward/clients", cache.unwrap_or_default()),
        )
}

/// How long one client may take for all that it does.
const LONGEST: Duration = Duration::from_secs(600);

mod tries {
    use super::*;

    #[test]
    fn worse_is_what_fails_both_times() {
        let tried = |features: &[(&str, bool)]| {
            let report = |works: &dyn Fn(bool) -> bool| Report {
                version: String::new(),
                features: features
                    .iter()
                    .map(|&(name, ours)| {
                        (
                            name.to_owned(),
                            if works(ours) { Ok(()) } else { Err("lost".to_owned()) },
                        )
                    })
                    .collect(),
            };
            Row::pair("client", report(&|_| true), report(&|ours| ours))
        };
        let names = |rows: &[Row]| rows.iter().map(|row| row.feature.clone()).collect::<Vec<_>>();
        let first = tried(&[
            ("always", true),
            ("never", false),
            ("later", false),
            ("once", true),
            ("the rest", false),
        ]);
        let second = tried(&[
            ("always", true),
            ("never", false),
            ("later", true),
            ("once", false),
            ("more", false),
        ]);
        let (rows, unsteady) = Row::of_both_tries(first, second);
        assert_eq!(names(&rows), ["always", "never", "later", "once"]);
        let worse: Vec<_> = rows
            .iter()
            .filter(|row| row.is_worse())
            .map(|row| &row.feature)
            .collect();
        assert_eq!(worse, ["never"]);
        assert_eq!(names(&unsteady), ["later", "once", "the rest", "more"]);
    }
}
