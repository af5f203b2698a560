//! An SSH client whose every message the test chooses.

use std::sync::Arc;
use std::time::Duration;

use russh::client::{self, Handle};
use russh::keys::PublicKeyOrCertificate;
use russh::{Channel, ChannelMsg};
use tokio::io::DuplexStream;

pub struct Trusting;

impl client::Handler for Trusting {
    type Error = russh::Error;

    async fn check_server_key(&mut self, _: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        Ok(true)
    }
}

pub type Client = Handle<Trusting>;

pub async fn connect(stream: DuplexStream) -> Client {
    let config = Arc::new(client::Config {
        inactivity_timeout: None,
        ..client::Config::default()
    });
    client::connect_stream(config, stream, Trusting).await.unwrap()
}

/// Logged in, and asking for new keys after so many bytes in either direction.
pub async fn changing_keys(stream: DuplexStream, bytes: usize) -> Client {
    let config = Arc::new(client::Config {
        inactivity_timeout: None,
        limits: russh::Limits::new(bytes, bytes, Duration::from_secs(3600)),
        ..client::Config::default()
    });
    let mut client = client::connect_stream(config, stream, Trusting).await.unwrap();
    let answer = client.authenticate_none(super::my_login().as_str()).await.unwrap();
    assert!(answer.success());
    client
}

/// Connected and logged in by `none`.
pub async fn logged_in(stream: DuplexStream) -> Client {
    let mut client = connect(stream).await;
    let answer = client.authenticate_none(super::my_login().as_str()).await.unwrap();
    assert!(answer.success());
    client
}

/// What a channel said until it closed.
#[derive(Debug, Default)]
pub struct Heard {
    pub out: Vec<u8>,
    pub err: Vec<u8>,
    pub status: Option<u32>,
    pub signal: Option<String>,
    pub eof: bool,
    /// The order of what is not data.
    pub order: Vec<&'static str>,
}

/// Listens until the channel closes.
pub async fn rest(channel: &mut Channel<client::Msg>) -> Heard {
    until(channel, |_| false).await
}

/// Listens until this holds, or the channel closes.
pub async fn until(channel: &mut Channel<client::Msg>, done: impl Fn(&Heard) -> bool) -> Heard {
    let mut heard = Heard::default();
    let listen = async {
        while !done(&heard) {
            match channel.wait().await {
                Some(ChannelMsg::Data { data }) => heard.out.extend_from_slice(&data),
                Some(ChannelMsg::ExtendedData { data, ext: 1 }) => heard.err.extend_from_slice(&data),
                Some(ChannelMsg::ExitStatus { exit_status }) => {
                    heard.status = Some(exit_status);
                    heard.order.push("status");
                }
                Some(ChannelMsg::ExitSignal { signal_name, .. }) => {
                    heard.signal = Some(format!("{signal_name:?}"));
                    heard.order.push("signal");
                }
                Some(ChannelMsg::Eof) => {
                    heard.eof = true;
                    heard.order.push("eof");
                }
                Some(ChannelMsg::Success) => heard.order.push("success"),
                Some(ChannelMsg::Failure) => heard.order.push("failure"),
                Some(_) => {}
                None => break,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), listen)
        .await
        .expect("the channel says nothing more");
    heard
}

/// Whether `text` stands in what was heard.
pub fn says(heard: &Heard, text: &str) -> bool {
    String::from_utf8_lossy(&heard.out).contains(text)
}

/// Leaves as a client does that closes its connection.
pub async fn leave<H: client::Handler>(client: Handle<H>) {
    client
        .disconnect(russh::Disconnect::ByApplication, "", "")
        .await
        .unwrap();
}
