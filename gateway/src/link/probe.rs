//! A link on trial: each side shows who it is, then the gateway ends it. Nothing is enrolled, nothing is kept.

use std::time::SystemTime;

use doorward_certs::{CaKeys, HostKey, WorkspaceName, verify_host};
use doorward_wire::LINK_VERSION;
use doorward_wire::link::{LinkKey, Mux, MuxError, MuxLimits, Side, connect, mux, tune};
use doorward_wire::message::{AgentHello, GatewayHello, Message, Refused, StreamOpen};
use tokio::net::TcpStream;

use super::handshake::{CONNECT_WITHIN, HandshakeError, printable, receive, send, unexpected};
use crate::workspace::Life;

/// What a link on trial found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Probe {
    /// The agent is the workspace that is meant, and takes us for its gateway.
    Good {
        /// What it calls its version.
        version: String,
    },
    /// The same, but it has no host certificate yet.
    WouldEnrol,
}

/// Goes as far as to the agent's hello and judges it.
pub(crate) async fn probe(
    name: &WorkspaceName,
    life: &Life,
    key: &HostKey,
    certificate: Vec<u8>,
    host_ca: &CaKeys,
) -> Result<Probe, HandshakeError> {
    let tcp = tokio::time::timeout(CONNECT_WITHIN, TcpStream::connect(&life.address))
        .await
        .map_err(|_| HandshakeError::ConnectDeadline)?
        .map_err(HandshakeError::Connect)?;
    tune(&tcp).map_err(HandshakeError::Connect)?;
    let tls = LinkKey::from_seed(&key.seed()).map_err(HandshakeError::Tls)?;
    let (io, peer) = connect(tcp, &tls, CONNECT_WITHIN).await.map_err(HandshakeError::Tls)?;
    let (mux, _incoming, driver) = mux(io, Side::Gateway, MuxLimits::default());
    let greeted = greet(name, life, &mux, certificate, &peer.0, host_ca);
    tokio::select! {
        greeted = greeted => greeted,
        ended = driver => Err(HandshakeError::Mux(ended.err().unwrap_or(MuxError::Closed))),
    }
}

async fn greet(
    name: &WorkspaceName,
    life: &Life,
    mux: &Mux,
    certificate: Vec<u8>,
    peer: &[u8; 32],
    host_ca: &CaKeys,
) -> Result<Probe, HandshakeError> {
    let mut control = mux.open().await.map_err(HandshakeError::Mux)?;
    send(&mut control, Message::StreamOpen(StreamOpen::Control)).await?;
    let hello = GatewayHello {
        version: LINK_VERSION,
        gateway_version: env!("CARGO_PKG_VERSION").to_owned(),
        link_certificate: certificate,
        use_every_s: None,
    };
    send(&mut control, Message::GatewayHello(hello)).await?;
    let hello = match receive(&mut control).await? {
        Message::AgentHello(hello) => hello,
        Message::LinkRefused(Refused { code, text }) => {
            return Err(HandshakeError::Refused(printable(&code), printable(&text)));
        }
        _ => return Err(unexpected("AgentHello")),
    };
    let judged = judge(name, life, &hello, peer, host_ca);
    let ended = Refused {
        code: "trial".to_owned(),
        text: "the gateway's doctor only looked whether a link would come up".to_owned(),
    };
    // What was found matters more than whether the agent still hears it.
    let _ = send(&mut control, Message::LinkRefused(ended)).await;
    judged
}

fn judge(
    name: &WorkspaceName,
    life: &Life,
    hello: &AgentHello,
    peer: &[u8; 32],
    host_ca: &CaKeys,
) -> Result<Probe, HandshakeError> {
    if hello.version != LINK_VERSION {
        return Err(HandshakeError::Version(hello.version));
    }
    if hello.workspace != name.as_str() || hello.workspace_uid != life.uid.as_str() {
        return Err(HandshakeError::OtherWorkspace(
            printable(&hello.workspace),
            printable(&hello.workspace_uid),
        ));
    }
    let Some(certificate) = &hello.host_certificate else {
        return Ok(Probe::WouldEnrol);
    };
    verify_host(certificate, host_ca, peer, name, &life.uid, SystemTime::now()).map_err(HandshakeError::Certificate)?;
    Ok(Probe::Good {
        version: printable(&hello.agent_version),
    })
}
