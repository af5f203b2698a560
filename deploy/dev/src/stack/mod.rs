//! The whole of Doorward on loopback: issuer, agent and gateway as processes, and a client that is logged in.
//!
//! One executable acts as every program ([`crate::act_as_program`]). Ports are free ones, found by the programs
//! themselves, or ahead of them where another must know; each program announces its own, and keeps them over a restart. Nothing outlives the stack: its programs
//! are ended by [`Stack::stop`], or by their tether when the stack itself is killed.

mod client;
mod config;
mod error;
mod keys;
mod layout;
mod options;
mod real;
mod reserved;

use std::ffi::OsString;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use nix::unistd::{User, getuid};
use serde::Deserialize;

pub use client::{ClientFolder, Flow};
pub use error::Error;
pub use options::Options;
pub use real::Real;

use crate::issuer::Circle;
use crate::issuer_cli;
use crate::parts::keycloak::Realm;
use crate::parts::{Keycloak, Vault};
use crate::process::{self, Process, Start};
use config::GatewayAddresses;
use layout::{Layout, Lock, make_dir, write_private};
use reserved::Reserved;

/// The workspaces of every stack, all served by one agent process.
pub const WORKSPACES: [&str; 2] = ["devenv-0", "devenv-1"];

/// A running stack.
#[derive(Debug)]
pub struct Stack {
    layout: Layout,
    program: PathBuf,
    account: String,
    real: Real,
    policy: Option<String>,
    agent_env: Vec<(String, String)>,
    gateway_env: Vec<(String, String)>,
    circle: Option<Circle>,
    vault: Option<Vault>,
    keycloak: Option<(Keycloak, Realm)>,
    issuer: Program,
    agent: Program,
    gateway: Program,
    issuer_url: String,
    issuer_address: SocketAddr,
    agents: Vec<SocketAddr>,
    addresses: GatewayAddresses,
    /// What tests add to the gateway's configuration.
    more: String,
    /// How many workspaces the gateway is told of by its configuration.
    listed: usize,
    _reserved: [Reserved; 2],
    client: ClientFolder,
    http: reqwest::Client,
    _lock: Lock,
}

/// A program's process, absent between its end and its next start.
#[derive(Debug, Default)]
struct Program(Option<Process>);

#[derive(Deserialize)]
struct AgentAnnouncement {
    workspaces: Vec<AnnouncedWorkspace>,
}

#[derive(Deserialize)]
struct AnnouncedWorkspace {
    name: String,
    listen: SocketAddr,
}

#[derive(Deserialize)]
struct GatewayAnnouncement {
    listen: SocketAddr,
    admin: SocketAddr,
}

impl Stack {
    /// Prepares the folder, starts the programs one after the other, waits until both workspaces can be entered and
    /// logs the person in.
    ///
    /// # Errors
    /// The folder is another stack's or cannot be used; a program does not come up, whose log is then in the error.
    pub async fn start(options: Options) -> Result<Self, Error> {
        // reqwest wants a provider even where no TLS is spoken; an error means that there is one.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let program = match options.program {
            Some(program) => program,
            None => std::env::current_exe().map_err(Error::file("find", "this program"))?,
        };
        let (layout, lock) = Layout::prepare(&options.dir)?;
        let account = prepare_files(&layout)?;
        let client = ClientFolder::create(&layout.client(), &layout.file("doorward"), &program)?;
        let reserved = [Reserved::new()?, Reserved::new()?];
        let mut stack = Self {
            client,
            program,
            account,
            real: options.real,
            policy: options.policy,
            agent_env: options.agent_env,
            gateway_env: options.gateway_env,
            circle: options.circle,
            vault: None,
            keycloak: None,
            issuer: Program::default(),
            agent: Program::default(),
            gateway: Program::default(),
            issuer_url: String::new(),
            issuer_address: ANY_PORT,
            agents: vec![ANY_PORT; WORKSPACES.len()],
            addresses: GatewayAddresses {
                listen: reserved[0].address(),
                admin: reserved[1].address(),
            },
            more: String::new(),
            listed: WORKSPACES.len(),
            _reserved: reserved,
            http: plain_http()?,
            layout,
            _lock: lock,
        };
        link(&stack.client.ssh_config(), &stack.ssh_config())?;
        stack.start_real().await?;
        if stack.keycloak.is_none() {
            stack.start_issuer().await?;
        }
        stack.start_agent().await?;
        stack.set_vault_up().await?;
        stack.start_gateway().await?;
        if let Some(person) = &options.login {
            stack.log_in(&stack.client, person, Flow::Device).await?;
        }
        Ok(stack)
    }

    /// Waits until a program ends although nobody asked it to, and says which. Can be dropped and called again.
    pub async fn fallen(&mut self) -> Error {
        tokio::select! {
            error = self.issuer.fell() => error,
            error = self.agent.fell() => error,
            error = self.gateway.fell() => error,
            error = real::fell(&mut self.vault, &mut self.keycloak) => error,
        }
    }

    /// Ends every program: the agent first, so that its sessions end in order and their recordings are taken in.
    pub async fn stop(mut self) {
        for program in [&mut self.agent, &mut self.gateway, &mut self.issuer] {
            program.stop().await;
        }
        if let Some((keycloak, _)) = &mut self.keycloak {
            keycloak.stop().await;
        }
        if let Some(vault) = &mut self.vault {
            vault.stop().await;
        }
    }

    /// Stops the agent and starts it again on its ports.
    ///
    /// # Errors
    /// It does not come up again.
    pub async fn restart_agent(&mut self) -> Result<(), Error> {
        self.agent.stop().await;
        self.start_agent().await?;
        self.both_links().await
    }

    /// Stops the gateway and starts it again on its ports.
    ///
    /// # Errors
    /// It does not come up again.
    pub async fn restart_gateway(&mut self) -> Result<(), Error> {
        self.restart_gateway_with(|_| ()).await
    }

    /// The same with a change to its configuration, which the next start forgets.
    ///
    /// # Errors
    /// It does not come up again.
    pub async fn restart_gateway_with(&mut self, change: impl FnOnce(&mut toml::Table)) -> Result<(), Error> {
        self.gateway.stop().await;
        self.write_gateway()?;
        let mut listed = 0;
        config::change_gateway(&self.layout, |config| {
            change(config);
            listed = config
                .get("workspace")
                .and_then(toml::Value::as_array)
                .map_or(0, Vec::len);
        })?;
        self.listed = listed;
        self.run_gateway().await
    }

    /// Ends the agent as a crash would, with SIGKILL; [`Stack::restart_agent`] brings it back.
    pub async fn kill_agent(&mut self) {
        self.agent.kill().await;
    }

    /// Ends the gateway in order, so that its journal and log are closed; [`Stack::restart_gateway`] brings it back.
    pub async fn stop_gateway(&mut self) {
        self.gateway.stop().await;
    }

    /// Ends the gateway as a crash would, with SIGKILL; [`Stack::restart_gateway`] brings it back.
    pub async fn kill_gateway(&mut self) {
        self.gateway.kill().await;
    }

    /// A second client folder, with somebody logged in by the device flow and with its ssh configuration. Its script
    /// lies in it as `doorward`.
    ///
    /// # Errors
    /// The folder cannot be made, or the login fails.
    pub async fn login(&self, person: &str, home: &Path) -> Result<ClientFolder, Error> {
        let folder = self.client_folder(home)?;
        self.log_in(&folder, person, Flow::Device).await?;
        Ok(folder)
    }

    /// Logs somebody in in a client folder, and writes its ssh configuration.
    ///
    /// # Errors
    /// The login fails.
    pub async fn log_in(&self, folder: &ClientFolder, person: &str, flow: Flow) -> Result<(), Error> {
        self.log_in_with(folder, person, flow, &[]).await
    }

    /// The same with more options for `doorward login`.
    ///
    /// # Errors
    /// The login fails.
    pub async fn log_in_with(
        &self,
        folder: &ClientFolder,
        person: &str,
        flow: Flow,
        options: &[&str],
    ) -> Result<(), Error> {
        let (url, ca) = (self.gateway_url(), self.ca_file());
        folder
            .log_in(&client::Gateway { url: &url, ca: &ca }, person, flow, options)
            .await?;
        folder.run(&["config", "--write", "--no-include"]).await.map(drop)
    }

    /// A second client folder whose tokens come from this command, with its ssh configuration.
    ///
    /// # Errors
    /// The folder cannot be made, or the gateway takes no such token.
    pub async fn login_by(&self, command: &[&str], home: &Path) -> Result<ClientFolder, Error> {
        let folder = self.client_folder(home)?;
        let (url, ca) = (self.gateway_url(), self.ca_file());
        let ca = ca.to_string_lossy();
        let login = ["login", url.as_str(), "--ca", &ca, "--token-command"];
        folder.run(&[&login[..], command].concat()).await?;
        folder.run(&["config", "--write", "--no-include"]).await?;
        Ok(folder)
    }

    /// A second client folder in which nobody is logged in.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn client_folder(&self, home: &Path) -> Result<ClientFolder, Error> {
        make_dir(home)?;
        let home = home.canonicalize().map_err(Error::file("find", home))?;
        ClientFolder::create(&home, &home.join("doorward"), &self.program)
    }

    /// The stack's own client folder.
    #[must_use]
    pub fn client(&self) -> &ClientFolder {
        &self.client
    }

    /// The stack's own client folder (`DOORWARD_HOME`).
    #[must_use]
    pub fn client_home(&self) -> &Path {
        self.client.home()
    }

    /// The script that runs `doorward` in the stack's own client folder.
    #[must_use]
    pub fn wrapper(&self) -> &Path {
        self.client.wrapper()
    }

    /// The configuration for `ssh -F`; there once somebody is logged in.
    #[must_use]
    pub fn ssh_config(&self) -> PathBuf {
        self.layout.file("ssh_config")
    }

    /// Where people reach the gateway.
    #[must_use]
    pub fn gateway_address(&self) -> SocketAddr {
        self.addresses.listen
    }

    /// The same as a URL.
    #[must_use]
    pub fn gateway_url(&self) -> String {
        format!("https://{}", self.addresses.listen)
    }

    /// The CA that vouches for the gateway's TLS certificate, PEM.
    #[must_use]
    pub fn ca_file(&self) -> PathBuf {
        self.layout.file(keys::CA_PEM)
    }

    /// Where probes and metrics are.
    #[must_use]
    pub fn admin_address(&self) -> SocketAddr {
        self.addresses.admin
    }

    /// The issuer identifier.
    #[must_use]
    pub fn issuer_url(&self) -> &str {
        &self.issuer_url
    }

    /// Where the agent listens for each of [`WORKSPACES`].
    #[must_use]
    pub fn agent_addresses(&self) -> &[SocketAddr] {
        &self.agents
    }

    /// The account that every workspace is entered as: our own.
    #[must_use]
    pub fn account(&self) -> &str {
        &self.account
    }

    /// The home folder of a workspace.
    #[must_use]
    pub fn home(&self, workspace: &str) -> PathBuf {
        self.layout.home(workspace)
    }

    /// The gateway's process id, while it runs.
    #[must_use]
    pub fn gateway_pid(&self) -> Option<u32> {
        self.gateway.pid()
    }

    /// The agent's process id, while it runs.
    #[must_use]
    pub fn agent_pid(&self) -> Option<u32> {
        self.agent.pid()
    }

    /// The issuer's process id, while it runs.
    #[must_use]
    pub fn issuer_pid(&self) -> Option<u32> {
        self.issuer.pid()
    }

    /// Where the gateway keeps recordings.
    #[must_use]
    pub fn records_dir(&self) -> PathBuf {
        self.layout.records()
    }

    /// Where the gateway keeps its state.
    #[must_use]
    pub fn state_dir(&self) -> PathBuf {
        self.layout.state()
    }

    /// The last lines of a program's log: `issuer`, `agent` or `gateway`.
    #[must_use]
    pub fn log_tail(&self, program: &str) -> String {
        process::tail(&self.layout.log(program))
    }

    /// The whole log of a program.
    #[must_use]
    pub fn log_file(&self, program: &str) -> PathBuf {
        self.layout.log(program)
    }

    async fn start_issuer(&mut self) -> Result<(), Error> {
        let mut args = vec!["--listen".to_owned(), self.issuer_address.to_string()];
        if let Some(circle) = &self.circle {
            let path = self.layout.file("circle.json");
            let text = serde_json::to_vec(circle).map_err(|error| Error::Key {
                what: "a list of people",
                why: error.to_string(),
            })?;
            write_private(&path, &text)?;
            args.extend(["--circle".to_owned(), path.to_string_lossy().into_owned()]);
        }
        let announced: issuer_cli::Announcement = self.launch(ISSUER, &args, |stack| &mut stack.issuer).await?;
        self.issuer_url = announced.issuer;
        self.issuer_address = announced.listen;
        Ok(())
    }

    async fn start_agent(&mut self) -> Result<(), Error> {
        config::write_agent(&self.layout, &self.account, &self.agents, self.addresses)?;
        let args = self.run_with("agent.toml");
        let announced: AgentAnnouncement = self.launch(AGENT, &args, |stack| &mut stack.agent).await?;
        for (name, address) in WORKSPACES.iter().zip(&mut self.agents) {
            if let Some(found) = announced.workspaces.iter().find(|workspace| workspace.name == *name) {
                *address = found.listen;
            }
        }
        Ok(())
    }

    fn write_gateway(&self) -> Result<(), Error> {
        let authority = real::authority(self.real, self.vault.as_ref());
        config::write_gateway(
            &self.layout,
            self.addresses,
            &config::Issuer {
                url: &self.issuer_url,
                algorithm: if self.keycloak.is_some() { "RS256" } else { "ES256" },
                secret_file: self.keycloak.is_some().then_some(real::INTROSPECTION),
            },
            authority,
            &self.account,
            &self.agents,
            &self.more,
        )?;
        config::write_policy(&self.layout, self.policy.as_deref())
    }

    /// Adds these lines to the gateway's configuration, from its next start on.
    pub fn add_to_gateway(&mut self, lines: &str) {
        self.more.push_str(lines);
    }

    async fn start_gateway(&mut self) -> Result<(), Error> {
        self.write_gateway()?;
        self.run_gateway().await
    }

    async fn run_gateway(&mut self) -> Result<(), Error> {
        let args = self.run_with(config::GATEWAY_FILE);
        let announced: GatewayAnnouncement = self.launch(GATEWAY, &args, |stack| &mut stack.gateway).await?;
        self.addresses = GatewayAddresses {
            listen: announced.listen,
            admin: announced.admin,
        };
        self.both_links().await
    }

    fn run_with(&self, file: &str) -> [String; 3] {
        [
            "run".to_owned(),
            "--config".to_owned(),
            self.layout.file(file).to_string_lossy().into_owned(),
        ]
    }

    /// Starts a program and waits for its announcement.
    async fn launch<T: serde::de::DeserializeOwned>(
        &mut self,
        name: &'static str,
        args: &[String],
        place: fn(&mut Self) -> &mut Program,
    ) -> Result<T, Error> {
        let announcement = self.layout.announcement(name);
        remove(&announcement)?;
        let mut args: Vec<OsString> = args.iter().map(OsString::from).collect();
        args.extend(["--announce".into(), announcement.clone().into()]);
        let environment = match name {
            AGENT => &self.agent_env[..],
            GATEWAY => &self.gateway_env,
            _ => &[],
        };
        let process = Process::start(Start {
            program: &self.program,
            name,
            called: name,
            args,
            environment,
            lock: self.layout.lock(name),
            log: self.layout.log(name),
        })?;
        Ok(place(self).0.insert(process).announced(&announcement).await?)
    }

    /// Waits until the gateway is ready and has a link to each workspace.
    async fn both_links(&mut self) -> Result<(), Error> {
        let Some(gateway) = &mut self.gateway.0 else {
            return Ok(());
        };
        let (http, admin, listed) = (&self.http, self.addresses.admin, self.listed);
        let ask = async |path: &str| {
            let answer = http.get(format!("http://{admin}{path}")).send().await.ok()?;
            answer.error_for_status().ok()?.text().await.ok()
        };
        gateway.until("readiness", async || ask("/readyz").await).await?;
        let linked = async || {
            ask("/metrics")
                .await
                .filter(|text| links(text).unwrap_or_default() >= listed)
        };
        gateway.until("a link to each workspace", linked).await?;
        Ok(())
    }
}

impl Program {
    fn pid(&self) -> Option<u32> {
        self.0.as_ref().and_then(Process::pid)
    }

    async fn fell(&mut self) -> Error {
        match &mut self.0 {
            Some(process) => process.fell().await.into(),
            None => std::future::pending().await,
        }
    }

    async fn stop(&mut self) {
        if let Some(process) = self.0.take() {
            process.stop().await;
        }
    }

    async fn kill(&mut self) {
        if let Some(process) = self.0.take() {
            process.kill().await;
        }
    }
}

/// Keys, tokens and homes; returns the account that the workspaces are entered as.
fn prepare_files(layout: &Layout) -> Result<String, Error> {
    let account = User::from_uid(getuid()).ok().flatten().ok_or(Error::NoAccount)?.name;
    keys::ssh_authorities(layout)?;
    keys::tls(layout)?;
    make_dir(&layout.file("agent"))?;
    for workspace in WORKSPACES {
        make_dir(&layout.home(workspace))?;
        // The agent enrols anew in each run: a certificate of an earlier one may have expired.
        remove(&layout.file(&config::host_certificate(workspace)))?;
        let token = uuid::Uuid::from_bytes(rand::random()).simple().to_string();
        write_private(&layout.file(&config::join_token(workspace)), token.as_bytes())?;
    }
    Ok(account)
}

/// How many standing links are up, from the gateway's metrics.
fn links(metrics: &str) -> Option<usize> {
    metrics
        .lines()
        .find_map(|line| line.strip_prefix("doorward_links ")?.trim().parse().ok())
}

fn plain_http() -> Result<reqwest::Client, Error> {
    let client = reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([])
        .timeout(std::time::Duration::from_secs(5));
    client.build().map_err(|error| Error::Key {
        what: "an HTTP client",
        why: error.to_string(),
    })
}

fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::file("remove", path)(error)),
        _ => Ok(()),
    }
}

fn link(to: &Path, at: &Path) -> Result<(), Error> {
    remove(at)?;
    std::os::unix::fs::symlink(to, at).map_err(Error::file("link", at))
}

const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
const ISSUER: &str = "issuer";
const AGENT: &str = "agent";
const GATEWAY: &str = "gateway";
