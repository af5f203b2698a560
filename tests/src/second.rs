//! A second gateway beside a stand's own, for the same workspaces, that believes an issuer which the test scripts.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};
use doorward_dev::browser::Browser;
use doorward_dev::issuer::{Issuer, Person, Settings};
use doorward_dev::stack::ClientFolder;
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;
use toml::{Table, Value};
use url::Url;

use crate::raw::{Door, metric};
use crate::{PATIENCE, Stand, until};

/// A running gateway and its issuer. It ends when this is dropped, or with the test's process.
pub struct Second {
    /// Who its people are: in this process, to be scripted.
    pub issuer: Issuer,
    /// Where people reach it.
    pub address: SocketAddr,
    /// Where its metrics are.
    pub admin: SocketAddr,
    folder: PathBuf,
    ca: PathBuf,
    child: Child,
}

#[derive(Deserialize)]
struct Announcement {
    listen: SocketAddr,
    admin: SocketAddr,
}

impl Second {
    /// Starts it in a folder `name` beside the stand's stack, with its own key, journal and recordings. `limits` are
    /// the lines of its `[limits]`. It logs everything down to `debug`.
    ///
    /// # Errors
    /// It does not come up; its log is in its folder.
    pub async fn start(stand: &Stand, program: &str, name: &str, limits: &str) -> Result<Self> {
        let limits = limits.parse()?;
        Self::start_with(stand, program, name, |config| {
            config.insert("limits".to_owned(), Value::Table(limits));
            Ok(())
        })
        .await
    }

    /// The same with any change to its configuration.
    ///
    /// # Errors
    /// It does not come up; its log is in its folder.
    pub async fn start_with(
        stand: &Stand,
        program: &str,
        name: &str,
        change: impl FnOnce(&mut Table) -> Result<()>,
    ) -> Result<Self> {
        Self::start_logging(stand, program, name, "text", change).await
    }

    /// The same with a form of its log: `text` or `json`.
    ///
    /// # Errors
    /// It does not come up; its log is in its folder.
    pub async fn start_logging(
        stand: &Stand,
        program: &str,
        name: &str,
        form: &str,
        change: impl FnOnce(&mut Table) -> Result<()>,
    ) -> Result<Self> {
        let issuer = Issuer::start(Settings::default()).await?;
        let folder = stand.folder().join(name);
        fs::create_dir_all(&folder)?;
        let config = folder.join("gateway.toml");
        let mut text = configuration(stand, &issuer)?;
        change(&mut text)?;
        fs::write(&config, toml::to_string(&text)?)?;
        let announced = folder.join("announced.json");
        let log = fs::File::create(folder.join("gateway.log"))?;
        let mut child = Command::new(program)
            .arg("tethered")
            .arg(folder.join("lock"))
            .args(["gateway", "run", "--log-format", form, "--config"])
            .arg(&config)
            .arg("--announce")
            .arg(&announced)
            .env("RUST_LOG", "debug")
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()?;
        let at: Announcement = until("the second gateway's announcement", async || {
            ensure!(
                child.try_wait()?.is_none(),
                "the second gateway ended: {}",
                fs::read_to_string(folder.join("gateway.log"))?
            );
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            Ok(fs::read(&announced)
                .ok()
                .and_then(|text| serde_json::from_slice(&text).ok()))
        })
        .await?;
        let ca = stand.stack.ca_file();
        let second = Self {
            issuer,
            address: at.listen,
            admin: at.admin,
            folder,
            ca,
            child,
        };
        until("the second gateway's links", async || {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            let up = metric(second.admin, "doorward_links").await?;
            Ok((up >= 2.0).then_some(()))
        })
        .await?;
        Ok(second)
    }

    /// Its own folder: configuration, log, `state`.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Its log.
    #[must_use]
    pub fn log_file(&self) -> PathBuf {
        self.folder.join("gateway.log")
    }

    /// Where its journal and its recordings are.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.folder.join("state")
    }

    /// Its process id, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// A raw client of it.
    ///
    /// # Errors
    /// The CA's file cannot be read.
    pub fn door(&self) -> Result<Door> {
        Door::new(self.address, &self.ca)
    }

    /// Logs somebody in at it, in a client folder `name` of their own, by the device flow; `address` is its own, or
    /// that of something in between.
    ///
    /// # Errors
    /// The login fails.
    pub async fn client(&self, stand: &Stand, name: &str, person: &str, address: SocketAddr) -> Result<ClientFolder> {
        let client = stand.stack.client_folder(&self.folder.join(name))?;
        let url = format!("https://{address}");
        let ca = self.ca.to_string_lossy().into_owned();
        let mut login = client.command(["login", &url, "--ca", &ca, "--device"]);
        let mut login = login
            .env("BROWSER", "true")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let stderr = login.stderr.take().context("no stderr")?;
        let done = timeout(PATIENCE, async {
            let said = answer(BufReader::new(stderr), person).await?;
            Ok::<_, anyhow::Error>((login.wait().await?, said))
        });
        let (status, said) = done.await.context("the login hung")??;
        ensure!(status.success(), "the login ended with {status}: {said}");
        let written = client.command(["config", "--write", "--no-include"]).output().await?;
        ensure!(
            written.status.success(),
            "config: {}",
            String::from_utf8_lossy(&written.stderr)
        );
        Ok(client)
    }
}

/// Reads what the login says, approves the device when it has said where and with which code, and reads on.
async fn answer(stderr: impl tokio::io::AsyncBufRead + Unpin, person: &str) -> Result<String> {
    let mut lines = stderr.lines();
    let (mut said, mut page, mut code) = (String::new(), None, None);
    while let Some(line) = lines.next_line().await? {
        said += &line;
        said += "\n";
        match line.trim().split_once(':') {
            Some(("address", rest)) => page = Some(Url::parse(rest.trim())?),
            Some(("code", rest)) => code = Some(rest.trim().to_owned()),
            _ => {}
        }
        if let (Some(mut page), Some(code)) = (page.clone(), code.take()) {
            page.set_query(None);
            let password = Person::new(person, &[]).password();
            Browser::new()?.approve_device(&page, &code, person, &password).await?;
        }
    }
    Ok(said)
}

/// The stand's own configuration with another issuer, free ports, a key and a state of its own.
fn configuration(stand: &Stand, issuer: &Issuer) -> Result<Table> {
    let stack = stand.folder().join("stack");
    let mut config: Table = fs::read_to_string(stack.join("gateway.toml"))?.parse()?;
    let set = |config: &mut Table, path: &[&str], value: &str| -> Result<()> {
        let Some((last, sections)) = path.split_last() else {
            bail!("no key")
        };
        let mut table = config;
        for section in sections {
            table = table
                .get_mut(*section)
                .and_then(Value::as_table_mut)
                .context("no such section")?;
        }
        table.insert((*last).to_owned(), Value::String(value.to_owned()));
        Ok(())
    };
    let shared = |name: &str| stack.join(name).to_string_lossy().into_owned();
    for (path, value) in [
        (&["state-directory"][..], "state".to_owned()),
        (&["records", "directory"], "state/records".to_owned()),
        (&["link", "key"], "gateway.key".to_owned()),
        (&["listen", "address"], "127.0.0.1:0".to_owned()),
        (&["admin", "address"], "127.0.0.1:0".to_owned()),
        (&["oidc", "issuer"], issuer.url().to_owned()),
        (&["listen", "certificate"], shared("tls.crt")),
        (&["listen", "key"], shared("tls.key")),
        (&["authority", "local", "user-ca"], shared("user-ca")),
        (&["authority", "local", "host-ca"], shared("host-ca")),
        (&["policy", "file"], shared("policy.toml")),
    ] {
        set(&mut config, path, &value)?;
    }
    for workspace in config
        .get_mut("workspace")
        .and_then(Value::as_array_mut)
        .context("no workspace")?
    {
        // The agent was enrolled by the stand's own gateway.
        workspace
            .as_table_mut()
            .context("no workspace")?
            .remove("join-token-file");
    }
    Ok(config)
}
