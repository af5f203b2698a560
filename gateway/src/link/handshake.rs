//! A new link, from the first TCP packet to `LinkReady`: each side knows the other, or it ends.
//!
//! TLS proves keys. The gateway shows its link certificate first; the agent, once satisfied, shows
//! the host certificate over the key that it proved, or a join token or its pod's token to get one. A gateway that may not have
//! host certificates signed refuses the latter.

use std::pin::Pin;
use std::time::{Duration, SystemTime};

use doorward_audit::Enrolled as EnrolledEvent;
use doorward_certs::{HostRequest, Refusal as CertRefusal, verify_host, wildcard_name};
use doorward_wire::LINK_VERSION;
use doorward_wire::link::{
    LinkError, Mux, MuxError, MuxIncoming, MuxLimits, MuxStream, Side, connect, mux, read_message, tune, write_message,
};
use doorward_wire::message::{
    AgentHello, Enrolled, GatewayHello, LinkReady, Message, MessageError, Refused, StreamOpen,
};
use ssh_key::PublicKey;
use ssh_key::public::{Ed25519PublicKey, KeyData};
use tokio::net::TcpStream;

use super::Target;
use super::standing::Standing;
use crate::enrol::EnrolError;
use crate::refusal::chain;
use crate::usage::REPORT_EVERY;
use crate::workspace::Enrolment;

type Driver = Pin<Box<dyn Future<Output = Result<(), MuxError>> + Send>>;

/// A link that may be used.
pub(super) struct Established {
    pub(super) mux: Mux,
    pub(super) key: PublicKey,
    pub(super) agent_version: String,
    pub(super) control: MuxStream,
    pub(super) incoming: MuxIncoming,
    pub(super) driver: Driver,
    /// The host certificate that the agent has now.
    pub(super) certificate: Vec<u8>,
}

/// Why a link was not made.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The agent's port.
    #[error("cannot connect")]
    Connect(#[source] std::io::Error),
    /// It did not answer the connection.
    #[error("no connection within {CONNECT_WITHIN:?}")]
    ConnectDeadline,
    /// TLS.
    #[error("no secure link")]
    Tls(#[source] LinkError),
    /// The streams on it.
    #[error("the link broke")]
    Mux(#[source] MuxError),
    /// The messages on it.
    #[error("the agent's answer cannot be used")]
    Message(#[source] MessageError),
    /// The agent does not trust us.
    #[error("the agent refused the link: {0}: {1}")]
    Refused(String, String),
    /// The agent speaks another version.
    #[error("the agent speaks version {0} of the link, this gateway version {LINK_VERSION}")]
    Version(u16),
    /// Somebody else answered at this address.
    #[error("another workspace answered: {0:?}, uid {1:?}")]
    OtherWorkspace(String, String),
    /// Its host certificate is not good.
    #[error("the agent's host certificate is refused")]
    Certificate(#[source] CertRefusal),
    /// It asks to be enrolled and may not.
    #[error("the agent may not enrol")]
    Enrol(#[source] EnrolError),
    /// The gateway itself has no link certificate yet.
    #[error("the gateway has nothing to show: {0}")]
    NoCredential(String),
    /// The host CA's keys cannot be had.
    #[error("the host authority cannot be asked")]
    Authority(#[source] doorward_certs::AuthorityError),
}

impl HandshakeError {
    /// A word from a closed set.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Connect(_) | Self::ConnectDeadline => "link-connect",
            Self::Tls(_) => "link-tls",
            Self::Mux(_) => "link-mux",
            Self::Message(_) => "link-message",
            Self::Refused(..) => "link-refused",
            Self::Version(_) => "link-version",
            Self::OtherWorkspace(..) => "link-other-workspace",
            Self::Certificate(_) => "link-certificate",
            Self::Enrol(error) => error.code(),
            Self::Authority(_) => "link-authority",
            Self::NoCredential(_) => "link-credential",
        }
    }

    /// The error with its causes, for the operator.
    pub(crate) fn chain(&self) -> String {
        chain(self)
    }
}

/// Makes a link to the target.
pub(super) async fn establish(standing: &Standing) -> Result<Established, HandshakeError> {
    let credential = &standing.shared.credential;
    let Some(own) = credential.certificate() else {
        return Err(HandshakeError::NoCredential(
            credential.ready().err().unwrap_or_default(),
        ));
    };
    let tcp = tokio::time::timeout(CONNECT_WITHIN, TcpStream::connect(&standing.target.life.address))
        .await
        .map_err(|_| HandshakeError::ConnectDeadline)?
        .map_err(HandshakeError::Connect)?;
    tune(&tcp).map_err(HandshakeError::Connect)?;
    let (io, peer) = connect(tcp, credential.tls_key(), CONNECT_WITHIN)
        .await
        .map_err(HandshakeError::Tls)?;
    let key = PublicKey::from(KeyData::Ed25519(Ed25519PublicKey(peer.0)));
    let (mux, incoming, driver) = mux(io, Side::Gateway, MuxLimits::default());
    let mut driver: Driver = Box::pin(driver);
    let mut hello = Box::pin(greet(standing, &mux, own, &peer.0, &key));
    let greeted = tokio::select! {
        greeted = &mut hello => greeted,
        ended = &mut driver => {
            // What came with the end is read after it: an agent that refuses says why, and closes in the same breath.
            return match tokio::time::timeout(REFUSED_WITHIN, hello).await {
                Ok(Err(refused @ HandshakeError::Refused(..))) => Err(refused),
                _ => Err(HandshakeError::Mux(ended.err().unwrap_or(MuxError::Closed))),
            };
        }
    };
    drop(hello);
    let (control, hello, certificate) = match greeted {
        Ok(greeted) => greeted,
        Err(error) => {
            // The agent says in its own log why it is refused: that has to go out before the end does.
            mux.close();
            let _ = tokio::time::timeout(REFUSED_WITHIN, driver).await;
            return Err(error);
        }
    };
    let agent_version = printable(&hello.agent_version);
    Ok(Established {
        mux,
        key,
        agent_version,
        control,
        incoming,
        driver,
        certificate,
    })
}

async fn greet(
    standing: &Standing,
    mux: &Mux,
    own: Vec<u8>,
    tls_key: &[u8; 32],
    key: &PublicKey,
) -> Result<(MuxStream, AgentHello, Vec<u8>), HandshakeError> {
    let mut control = mux.open().await.map_err(HandshakeError::Mux)?;
    send(&mut control, Message::StreamOpen(StreamOpen::Control)).await?;
    let hello = GatewayHello {
        version: LINK_VERSION,
        gateway_version: env!("CARGO_PKG_VERSION").to_owned(),
        link_certificate: own,
        use_every_s: u32::try_from(REPORT_EVERY.as_secs()).ok(),
    };
    send(&mut control, Message::GatewayHello(hello)).await?;
    let hello = match receive(&mut control).await? {
        Message::AgentHello(hello) => hello,
        Message::LinkRefused(Refused { code, text }) => {
            return Err(HandshakeError::Refused(printable(&code), printable(&text)));
        }
        _ => return Err(unexpected("AgentHello")),
    };
    match admit(standing, &hello, tls_key, key, &mut control).await {
        Ok(certificate) => {
            send(&mut control, Message::LinkReady(LinkReady {})).await?;
            Ok((control, hello, certificate))
        }
        Err(error) => {
            let refused = Refused {
                code: error.code().to_owned(),
                text: error.chain(),
            };
            // The refusal matters more than whether the agent still hears it.
            let _ = send(&mut control, Message::LinkRefused(refused)).await;
            Err(error)
        }
    }
}

/// Judges the agent's hello; gives out a certificate where one is due.
async fn admit(
    standing: &Standing,
    hello: &AgentHello,
    tls_key: &[u8; 32],
    key: &PublicKey,
    control: &mut MuxStream,
) -> Result<Vec<u8>, HandshakeError> {
    let target = &standing.target;
    if hello.version != LINK_VERSION {
        return Err(HandshakeError::Version(hello.version));
    }
    if hello.workspace != target.name.as_str() || hello.workspace_uid != target.life.uid.as_str() {
        return Err(HandshakeError::OtherWorkspace(
            printable(&hello.workspace),
            printable(&hello.workspace_uid),
        ));
    }
    let refused = match &hello.host_certificate {
        Some(certificate) => match judge(standing, certificate, tls_key).await {
            Ok(left) if left > life_of(target) / 2 => return Ok(certificate.clone()),
            // A pod asks for its next one itself: here with its token, or at Vault.
            Ok(_) if is_pod(target) || !signs_hosts(standing) => return Ok(certificate.clone()),
            Ok(_) => return Ok(refresh(standing, key, certificate, control).await),
            Err(error) => Some(error),
        },
        None => None,
    };
    match (&hello.enrol, refused) {
        // Before a token is used up or sent on to be reviewed.
        (Some(_), _) if !signs_hosts(standing) => Err(HandshakeError::Enrol(EnrolError::NotHere)),
        (Some(enrol), _) => {
            standing
                .shared
                .enrolments
                .judge(target, enrol, tls_key)
                .await
                .map_err(HandshakeError::Enrol)?;
            let fresh = sign(standing, key).await?;
            give(control, &fresh).await?;
            Ok(fresh)
        }
        (None, Some(error)) => Err(error),
        (None, None) => Err(HandshakeError::Enrol(EnrolError::NoProof)),
    }
}

/// How long a host certificate is still good, if it is.
pub(super) async fn judge(
    standing: &Standing,
    certificate: &[u8],
    tls_key: &[u8; 32],
) -> Result<Duration, HandshakeError> {
    let trusted = tokio::time::timeout(MESSAGE_WITHIN, standing.shared.authority.host_ca())
        .await
        .map_err(|_| HandshakeError::Enrol(EnrolError::AuthorityDeadline))?
        .map_err(HandshakeError::Authority)?;
    let now = SystemTime::now();
    let target = &standing.target;
    let verified = verify_host(certificate, &trusted, tls_key, &target.name, &target.life.uid, now)
        .map_err(HandshakeError::Certificate)?;
    Ok(verified.valid_before().duration_since(now).unwrap_or_default())
}

/// Gives a fresh certificate to an agent whose own is past half its life. If that fails the old
/// one still stands.
async fn refresh(standing: &Standing, key: &PublicKey, old: &[u8], control: &mut MuxStream) -> Vec<u8> {
    let given = async {
        let fresh = sign(standing, key).await?;
        give(control, &fresh).await?;
        Ok::<_, HandshakeError>(fresh)
    };
    given.await.unwrap_or_else(|error| {
        let workspace = standing.target.name.as_str();
        tracing::warn!(workspace, error = error.chain(), "host certificate not renewed");
        old.to_vec()
    })
}

/// Whether it is a pod, which shows its token for each certificate.
pub(super) fn is_pod(target: &Target) -> bool {
    matches!(target.life.enrolment, Enrolment::ServiceAccount { .. })
}

/// Whether this gateway may have host certificates signed.
pub(super) fn signs_hosts(standing: &Standing) -> bool {
    standing.shared.authority.signs_hosts()
}

/// How long a host certificate of this workspace is good.
fn life_of(target: &Target) -> Duration {
    match is_pod(target) {
        true => POD_LIFE,
        false => HOST_LIFE,
    }
}

/// Has the host authority sign for this workspace and this key.
pub(super) async fn sign(standing: &Standing, key: &PublicKey) -> Result<Vec<u8>, HandshakeError> {
    let target = &standing.target;
    let request = HostRequest {
        subject: key.clone(),
        workspace: target.name.clone(),
        workspace_uid: target.life.uid.clone(),
        names: vec![wildcard_name(&target.name)],
        valid_for: life_of(target),
    };
    let signing = standing.shared.authority.sign_host(&request, SystemTime::now());
    let signed = tokio::time::timeout(SIGN_WITHIN, signing)
        .await
        .map_err(|_| HandshakeError::Enrol(EnrolError::AuthorityDeadline))?
        .map_err(HandshakeError::Authority)?;
    standing.shared.journal.append(EnrolledEvent {
        workspace: target.name.to_string(),
        uid: target.life.uid.to_string(),
    });
    Ok(signed.blob().to_vec())
}

async fn give(control: &mut MuxStream, certificate: &[u8]) -> Result<(), HandshakeError> {
    send(
        control,
        Message::Enrolled(Enrolled {
            host_certificate: certificate.to_vec(),
        }),
    )
    .await
}

pub(super) async fn send(control: &mut MuxStream, message: Message) -> Result<(), HandshakeError> {
    write_message(control, &message, MESSAGE_WITHIN)
        .await
        .map_err(HandshakeError::Message)
}

pub(super) async fn receive(control: &mut MuxStream) -> Result<Message, HandshakeError> {
    read_message(control, MESSAGE_WITHIN)
        .await
        .map_err(HandshakeError::Message)
}

pub(super) fn unexpected(expected: &'static str) -> HandshakeError {
    HandshakeError::Message(MessageError::Unexpected { expected })
}

/// What a peer calls itself, fit for logs: bounded, without control characters.
pub(super) fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

/// How long a refusal has to be taken, by either side.
const REFUSED_WITHIN: Duration = Duration::from_secs(1);
pub(super) const CONNECT_WITHIN: Duration = Duration::from_secs(3);
const MESSAGE_WITHIN: Duration = Duration::from_secs(5);
const SIGN_WITHIN: Duration = Duration::from_secs(10);
/// The life of a host certificate; it is renewed at half of it.
pub(crate) const HOST_LIFE: Duration = Duration::from_secs(30 * 24 * 3600);
/// The same for a pod: one that is gone can soon not be played by whoever has its key.
pub(crate) const POD_LIFE: Duration = Duration::from_secs(24 * 3600);
