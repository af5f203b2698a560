//! A client that lends what the workspace may listen for, and takes what comes in.

use std::sync::Arc;
use std::time::Duration;

use russh::client::{self, ChannelOpenHandle, Handle, Msg, Session};
use russh::keys::PublicKeyOrCertificate;
use russh::{Channel, ChannelMsg, ChannelOpenFailure};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

/// An address for which the client wants no connections.
pub const REJECTED: &str = "127.0.0.9";

/// A client that answers whatever comes in: `kind asked: ` and what was said, upside down. What comes for the address
/// `127.0.0.9` it does not take.
pub struct Echoing;

impl client::Handler for Echoing {
    type Error = russh::Error;

    async fn check_server_key(&mut self, _: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        Ok(true)
    }

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        channel: Channel<Msg>,
        address: &str,
        port: u32,
        from: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        assert!(from.parse::<std::net::IpAddr>().unwrap().is_loopback());
        if address == REJECTED {
            reply.reject(ChannelOpenFailure::ConnectFailed).await;
            return Ok(());
        }
        reply.accept().await;
        tokio::task::spawn(answer(channel, format!("{address}:{port}")));
        Ok(())
    }

    async fn server_channel_open_forwarded_streamlocal(
        &mut self,
        channel: Channel<Msg>,
        path: &str,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        reply.accept().await;
        tokio::task::spawn(answer(channel, path.to_owned()));
        Ok(())
    }

    async fn server_channel_open_agent_forward(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        reply.accept().await;
        tokio::task::spawn(answer(channel, "agent".to_owned()));
        Ok(())
    }

    async fn server_channel_open_x11(
        &mut self,
        channel: Channel<Msg>,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        reply.accept().await;
        tokio::task::spawn(answer(channel, "x11".to_owned()));
        Ok(())
    }
}

async fn answer(mut channel: Channel<Msg>, what: String) {
    let mut said = Vec::new();
    loop {
        match channel.wait().await {
            Some(ChannelMsg::Data { data }) => said.extend_from_slice(&data),
            Some(ChannelMsg::Eof) | None => break,
            Some(_) => {}
        }
    }
    said.reverse();
    let _ = channel
        .data_bytes([format!("{what}: ").into_bytes(), said].concat())
        .await;
    let _ = channel.eof().await;
    let _ = channel.close().await;
}

/// Connected and logged in by `none`.
pub async fn logged_in(stream: DuplexStream, login: &str) -> Handle<Echoing> {
    let config = Arc::new(client::Config {
        inactivity_timeout: None,
        ..client::Config::default()
    });
    let mut client = client::connect_stream(config, stream, Echoing).await.unwrap();
    let answer = client.authenticate_none(login).await.unwrap();
    assert!(answer.success());
    client
}

/// Says something into a connection and gives what comes back.
pub async fn said<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(mut stream: S, text: &str) -> String {
    let talk = async {
        stream.write_all(text.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut back = String::new();
        stream.read_to_string(&mut back).await.unwrap();
        back
    };
    tokio::time::timeout(WITHIN, talk).await.expect("nobody answers")
}

const WITHIN: Duration = Duration::from_secs(20);
