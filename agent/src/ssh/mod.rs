//! The SSH server of one authorised stream: its algorithms, its callbacks, and what they may decide.
//!
//! The stream is the credential: whoever speaks on it was judged before a byte of SSH was read. So any method of
//! authentication is accepted at once, for the granted login and no other.

mod admission;
mod handler;
mod unhurried;
mod window;

use std::borrow::Cow;
use std::time::Duration;

use doorward_certs::HostKey;
use doorward_wire::SSH_IDENTIFICATION;
use russh::server::Config;
use russh::{Preferred, SshId, cipher, compression};
use ssh_key::Certificate;

pub(crate) use handler::Handler;
pub(crate) use unhurried::Unhurried;
pub(crate) use window::{Inflow, Level};

/// The server's configuration for a host key and its certificate.
pub(crate) fn config(key: &HostKey, certificate: Option<Certificate>) -> Config {
    Config {
        server_id: SshId::Standard(Cow::Borrowed(SSH_IDENTIFICATION)),
        auth_rejection_time: Duration::ZERO,
        auth_rejection_time_initial: Some(Duration::ZERO),
        keys: vec![key.private_key().clone()],
        certificates: certificate.into_iter().collect(),
        window_size: Inflow::WINDOW,
        maximum_packet_size: PACKET,
        channel_buffer_size: 32,
        preferred: Preferred {
            cipher: Cow::Borrowed(CIPHERS),
            compression: Cow::Borrowed(&[compression::NONE]),
            ..Preferred::default()
        },
        // A quiet shell lives on; who never logs in is stopped by the session's own deadline.
        inactivity_timeout: None,
        keepalive_interval: None,
        ..Config::default()
    }
}

/// Fastest first, where the client leaves the choice.
const CIPHERS: &[cipher::Name] = &[
    cipher::AES_128_GCM,
    cipher::AES_256_GCM,
    cipher::CHACHA20_POLY1305,
    cipher::AES_256_CTR,
    cipher::AES_192_CTR,
    cipher::AES_128_CTR,
];
/// The largest packet that a client may send, in bytes.
const PACKET: u32 = 32 * 1024;
