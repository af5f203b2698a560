//! A stock OpenSSH server on a loopback port of its own: the yardstick for tests that run on it and on Doorward alike.

use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::PATIENCE;

/// A running stock sshd; ended when dropped.
#[derive(Debug)]
pub struct Sshd {
    child: Child,
    config: PathBuf,
    port: u16,
}

impl Sshd {
    /// Starts it in a fresh folder; nothing where OpenSSH's server is not installed, which is said on standard error.
    ///
    /// # Errors
    /// When it is there and does not come up.
    pub fn start(folder: &Path) -> Result<Option<Self>> {
        Self::start_with(folder, "")
    }

    /// The same with further lines in its configuration.
    ///
    /// # Errors
    /// When it is there and does not come up.
    pub fn start_with(folder: &Path, lines: &str) -> Result<Option<Self>> {
        let places = ["/usr/sbin/sshd", "/usr/local/sbin/sshd"];
        let Some(program) = places.iter().map(Path::new).find(|path| path.exists()) else {
            eprintln!("not compared: there is no sshd; install openssh-server");
            return Ok(None);
        };
        fs::create_dir_all(folder)?;
        for name in ["host", "user"] {
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(folder.join(name))
                .status()?;
            ensure!(made.success(), "ssh-keygen made no {name} key");
        }
        fs::copy(folder.join("user.pub"), folder.join("authorized_keys"))?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let at = folder.display();
        fs::write(
            folder.join("sshd_config"),
            format!(
                "ListenAddress 127.0.0.1\nPort {port}\nHostKey {at}/host\nPidFile none\n\
                 AuthorizedKeysFile {at}/authorized_keys\nStrictModes no\nUsePAM no\nPermitRootLogin yes\n\
                 PasswordAuthentication no\nMaxStartups 500\nLogLevel ERROR\nSubsystem sftp internal-sftp\n{lines}\n"
            ),
        )?;
        // Where it gives up its rights; only root can make it, and only root needs it.
        let _ = fs::create_dir_all("/run/sshd");
        let child = Command::new(program)
            .args(["-D", "-e", "-f"])
            .arg(folder.join("sshd_config"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(folder.join("sshd.log"))?)
            .spawn()?;
        let key = fs::read_to_string(folder.join("host.pub"))?;
        fs::write(folder.join("known_hosts"), format!("[127.0.0.1]:{port} {key}"))?;
        let config = folder.join("ssh_config");
        fs::write(
            &config,
            format!(
                "Host direct\n  HostName 127.0.0.1\n  Port {port}\n  IdentityFile {at}/user\n  IdentitiesOnly yes\n  \
                 IdentityAgent none\n  UserKnownHostsFile {at}/known_hosts\n  StrictHostKeyChecking yes\n  \
                 LogLevel ERROR\n"
            ),
        )?;
        let mut sshd = Self { child, config, port };
        let limit = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if let Some(status) = sshd.child.try_wait()? {
                let log = fs::read_to_string(folder.join("sshd.log")).context("no log")?;
                anyhow::bail!("sshd ended at once: {status}: {log}");
            }
            ensure!(Instant::now() < limit, "sshd does not answer on port {port}");
            std::thread::yield_now();
        }
        Ok(Some(sshd))
    }

    /// The client configuration that names it `direct`.
    #[must_use]
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// Its port on 127.0.0.1, for clients that read no configuration of OpenSSH's.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
