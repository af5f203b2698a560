//! A stock OpenSSH server on its own loopback port, with its own host and user key: the yardstick.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// A running stock sshd; ended when dropped.
#[derive(Debug)]
pub struct Sshd {
    child: Child,
    config: PathBuf,
}

impl Sshd {
    /// Starts Debian's sshd in `folder`.
    ///
    /// # Errors
    /// When OpenSSH's server is not installed or does not answer within ten seconds.
    pub fn start(folder: &Path) -> Result<Self> {
        let sshd = ["/usr/sbin/sshd", "/usr/local/sbin/sshd"]
            .iter()
            .map(Path::new)
            .find(|path| path.exists())
            .context("no sshd: install openssh-server")?;
        fs::create_dir_all(folder)?;
        for name in ["host", "user"] {
            let status = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(folder.join(name))
                .status()
                .context("ssh-keygen")?;
            if !status.success() {
                bail!("ssh-keygen made no {name} key");
            }
        }
        fs::copy(folder.join("user.pub"), folder.join("authorized_keys"))?;
        // an empty home on both sides: what somebody's .bashrc takes is not the server's doing
        let home = folder.join("home");
        fs::create_dir_all(&home)?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let at = folder.display();
        let server = folder.join("sshd_config");
        fs::write(
            &server,
            format!(
                "ListenAddress 127.0.0.1\nPort {port}\nHostKey {at}/host\nPidFile none\n\
                 AuthorizedKeysFile {at}/authorized_keys\nStrictModes no\nUsePAM no\n\
                 PermitRootLogin yes\nPasswordAuthentication no\nMaxStartups 500\nLogLevel ERROR\nSubsystem sftp internal-sftp\nSetEnv HOME={}\n",
                home.display()
            ),
        )?;
        let _ = fs::create_dir_all("/run/sshd");
        let log = File::create(folder.join("sshd.log"))?;
        let child = Command::new(sshd)
            .arg("-D")
            .arg("-e")
            .arg("-f")
            .arg(&server)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("starting sshd")?;
        let config = folder.join("ssh_config");
        let host_key = fs::read_to_string(folder.join("host.pub"))?;
        fs::write(folder.join("known_hosts"), format!("[127.0.0.1]:{port} {host_key}"))?;
        fs::write(
            &config,
            format!(
                "Host direct\n  HostName 127.0.0.1\n  Port {port}\n  IdentityFile {at}/user\n  \
                 IdentitiesOnly yes\n  IdentityAgent none\n  UserKnownHostsFile {at}/known_hosts\n  \
                 StrictHostKeyChecking yes\n  LogLevel ERROR\n"
            ),
        )?;
        let mut sshd = Self { child, config };
        sshd.await_port(port)?;
        Ok(sshd)
    }

    fn await_port(&mut self, port: u16) -> Result<()> {
        let limit = Instant::now() + Duration::from_secs(10);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            if let Some(status) = self.child.try_wait()? {
                bail!("sshd ended at once: {status}");
            }
            if Instant::now() > limit {
                bail!("sshd did not answer on port {port} within 10 s");
            }
            std::thread::yield_now();
        }
        Ok(())
    }

    /// The client configuration that names this server `direct`.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// The listener's process id; the sessions are its descendants.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
