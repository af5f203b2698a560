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
use russh::{Limits, Preferred, SshId, cipher, compression, kex};
use ssh_key::Certificate;

use crate::config::Rekey;

pub(crate) use admission::{NOT_GRANTED, Why};
pub(crate) use handler::Handler;
pub(crate) use unhurried::Unhurried;
pub(crate) use window::{Inflow, Level};

/// The server's configuration for a host key and its certificate.
pub(crate) fn config(key: &HostKey, certificate: Option<Certificate>, rekey: Rekey) -> Config {
    Config {
        server_id: SshId::Standard(Cow::Borrowed(SSH_IDENTIFICATION)),
        auth_rejection_time: Duration::ZERO,
        auth_rejection_time_initial: Some(Duration::ZERO),
        keys: vec![key.private_key().clone()],
        certificates: certificate.into_iter().collect(),
        window_size: Inflow::WINDOW,
        maximum_packet_size: PACKET,
        channel_buffer_size: 32,
        limits: Limits {
            rekey_write_limit: rekey.bytes,
            rekey_read_limit: rekey.bytes,
            rekey_time_limit: rekey.time,
        },
        preferred: Preferred {
            kex: Cow::Borrowed(KEY_EXCHANGES),
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

/// Against a quantum computer first, where the client has it; the fixed groups are for clients that have no curve. No
/// group exchange: the client would choose how much work that is. The last two are no key exchanges: extensions
/// (RFC 8308) and the strict order of packets that Terrapin's attack needs to be absent (CVE-2023-48795).
const KEY_EXCHANGES: &[kex::Name] = &[
    kex::MLKEM768X25519_SHA256,
    kex::CURVE25519,
    kex::CURVE25519_PRE_RFC_8731,
    kex::DH_G16_SHA512,
    kex::DH_G18_SHA512,
    kex::DH_G14_SHA256,
    kex::EXTENSION_SUPPORT_AS_SERVER,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER,
];
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
