//! An SSH transport made by hand (RFC 4253, curve25519 and AES-GCM), for packets that no client sends.

use std::time::Duration;

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{PrivateKey, UnparsedPublicKey, X25519, agree};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tokio::time::timeout;

pub const DISCONNECT: u8 = 1;
pub const IGNORE: u8 = 2;
pub const UNIMPLEMENTED: u8 = 3;
pub const SERVICE_REQUEST: u8 = 5;
pub const KEXINIT: u8 = 20;
pub const NEWKEYS: u8 = 21;
pub const ECDH_INIT: u8 = 30;
pub const ECDH_REPLY: u8 = 31;
pub const AUTH_REQUEST: u8 = 50;
pub const AUTH_FAILURE: u8 = 51;
pub const AUTH_SUCCESS: u8 = 52;
pub const PK_OK: u8 = 60;
pub const GLOBAL_REQUEST: u8 = 80;
pub const REQUEST_SUCCESS: u8 = 81;
pub const REQUEST_FAILURE: u8 = 82;
pub const OPEN: u8 = 90;
pub const OPEN_CONFIRMATION: u8 = 91;
pub const OPEN_FAILURE: u8 = 92;
pub const WINDOW_ADJUST: u8 = 93;
pub const DATA: u8 = 94;
pub const EXTENDED_DATA: u8 = 95;
pub const EOF: u8 = 96;
pub const CLOSE: u8 = 97;
pub const REQUEST: u8 = 98;
pub const CHANNEL_SUCCESS: u8 = 99;
pub const CHANNEL_FAILURE: u8 = 100;

const WITHIN: Duration = Duration::from_secs(30);
pub const WINDOW: u32 = 1 << 21;

/// A packet's contents, built field by field.
#[derive(Debug, Clone)]
pub struct Message(pub Vec<u8>);

impl Message {
    pub fn new(number: u8) -> Self {
        Self(vec![number])
    }

    pub fn u32(mut self, value: u32) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub fn byte(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    pub fn string(mut self, value: impl AsRef<[u8]>) -> Self {
        let value = value.as_ref();
        self.0
            .extend_from_slice(&u32::try_from(value.len()).unwrap().to_be_bytes());
        self.0.extend_from_slice(value);
        self
    }

    /// `CHANNEL_OPEN` of a session, with our number for it.
    pub fn open(number: u32) -> Self {
        Self::new(OPEN).string("session").u32(number).u32(WINDOW).u32(32 * 1024)
    }

    /// `CHANNEL_REQUEST` that wants an answer.
    pub fn request(channel: u32, kind: &str) -> Self {
        Self::new(REQUEST).u32(channel).string(kind).byte(1)
    }

    pub fn exec(channel: u32, line: impl AsRef<[u8]>) -> Self {
        Self::request(channel, "exec").string(line)
    }

    pub fn none(user: &str) -> Self {
        Self::new(AUTH_REQUEST)
            .string(user)
            .string("ssh-connection")
            .string("none")
    }
}

/// The receiving half.
pub struct Receiver {
    stream: ReadHalf<DuplexStream>,
    key: Option<Key>,
    /// Bytes of output in all channels so far.
    pub data: u64,
}

/// The sending half.
pub struct Sender {
    stream: WriteHalf<DuplexStream>,
    key: Option<Key>,
}

/// A connection.
pub struct Packets {
    pub receiver: Receiver,
    pub sender: Sender,
    ours: Vec<u8>,
    theirs: Vec<u8>,
    session: Option<Vec<u8>>,
}

struct Key {
    key: LessSafeKey,
    nonce: [u8; 12],
}

impl Key {
    fn next(&mut self) -> Nonce {
        let nonce = Nonce::assume_unique_for_key(self.nonce);
        let count = u64::from_be_bytes(self.nonce[4..].try_into().unwrap()).wrapping_add(1);
        self.nonce[4..].copy_from_slice(&count.to_be_bytes());
        nonce
    }
}

impl Sender {
    pub async fn raw(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let writing = self.stream.write_all(bytes);
        timeout(WITHIN, writing).await.expect("the agent takes nothing")
    }

    /// Sends one packet; fails once the connection is gone.
    pub async fn send(&mut self, message: impl AsRef<[u8]>) -> std::io::Result<()> {
        let packet = self.packet(message.as_ref());
        self.raw(&packet).await
    }

    /// Many packets in one write.
    pub async fn send_all(&mut self, messages: impl IntoIterator<Item = Message>) -> std::io::Result<()> {
        let packets: Vec<u8> = messages
            .into_iter()
            .flat_map(|message| self.packet(&message.0))
            .collect();
        self.raw(&packets).await
    }

    /// Makes a packet, which counts as sent.
    pub fn packet(&mut self, message: &[u8]) -> Vec<u8> {
        let (block, outside) = match self.key {
            Some(_) => (16, 0),
            None => (8, 4),
        };
        let mut padding = block - (outside + 1 + message.len()) % block;
        if padding < 4 {
            padding += block;
        }
        let length = u32::try_from(1 + message.len() + padding).unwrap().to_be_bytes();
        let mut body = vec![u8::try_from(padding).unwrap()];
        body.extend_from_slice(message);
        body.resize(body.len() + padding, 0);
        if let Some(key) = &mut self.key {
            let nonce = key.next();
            key.key
                .seal_in_place_append_tag(nonce, Aad::from(length), &mut body)
                .unwrap();
        }
        [&length[..], &body].concat()
    }

    pub async fn close(&mut self) {
        let _ = self.stream.shutdown().await;
    }
}

impl AsRef<[u8]> for Message {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Receiver {
    /// The next packet; `None` once the connection has ended.
    pub async fn receive(&mut self) -> Option<Vec<u8>> {
        timeout(WITHIN, self.next()).await.expect("the agent says nothing")
    }

    async fn next(&mut self) -> Option<Vec<u8>> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).await.ok()?;
        let tag = if self.key.is_some() { 16 } else { 0 };
        let mut body = vec![0; u32::from_be_bytes(length) as usize + tag];
        self.stream.read_exact(&mut body).await.ok()?;
        if let Some(key) = &mut self.key {
            let nonce = key.next();
            key.key.open_in_place(nonce, Aad::from(length), &mut body).unwrap();
            body.truncate(body.len() - tag);
        }
        let padding = usize::from(body[0]);
        let packet = body[1..body.len() - padding].to_vec();
        if packet[0] == DATA {
            self.data += packet.len() as u64 - 9;
        }
        Some(packet)
    }

    /// The next packet with one of these numbers; others are let pass. `None` at the end of the connection.
    pub async fn await_any(&mut self, numbers: &[u8]) -> Option<Vec<u8>> {
        loop {
            let packet = self.receive().await?;
            if numbers.contains(&packet[0]) {
                return Some(packet);
            }
        }
    }

    /// Everything until the connection ends.
    pub async fn rest(&mut self) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        while let Some(packet) = self.receive().await {
            all.push(packet);
        }
        all
    }
}

impl Packets {
    /// Exchanges identifications.
    pub async fn over(stream: DuplexStream) -> Self {
        Self::begun(stream, "SSH-2.0-byhand\r\n").await
    }

    /// The same with an identification of the test's own, line end included.
    pub async fn begun(stream: DuplexStream, line: &str) -> Self {
        let mut packets = Self::silent(stream);
        packets.ours = line.trim_end().as_bytes().to_vec();
        packets.sender.raw(line.as_bytes()).await.unwrap();
        let reading = async {
            let mut line = Vec::new();
            while !line.ends_with(b"\r\n") {
                line.push(packets.receiver.stream.read_u8().await.unwrap());
            }
            line.truncate(line.len() - 2);
            line
        };
        packets.theirs = timeout(WITHIN, reading).await.expect("no identification");
        packets
    }

    /// Nothing is sent yet.
    pub fn silent(stream: DuplexStream) -> Self {
        let (read, write) = tokio::io::split(stream);
        Self {
            receiver: Receiver {
                stream: read,
                key: None,
                data: 0,
            },
            sender: Sender {
                stream: write,
                key: None,
            },
            ours: Vec::new(),
            theirs: Vec::new(),
            session: None,
        }
    }

    pub fn kexinit() -> Message {
        let mut message = Message::new(KEXINIT);
        message.0.extend_from_slice(&[7; 16]);
        for list in [
            "curve25519-sha256,ext-info-c,kex-strict-c-v00@openssh.com",
            "ssh-ed25519",
            "aes128-gcm@openssh.com",
            "aes128-gcm@openssh.com",
            "hmac-sha2-256",
            "hmac-sha2-256",
            "none",
            "none",
            "",
            "",
        ] {
            message = message.string(list);
        }
        message.byte(0).u32(0)
    }

    /// Sends our part of a key exchange up to its start: what is sent then is inside of it.
    pub async fn begin_keys(&mut self) -> Message {
        let ours = Self::kexinit();
        self.sender.send(&ours).await.unwrap();
        ours
    }

    /// The initial key exchange, or a new one.
    pub async fn keys(&mut self) {
        let ours = self.begin_keys().await;
        self.finish_keys(&ours, &[]).await;
    }

    /// The rest of a key exchange, with further packets just before NEWKEYS. False where the agent ends it.
    pub async fn finish_keys(&mut self, ours: &Message, before_newkeys: &[Message]) -> bool {
        let Some(theirs) = self.receiver.await_any(&[KEXINIT]).await else {
            return false;
        };
        let private = PrivateKey::generate(&X25519).unwrap();
        let public = private.compute_public_key().unwrap();
        let init = Message::new(ECDH_INIT).string(&public);
        self.sender.send(&init).await.unwrap();
        let Some(reply) = self.receiver.await_any(&[ECDH_REPLY]).await else {
            return false;
        };
        let mut rest = &reply[1..];
        let (host_key, point) = (string(&mut rest), string(&mut rest));
        let peer = UnparsedPublicKey::new(&X25519, &point);
        let secret = agree(&private, peer, (), |secret| Ok(mpint(secret))).unwrap();
        let mut hash = Sha256::new();
        for part in [
            self.ours.as_slice(),
            &self.theirs,
            &ours.0,
            &theirs,
            &host_key,
            public.as_ref(),
            &point,
        ] {
            hash.update(Message(Vec::new()).string(part).0);
        }
        hash.update(&secret);
        let hash = hash.finalize().to_vec();
        let session = self.session.get_or_insert_with(|| hash.clone()).clone();
        let derive = |letter: u8| {
            let mut key = Sha256::new();
            for part in [&secret, &hash, &vec![letter], &session] {
                key.update(part);
            }
            key.finalize().to_vec()
        };
        let key = |iv: u8, key: u8| {
            let unbound = UnboundKey::new(&AES_128_GCM, &derive(key)[..16]).unwrap();
            Key {
                key: LessSafeKey::new(unbound),
                nonce: derive(iv)[..12].try_into().unwrap(),
            }
        };
        for message in before_newkeys {
            if self.sender.send(message).await.is_err() {
                return false;
            }
        }
        if self.sender.send(Message::new(NEWKEYS)).await.is_err() {
            return false;
        }
        self.sender.key = Some(key(b'A', b'C'));
        if self.receiver.await_any(&[NEWKEYS]).await.is_none() {
            return false;
        }
        self.receiver.key = Some(key(b'B', b'D'));
        true
    }

    /// The session id (RFC 4253, 7.2): what a client's signature is bound to.
    pub fn session(&self) -> &[u8] {
        self.session.as_deref().unwrap()
    }

    /// Asks for the authentication service.
    pub async fn service(&mut self) {
        let request = Message::new(SERVICE_REQUEST).string("ssh-userauth");
        self.sender.send(request).await.unwrap();
    }

    /// Keys, service, `none`.
    pub async fn logged_in(stream: DuplexStream) -> Self {
        let mut packets = Self::over(stream).await;
        packets.keys().await;
        packets.service().await;
        packets
            .sender
            .send(Message::none(super::my_login().as_str()))
            .await
            .unwrap();
        let answer = packets.receiver.await_any(&[AUTH_SUCCESS, AUTH_FAILURE]).await.unwrap();
        assert_eq!(answer[0], AUTH_SUCCESS);
        packets
    }

    /// Opens a session channel; gives the agent's number for it.
    pub async fn open(&mut self) -> u32 {
        self.sender.send(Message::open(0)).await.unwrap();
        let answer = self
            .receiver
            .await_any(&[OPEN_CONFIRMATION, OPEN_FAILURE])
            .await
            .unwrap();
        assert_eq!(answer[0], OPEN_CONFIRMATION);
        u32::from_be_bytes(answer[5..9].try_into().unwrap())
    }

    /// Whether a command still runs on this connection, in a channel of its own.
    pub async fn works(&mut self) -> bool {
        if self.sender.send(Message::open(77)).await.is_err() {
            return false;
        }
        let number = loop {
            match self.receiver.receive().await {
                Some(packet) if packet[0] == OPEN_CONFIRMATION && packet[1..5] == 77_u32.to_be_bytes() => {
                    break u32::from_be_bytes(packet[5..9].try_into().unwrap());
                }
                Some(_) => {}
                None => return false,
            }
        };
        if self
            .sender
            .send(Message::exec(number, "echo still here"))
            .await
            .is_err()
        {
            return false;
        }
        let mut said = Vec::new();
        while let Some(packet) = self.receiver.receive().await {
            match packet[0] {
                DATA if packet[1..5] == 77_u32.to_be_bytes() => said.extend_from_slice(&packet[9..]),
                CLOSE if packet[1..5] == 77_u32.to_be_bytes() => {
                    let _ = self.sender.send(Message::new(CLOSE).u32(number)).await;
                    return said == b"still here\n";
                }
                _ => {}
            }
        }
        false
    }
}

/// Takes a string off the front.
fn string(rest: &mut &[u8]) -> Vec<u8> {
    let length = u32::from_be_bytes(rest[..4].try_into().unwrap()) as usize;
    let value = rest[4..4 + length].to_vec();
    *rest = &rest[4 + length..];
    value
}

/// A shared secret as an mpint with its length (RFC 4251, 5).
fn mpint(secret: &[u8]) -> Vec<u8> {
    let zeroes = secret.iter().take_while(|byte| **byte == 0).count();
    let mut number = secret[zeroes..].to_vec();
    if number.first().is_some_and(|first| first & 0x80 != 0) {
        number.insert(0, 0);
    }
    Message(Vec::new()).string(number).0
}
