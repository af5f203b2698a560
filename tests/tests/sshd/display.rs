//! The user's X server, lent by `ssh -X` and `ssh -Y` with the real `xauth` to a real X client.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use tests::both::{Server, stock};
use tests::{Outcome, feed};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::{has, stand};

/// An X server of the user's that lets nobody in without its cookie.
struct Display {
    _server: Child,
    name: String,
    authority: PathBuf,
}

impl Display {
    async fn start(folder: &Path) -> Result<Self> {
        let authority = folder.join("authority");
        let cookie = uuid::Uuid::new_v4().simple().to_string();
        let add = |name: &str| {
            let mut xauth = Command::new("xauth");
            xauth.arg("-q").arg("-f").arg(&authority);
            xauth.args(["add", name, "MIT-MAGIC-COOKIE-1", &cookie]);
            feed(xauth, b"")
        };
        // The server reads its cookie whatever display it is for; the number is known only then.
        add(":0").await?;
        let mut server = Command::new("Xvfb")
            .args([
                "-displayfd",
                "1",
                "-noreset",
                "-nolisten",
                "tcp",
                "-screen",
                "0",
                "640x480x24",
                "-auth",
            ])
            .arg(&authority)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let stdout = server.stdout.take().context("no stdout")?;
        let mut lines = BufReader::new(stdout).lines();
        let number = tokio::time::timeout(tests::PATIENCE, lines.next_line()).await??;
        let name = format!(":{}", number.context("the X server has ended")?);
        add(&name).await?;
        Ok(Self {
            _server: server,
            name,
            authority,
        })
    }

    async fn lent(&self, server: &Server, option: &str, remote: &str) -> Result<Outcome> {
        // Debian's client trusts by default
        let trusted = if option == "-X" {
            "ForwardX11Trusted=no"
        } else {
            "ForwardX11Trusted=yes"
        };
        let mut ssh = server.ssh(&[option, "-o", trusted, "-o", "LogLevel=ERROR"]);
        ssh.arg(remote);
        ssh.env("DISPLAY", &self.name).env("XAUTHORITY", &self.authority);
        feed(ssh, b"").await
    }
}

#[test]
fn an_x_client_draws_on_the_users_display_where_it_is_granted() -> Result<()> {
    if ![has("Xvfb"), has("xauth"), has("xdpyinfo")].iter().all(|there| *there) {
        ensure!(std::env::var_os("CI").is_none(), "install xvfb, xauth and x11-utils");
        return Ok(());
    }
    stand().run(|stand| async move {
        let display = Display::start(stand.folder()).await?;
        let alice = stand.stack.login("alice", &stand.folder().join("alice")).await?;
        let bob = Server::doorward(stand);
        let granted = bob.entered_with(alice.ssh_config());
        let direct = stock(stand, "display", "X11Forwarding yes\n")?;
        let direct = direct.as_ref().map(|(_sshd, server)| server.clone());
        for server in [direct, Some(granted)].into_iter().flatten() {
            for (option, trusted) in [("-X", false), ("-Y", true)] {
                let seen = display
                    .lent(&server, option, "echo $DISPLAY; xdpyinfo -queryExtensions")
                    .await?;
                let text = String::from_utf8_lossy(&seen.stdout).into_owned();
                let context = || format!("{} {option}: {text} {}", server.name, seen.said());
                let (name, info) = text.split_once('\n').with_context(context)?;
                ensure!(name.starts_with("localhost:") && seen.code == Some(0), "{}", context());
                ensure!(info.contains(&format!("name of display:    {name}")), "{}", context());
                ensure!(info.contains("640x480 pixels"), "another display: {}", context());
                // A client that is not trusted does not get to see most of what a server offers.
                ensure!(info.contains("XTEST  (opcode") == trusted, "{}", context());
            }
            // With the made-up cookie alone, and with none.
            let without = display.lent(&server, "-Y", "XAUTHORITY=/nowhere xdpyinfo").await?;
            ensure!(without.code != Some(0), "{}: let in without a cookie", server.name);
        }
        let refused = display.lent(&bob, "-Y", "echo \"<$DISPLAY>\"").await?;
        ensure!(refused.stdout == b"<>\n", "not granted, and yet: {:?}", refused.stdout);
        ensure!(
            refused.said().contains("X11 forwarding request failed"),
            "{}",
            refused.said()
        );
        Ok(())
    })
}
