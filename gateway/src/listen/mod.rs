//! The door: TCP and TLS for people, and what a connection may take before it has proved who it is.
//!
//! TLS 1.3 only, ALPN `http/1.1` only. One task per connection and one deadline per stage, so that a peer that stalls
//! hurts nobody else. There is no PROXY protocol: the peer's address is the socket's.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::{
    Gateway,
    config::Config,
    http, metrics,
    refusal::{Refusal, RefusalCode},
    stamp,
    tasks::Tasks,
};

pub mod certificate;
mod lobby;

use certificate::{CertificateError, Shown};
pub(crate) use lobby::network;
pub use lobby::{Lobby, Permit};

/// A bound listener with its certificate.
pub(crate) struct Door {
    listener: TcpListener,
    tls: TlsAcceptor,
    lobby: Lobby,
    certificate: Arc<Shown>,
}

impl Door {
    /// Reads the certificate, follows its files, and binds the address.
    pub(crate) async fn bind(config: &Config, tasks: &Tasks) -> Result<Self, DoorError> {
        let (listen, limits) = (&config.listen, &config.limits);
        let (shown, stamp) = Shown::load(&listen.certificate, &listen.key)?;
        let following = Arc::clone(&shown);
        let (files, interval) = (shown.files(), listen.reload_interval);
        let stop = tasks.closing().clone();
        tasks.spawn(async move {
            stamp::follow(files, stamp, interval, stop, move || following.reload()).await;
        });
        let listener = TcpListener::bind(listen.address)
            .await
            .map_err(|error| DoorError::Bind(listen.address, error))?;
        let lobby = Lobby::new(limits.unauthenticated, limits.unauthenticated_per_address);
        Ok(Self {
            listener,
            tls: TlsAcceptor::from(Arc::new(tls(Arc::clone(&shown)))),
            lobby,
            certificate: shown,
        })
    }

    /// The certificate that people see.
    pub(crate) fn certificate(&self) -> Arc<Shown> {
        Arc::clone(&self.certificate)
    }

    /// The address that was bound.
    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Takes connections until the gateway stops.
    pub(crate) async fn serve(self, gateway: Arc<Gateway>) {
        let mut pause = SHORTEST_PAUSE;
        loop {
            let accepted = tokio::select! {
                biased;
                () = gateway.tasks.stopping().cancelled() => return,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((tcp, peer)) => {
                    pause = SHORTEST_PAUSE;
                    let (permit, leave) = self.lobby.enter(peer.ip());
                    let connection = Connection {
                        tcp,
                        peer,
                        permit,
                        leave,
                        tls: self.tls.clone(),
                    };
                    gateway.tasks.spawn_session(connection.run(Arc::clone(&gateway)));
                }
                Err(error) if of_the_peer(&error) => {}
                Err(error) => {
                    // Out of file descriptors or memory: whoever idles before the door gives way, and we pause.
                    tracing::warn!("cannot take a connection, pausing {pause:?}: {error}");
                    metrics::accept_failed();
                    self.lobby.shrink();
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }
}

/// Why the door cannot open.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// The certificate cannot be used.
    #[error("the certificate {} {_0}", _0.file().display())]
    Certificate(#[from] CertificateError),
    /// The address cannot be bound.
    #[error("cannot listen on {0}: {1}")]
    Bind(SocketAddr, #[source] io::Error),
}

/// One connection, from its first byte to its end.
struct Connection {
    tcp: TcpStream,
    peer: SocketAddr,
    permit: Permit,
    leave: CancellationToken,
    tls: TlsAcceptor,
}

impl Connection {
    async fn run(self, gateway: Arc<Gateway>) {
        let Self {
            tcp,
            peer,
            permit,
            leave,
            tls,
        } = self;
        let ending = gateway.tasks.ending().clone();
        let serve = async {
            if let Err(error) = prepare(&tcp) {
                tracing::debug!(%peer, "cannot prepare the socket: {error}");
                return;
            }
            let handshake = async {
                // Whoever leaves without a word is a balancer that looks whether we are there.
                match tcp.peek(&mut [0]).await {
                    Ok(1..) => tls.accept(tcp).await.map(Some),
                    _ => Ok(None),
                }
            };
            match tokio::time::timeout(gateway.config.limits.tls_handshake, handshake).await {
                Ok(Ok(Some(stream))) => http::serve(Arc::clone(&gateway), stream, peer, permit).await,
                Ok(Ok(None)) => {}
                Ok(Err(error)) => gateway.turn_away(&no_handshake("refused", error.to_string()), "", peer),
                Err(_) => gateway.turn_away(&no_handshake("timeout", "it took too long".to_owned()), "", peer),
            }
        };
        tokio::select! {
            () = serve => {}
            () = leave.cancelled() => tracing::debug!(%peer, "gave way to a newer connection"),
            () = ending.cancelled() => {}
        }
    }
}

fn no_handshake(reason: &'static str, detail: String) -> Refusal {
    metrics::handshake_failed(reason);
    Refusal::new(RefusalCode::TlsHandshake, "there was no TLS handshake").with_detail(detail)
}

/// What the socket needs before its first byte.
fn prepare(tcp: &TcpStream) -> io::Result<()> {
    doorward_wire::link::tune(tcp)?;
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(Duration::from_secs(30))
        .with_interval(Duration::from_secs(10))
        .with_retries(3);
    socket2::SockRef::from(tcp).set_tcp_keepalive(&keepalive)
}

/// TLS 1.3, HTTP/1.1, our order of suites (the provider's: AES-GCM first). No tickets: each tunnel is a new process on
/// the laptop, which has nothing to resume with.
fn tls(shown: Arc<Shown>) -> ServerConfig {
    let mut config = ServerConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
        .with_no_client_auth()
        .with_cert_resolver(shown);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.ignore_client_order = true;
    config.send_tls13_tickets = 0;
    config
}

/// Errors of accept(2) that say something of one peer and nothing of us.
fn of_the_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

const SHORTEST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
