//! An sftp client whose every packet the test chooses.

use std::time::Duration;

use russh::{Channel, ChannelMsg, client::Msg};

use super::client::Client;

/// A channel with the subsystem.
pub struct Files {
    pub channel: Channel<Msg>,
    buffer: Vec<u8>,
    pub status: Option<u32>,
    pub errors: Vec<u8>,
}

/// A packet's fields.
#[derive(Default)]
pub struct Fields(pub Vec<u8>);

impl Fields {
    pub fn int(mut self, value: u32) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub fn long(mut self, value: u64) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub fn string(self, value: impl AsRef<[u8]>) -> Self {
        let length = u32::try_from(value.as_ref().len()).unwrap();
        let mut with = self.int(length);
        with.0.extend_from_slice(value.as_ref());
        with
    }
}

/// A whole packet.
pub fn packet(kind: u8, id: u32, fields: Fields) -> Vec<u8> {
    let length = u32::try_from(fields.0.len() + 5).unwrap();
    let mut packet = length.to_be_bytes().to_vec();
    packet.push(kind);
    packet.extend_from_slice(&id.to_be_bytes());
    packet.extend_from_slice(&fields.0);
    packet
}

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    pub kind: u8,
    pub id: u32,
    pub body: Vec<u8>,
}

impl Answer {
    /// The code of a status.
    pub fn code(&self) -> u32 {
        assert_eq!(self.kind, 101, "{self:?}");
        u32::from_be_bytes(self.body[..4].try_into().unwrap())
    }

    /// The first string: a handle or data.
    pub fn string(&self) -> &[u8] {
        assert!(self.kind == 102 || self.kind == 103, "{self:?}");
        let length = u32::from_be_bytes(self.body[..4].try_into().unwrap());
        &self.body[4..4 + length as usize]
    }
}

impl Files {
    /// Opens the subsystem and greets.
    pub async fn open(client: &Client) -> Self {
        let mut files = Self::silent(client).await;
        files.send(&[0, 0, 0, 5, 1, 0, 0, 0, 3]).await;
        let version = files.answer().await;
        assert_eq!((version.kind, version.id), (2, 3));
        files
    }

    /// Opens the subsystem.
    pub async fn silent(client: &Client) -> Self {
        let channel = client.channel_open_session().await.unwrap();
        channel.request_subsystem(true, "sftp").await.unwrap();
        Self {
            channel,
            buffer: Vec::new(),
            status: None,
            errors: Vec::new(),
        }
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        self.channel.data_bytes(bytes.to_vec()).await.unwrap();
    }

    pub async fn ask(&mut self, kind: u8, fields: Fields) -> Answer {
        self.send(&packet(kind, 77, fields)).await;
        let answer = self.answer().await;
        assert_eq!(answer.id, 77);
        answer
    }

    /// A handle for a file.
    pub async fn open_file(&mut self, path: impl AsRef<[u8]>, flags: u32) -> Answer {
        self.ask(3, Fields::default().string(path).int(flags).int(0)).await
    }

    /// The next answer.
    pub async fn answer(&mut self) -> Answer {
        self.next().await.expect("the channel ended before its answer")
    }

    /// The next answer; nothing once the channel has ended.
    pub async fn next(&mut self) -> Option<Answer> {
        loop {
            if let Some(length) = self.buffer.first_chunk::<4>() {
                let length = u32::from_be_bytes(*length) as usize;
                if self.buffer.len() >= 4 + length {
                    let packet: Vec<u8> = self.buffer.drain(..4 + length).collect();
                    return Some(Answer {
                        kind: packet[4],
                        id: u32::from_be_bytes(packet[5..9].try_into().unwrap()),
                        body: packet[9..].to_vec(),
                    });
                }
            }
            let heard = tokio::time::timeout(Duration::from_secs(60), self.channel.wait()).await;
            match heard.expect("the channel says nothing") {
                Some(ChannelMsg::Data { data }) => self.buffer.extend_from_slice(&data),
                Some(ChannelMsg::ExtendedData { data, .. }) => self.errors.extend_from_slice(&data),
                Some(ChannelMsg::ExitStatus { exit_status }) => self.status = Some(exit_status),
                Some(ChannelMsg::Failure) => panic!("the subsystem is refused"),
                Some(_) => {}
                None => return None,
            }
        }
    }
}
