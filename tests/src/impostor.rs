//! A gateway that the test plays, in possession of a stack's CA keys: it can link to the agents and sign whatever a
//! test wants to see refused.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use doorward_certs::HostKey;
use doorward_wire::link::{LinkKey, Mux, MuxIncoming, MuxLimits, MuxStream, Side, connect, mux};
use doorward_wire::link::{read_message, write_message};
use doorward_wire::message::{GatewayHello, LinkReady, Message, OpenSession, Refused, StreamAnswer, StreamOpen};
use doorward_wire::{Frame, FrameStream, LINK_VERSION, SSH_IDENTIFICATION};
use ssh_key::PrivateKey;
use ssh_key::certificate::{Builder, CertType};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::PATIENCE;

/// A certificate before it is signed. Times are seconds from now.
#[derive(Clone, Debug)]
pub struct Draft {
    /// Whose key it is for.
    pub subject: ssh_key::PublicKey,
    /// User or host.
    pub kind: CertType,
    /// When it begins to be valid.
    pub after: i64,
    /// When it ends.
    pub before: i64,
    /// Its number.
    pub serial: u64,
    /// Whom it is about.
    pub key_id: String,
    /// Its principals; none means anybody.
    pub principals: Vec<String>,
    /// Its extensions.
    pub extensions: Vec<(String, String)>,
    /// Its critical options.
    pub options: Vec<(String, String)>,
}

impl Draft {
    /// A good link certificate.
    #[must_use]
    pub fn link(key: &HostKey) -> Self {
        Self {
            subject: key.public_key().clone(),
            kind: CertType::User,
            after: -10,
            before: 600,
            serial: rand::random::<u64>() | 1,
            key_id: "gateway".to_owned(),
            principals: vec!["doorward-gateway".to_owned()],
            extensions: Vec::new(),
            options: Vec::new(),
        }
    }

    /// A good session certificate that allows everything of a shell.
    #[must_use]
    pub fn session(key: &HostKey, session: Uuid, workspace_uid: &str, login: &str) -> Self {
        let own = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        let id = session.to_string();
        let extensions = [
            ("permit-pty", ""),
            ("shell@doorward", ""),
            ("exec@doorward", ""),
            ("recording@doorward", "input=no,bulk=16777216"),
            ("longest@doorward", "3600"),
            ("session@doorward", &id),
            ("workspace@doorward", workspace_uid),
        ];
        Self {
            before: 120,
            key_id: format!("user=bob session={session}"),
            principals: vec![login.to_owned()],
            extensions: extensions.into_iter().map(own).collect(),
            ..Self::link(key)
        }
    }

    /// The certificate, signed by this key.
    ///
    /// # Errors
    /// It cannot be written so.
    pub fn sign(&self, ca: &PrivateKey) -> Result<Vec<u8>> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let at = |from_now: i64| now.saturating_add_signed(from_now);
        let nonce: [u8; 32] = rand::random();
        let (after, before) = (at(self.after), at(self.before));
        let mut builder = Builder::new(nonce, self.subject.key_data().clone(), after, before)?;
        builder
            .serial(self.serial)?
            .cert_type(self.kind)?
            .key_id(self.key_id.as_str())?;
        for principal in &self.principals {
            builder.valid_principal(principal.as_str())?;
        }
        if self.principals.is_empty() {
            builder.all_principals_valid()?;
        }
        for (name, value) in &self.extensions {
            builder.extension(name.as_str(), value.as_str())?;
        }
        for (name, value) in &self.options {
            builder.critical_option(name.as_str(), value.as_str())?;
        }
        Ok(builder.sign(ca)?.to_bytes()?)
    }
}

/// Reads a CA's private key from a stack's folder: `user-ca` or `host-ca`.
///
/// # Errors
/// It is not there.
pub fn ca(stack: &Path, name: &str) -> Result<PrivateKey> {
    Ok(PrivateKey::from_openssh(std::fs::read_to_string(stack.join(name))?)?)
}

/// A link that an agent has agreed to.
#[derive(Debug)]
pub struct Link {
    /// Opens streams on it.
    pub mux: Mux,
    /// Its control stream.
    pub control: MuxStream,
    _incoming: MuxIncoming,
    _tasks: TaskTracker,
}

/// TLS and streams to an agent, before a word was said.
///
/// # Errors
/// The agent cannot be reached.
pub async fn streams(address: SocketAddr, key: &HostKey) -> Result<(Mux, MuxIncoming, TaskTracker)> {
    let tcp = TcpStream::connect(address).await?;
    let (io, _) = connect(tcp, &LinkKey::from_seed(&key.seed())?, PATIENCE).await?;
    let (mux, incoming, driver) = mux(io, Side::Gateway, MuxLimits::default());
    let tasks = TaskTracker::new();
    tasks.spawn(driver);
    Ok((mux, incoming, tasks))
}

/// Dials an agent and shows it this link certificate; `Err` inside is its refusal.
///
/// # Errors
/// The agent cannot be reached, or does something else.
pub async fn dial(address: SocketAddr, key: &HostKey, certificate: Vec<u8>) -> Result<Result<Link, Refused>> {
    let hello = GatewayHello {
        version: LINK_VERSION,
        gateway_version: "impostor".into(),
        link_certificate: certificate,
        use_every_s: None,
    };
    dial_with(address, key, hello).await
}

/// The same with any hello.
///
/// # Errors
/// The agent cannot be reached, or does something else.
pub async fn dial_with(address: SocketAddr, key: &HostKey, hello: GatewayHello) -> Result<Result<Link, Refused>> {
    let (mux, incoming, tasks) = streams(address, key).await?;
    let mut control = mux.open().await?;
    write_message(&mut control, &Message::StreamOpen(StreamOpen::Control), PATIENCE).await?;
    write_message(&mut control, &Message::GatewayHello(hello), PATIENCE).await?;
    match read_message(&mut control, PATIENCE).await? {
        Message::AgentHello(hello) => ensure!(hello.host_certificate.is_some(), "the agent is not enrolled"),
        Message::LinkRefused(refused) => {
            // The reason is the last that it says.
            let more = read_message(&mut control, PATIENCE).await;
            ensure!(more.is_err(), "after a refusal it said {more:?}");
            return Ok(Err(refused));
        }
        other => bail!("the agent said {other:?}"),
    }
    write_message(&mut control, &Message::LinkReady(LinkReady {}), PATIENCE).await?;
    Ok(Ok(Link {
        mux,
        control,
        _incoming: incoming,
        _tasks: tasks,
    }))
}

impl Link {
    /// Asks for a session with this certificate; `Err` inside is the agent's refusal.
    ///
    /// # Errors
    /// The link is broken, or the agent does something else.
    pub async fn open(&self, session: Uuid, certificate: Vec<u8>) -> Result<Result<Talk, Refused>> {
        let mut stream = self.mux.open().await?;
        let open = OpenSession {
            session,
            certificate,
            client_address: "192.0.2.1:1".to_owned(),
            client_version: "impostor".to_owned(),
        };
        let open = Message::StreamOpen(StreamOpen::Session(open));
        write_message(&mut stream, &open, PATIENCE).await?;
        match read_message(&mut stream, PATIENCE).await? {
            Message::StreamAnswer(StreamAnswer::Opened(_)) => Ok(Ok(Talk {
                frames: FrameStream::new(stream),
                pings: 0,
            })),
            Message::StreamAnswer(StreamAnswer::Refused(refused)) => {
                let more = read_message(&mut stream, PATIENCE).await;
                ensure!(more.is_err(), "after a refusal it said {more:?}");
                Ok(Err(refused))
            }
            other => bail!("the agent said {other:?}"),
        }
    }
}

/// An open session's stream.
#[derive(Debug)]
pub struct Talk {
    /// Its frames.
    pub frames: FrameStream<MuxStream>,
    pings: u64,
}

impl Talk {
    /// Hears the agent's SSH identification.
    ///
    /// # Errors
    /// It says something else.
    pub async fn identifies(&mut self) -> Result<()> {
        let bytes = self.hear(|frame| match frame {
            Frame::Data { bytes, .. } => Some(bytes),
            _ => None,
        });
        let bytes: Bytes = bytes.await?;
        let said = String::from_utf8_lossy(&bytes);
        ensure!(
            said.starts_with(&format!("{SSH_IDENTIFICATION}\r\n")),
            "the agent's SSH begins with {said:?}"
        );
        Ok(())
    }

    /// Asks for a sign of life and gets it.
    ///
    /// # Errors
    /// None comes.
    pub async fn answers(&mut self) -> Result<()> {
        self.pings += 1;
        let number = self.pings;
        timeout(PATIENCE, self.frames.send(&Frame::Ping(number))).await??;
        self.hear(|frame| (frame == Frame::Pong(number)).then_some(())).await
    }

    /// Says these bytes, whatever they are, and hears until the stream ends.
    ///
    /// # Errors
    /// It does not end.
    pub async fn ends_after(self, said: &[u8]) -> Result<Vec<u8>> {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = self.frames.into_inner();
        stream.write_all(said).await?;
        stream.flush().await?;
        let mut heard = Vec::new();
        // A reset is an end as well.
        let _ = timeout(Duration::from_secs(20), stream.read_to_end(&mut heard))
            .await
            .context("the stream goes on")?;
        Ok(heard)
    }

    async fn hear<T>(&mut self, mut wanted: impl FnMut(Frame) -> Option<T>) -> Result<T> {
        let listen = async {
            loop {
                let frame = self.frames.next().await?.context("the stream has ended")?;
                if let Some(found) = wanted(frame) {
                    return Ok(found);
                }
            }
        };
        timeout(PATIENCE, listen).await.context("the agent is silent")?
    }
}
