//! The frames of a session stream: their bytes, their bounds, and nothing else.
//!
//! A frame is a kind (one byte), the length of its payload (three bytes, big-endian) and the payload. Offsets are
//! big-endian `u64`. Unknown kinds, lengths beyond [`MAX_PAYLOAD`], payloads of the wrong size and text that is not
//! UTF-8 are refused, each with its own [`FrameError`]; nothing here does I/O, waits or panics.

use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};

/// The longest payload of a frame, in bytes.
pub const MAX_PAYLOAD: usize = 128 * 1024;
/// The length of a frame's header, in bytes.
pub const HEADER: usize = 4;
/// How many bytes stand before the content of a `Data` or `Record` frame: header and offset.
pub const DATA_HEADER: usize = HEADER + 8;
/// The most content bytes that our senders put into one `Data` or `Record` frame, so that the frame fits 64 KiB.
pub const MAX_CONTENT: usize = 64 * 1024 - DATA_HEADER;
/// The longest text of a notice and of an end, in bytes.
pub const MAX_TEXT: usize = 8 * 1024;
/// Exit code of an [`End`] because the session's recording is required and cannot be kept. From the gateway it asks the agent to
/// say so in the session's channels, and to end them.
pub const RECORDING_UNAVAILABLE: u8 = 254;
/// The longest code of an end, in bytes.
pub const MAX_CODE: usize = 64;

/// One frame of a session stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// SSH bytes, beginning at this offset of the sender's stream.
    Data {
        /// Offset of the first byte, counted from the start of the session.
        offset: u64,
        /// The bytes.
        bytes: Bytes,
    },
    /// Everything of the peer's stream before this offset has been consumed.
    Ack {
        /// The offset after the last consumed byte.
        offset: u64,
    },
    /// The sender's stream ends here; the other direction goes on.
    Fin {
        /// The length of the stream.
        offset: u64,
    },
    /// The session is over.
    End(End),
    /// A sentence for the user, to be shown on the client's standard error.
    Notice {
        /// The text; untrusted, so the client escapes it.
        text: String,
    },
    /// Asks for a `Pong` with the same number.
    Ping(u64),
    /// Answers a `Ping`.
    Pong(u64),
    /// Bytes of the recording, from the agent to the gateway alone.
    Record {
        /// Offset of the first byte in the session's recording.
        offset: u64,
        /// The bytes.
        bytes: Bytes,
    },
    /// Everything of the recording before this offset is durable; from the gateway to the agent alone.
    RecordAck {
        /// The offset after the last durable byte.
        offset: u64,
    },
    /// The recording ends here.
    RecordEnd {
        /// The length of the recording.
        offset: u64,
    },
}

/// Why a session ended, for the program at the other end and for its user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// The exit code for the client's process (0 ordinary, 77 denied, 254 recording unavailable, 255 transport).
    pub exit: u8,
    /// One of a closed set of codes, at most [`MAX_CODE`] bytes; longer ones are cut.
    pub code: String,
    /// A sentence for people, at most [`MAX_TEXT`] bytes; longer ones are cut.
    pub text: String,
}

impl End {
    /// An end with its exit code, code and sentence; over-long texts are cut at a character.
    pub fn new(exit: u8, code: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            exit,
            code: cut(code.into(), MAX_CODE),
            text: cut(text.into(), MAX_TEXT),
        }
    }
}

/// What is wrong with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The kind is none that this version knows.
    #[error("unknown frame kind {0}")]
    UnknownKind(u8),
    /// The length is beyond [`MAX_PAYLOAD`].
    #[error("frame of kind {kind} announces {length} bytes, more than the limit")]
    Oversized {
        /// The kind.
        kind: u8,
        /// The announced length in bytes.
        length: u32,
    },
    /// The payload is shorter than its kind needs.
    #[error("payload of frame kind {kind} is too short: {length} bytes")]
    Short {
        /// The kind.
        kind: u8,
        /// The announced length in bytes.
        length: u32,
    },
    /// The payload is longer than its kind allows.
    #[error("payload of frame kind {kind} is too long: {length} bytes")]
    Long {
        /// The kind.
        kind: u8,
        /// The announced length in bytes.
        length: u32,
    },
    /// A `Data` or `Record` frame carries no byte.
    #[error("frame of kind {0} carries no bytes")]
    Empty(u8),
    /// Text is not UTF-8.
    #[error("text in frame kind {0} is not UTF-8")]
    NotUtf8(u8),
    /// An offset plus a length is more than 64 bits hold.
    #[error("offset in frame kind {0} overflows")]
    Overflow(u8),
    /// The stream ended inside a frame.
    #[error("stream ended inside a frame, {missing} bytes before its end")]
    Truncated {
        /// How many bytes are missing.
        missing: usize,
    },
}

/// The number of a frame kind on the wire.
pub mod kind {
    /// [`super::Frame::Data`]
    pub const DATA: u8 = 1;
    /// [`super::Frame::Ack`]
    pub const ACK: u8 = 2;
    /// [`super::Frame::Fin`]
    pub const FIN: u8 = 3;
    /// [`super::Frame::End`]
    pub const END: u8 = 4;
    /// [`super::Frame::Notice`]
    pub const NOTICE: u8 = 5;
    /// [`super::Frame::Ping`]
    pub const PING: u8 = 6;
    /// [`super::Frame::Pong`]
    pub const PONG: u8 = 7;
    /// [`super::Frame::Record`]
    pub const RECORD: u8 = 8;
    /// [`super::Frame::RecordAck`]
    pub const RECORD_ACK: u8 = 9;
    /// [`super::Frame::RecordEnd`]
    pub const RECORD_END: u8 = 10;
}

impl Frame {
    /// The frame's kind on the wire.
    #[must_use]
    pub fn kind(&self) -> u8 {
        match self {
            Self::Data { .. } => kind::DATA,
            Self::Ack { .. } => kind::ACK,
            Self::Fin { .. } => kind::FIN,
            Self::End(_) => kind::END,
            Self::Notice { .. } => kind::NOTICE,
            Self::Ping(_) => kind::PING,
            Self::Pong(_) => kind::PONG,
            Self::Record { .. } => kind::RECORD,
            Self::RecordAck { .. } => kind::RECORD_ACK,
            Self::RecordEnd { .. } => kind::RECORD_END,
        }
    }

    /// Writes everything but the content of `Data` and `Record` frames, which is returned so that it need not be
    /// copied: it follows what was written.
    ///
    /// Content beyond [`MAX_PAYLOAD`] minus the offset cannot be announced; senders cut at [`MAX_CONTENT`].
    pub fn encode_header(&self, to: &mut BytesMut) -> Option<Bytes> {
        match self {
            Self::Data { offset, bytes } | Self::Record { offset, bytes } => {
                to.reserve(DATA_HEADER);
                to.put_slice(&data_header(self.kind(), *offset, bytes.len()));
                Some(bytes.clone())
            }
            Self::Ack { offset: number }
            | Self::Fin { offset: number }
            | Self::Ping(number)
            | Self::Pong(number)
            | Self::RecordAck { offset: number }
            | Self::RecordEnd { offset: number } => {
                to.put_slice(&header(self.kind(), 8));
                to.put_u64(*number);
                None
            }
            Self::Notice { text } => {
                let text = cut_str(text, MAX_TEXT);
                to.put_slice(&header(self.kind(), text.len()));
                to.put_slice(text.as_bytes());
                None
            }
            Self::End(end) => {
                let (code, text) = (cut_str(&end.code, MAX_CODE), cut_str(&end.text, MAX_TEXT));
                to.put_slice(&header(self.kind(), 2 + code.len() + text.len()));
                to.put_u8(end.exit);
                to.put_u8(u8::try_from(code.len()).unwrap_or(u8::MAX));
                to.put_slice(code.as_bytes());
                to.put_slice(text.as_bytes());
                None
            }
        }
    }

    /// The whole frame, copied into one buffer.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let mut to = BytesMut::new();
        if let Some(content) = self.encode_header(&mut to) {
            to.extend_from_slice(&content);
        }
        to.freeze()
    }
}

/// The first bytes of a `Data` or `Record` frame, up to its content.
#[must_use]
pub fn data_header(kind: u8, offset: u64, content: usize) -> [u8; DATA_HEADER] {
    let mut to = [0; DATA_HEADER];
    to[..HEADER].copy_from_slice(&header(kind, content + 8));
    to[HEADER..].copy_from_slice(&offset.to_be_bytes());
    to
}

fn header(kind: u8, length: usize) -> [u8; HEADER] {
    debug_assert!(length <= MAX_PAYLOAD, "a frame within its bound");
    let length = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    [kind, length[1], length[2], length[3]]
}

fn cut(mut text: String, most: usize) -> String {
    text.truncate(cut_str(&text, most).len());
    text
}

fn cut_str(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}

/// Turns chunks of bytes, cut anywhere, into frames.
///
/// Payloads that lie within one chunk are slices of it; only those that straddle chunks are copied. What it holds is
/// bounded by the caller, who asks for frames before pushing more: at most one incomplete frame stays behind.
#[derive(Debug, Default)]
pub struct FrameDecoder {
    chunks: VecDeque<Bytes>,
    held: usize,
}

impl FrameDecoder {
    /// A decoder at the start of a stream.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the next bytes of the stream.
    pub fn push(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            self.held += chunk.len();
            self.chunks.push_back(chunk);
        }
    }

    /// How many bytes are held that no frame has taken.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held
    }

    /// The next whole frame, or `None` until more bytes are pushed.
    ///
    /// # Errors
    /// What is wrong with the frame; after that the stream cannot be read on.
    #[expect(
        clippy::should_implement_trait,
        reason = "a step that can fail and go on, not an iterator"
    )]
    pub fn next(&mut self) -> Result<Option<Frame>, FrameError> {
        Ok(self.next_whole()?.map(|(frame, _)| frame))
    }

    /// The next whole frame and its own bytes, header and all, so that it can be passed on as it came.
    ///
    /// # Errors
    /// As [`FrameDecoder::next`].
    pub fn next_whole(&mut self) -> Result<Option<(Frame, Bytes)>, FrameError> {
        let Some((kind, length)) = self.peek_header()? else {
            return Ok(None);
        };
        let whole = HEADER + length as usize;
        if self.held < whole {
            return Ok(None);
        }
        let whole = self.take(whole);
        let frame = decode(kind, whole.slice(HEADER..))?;
        Ok(Some((frame, whole)))
    }

    /// Says whether the stream may end here.
    ///
    /// # Errors
    /// [`FrameError::Truncated`] within a frame.
    pub fn finish(&self) -> Result<(), FrameError> {
        if self.held == 0 {
            return Ok(());
        }
        let missing = match self.peek_header() {
            Ok(Some((_, length))) => (HEADER + length as usize).saturating_sub(self.held),
            _ => HEADER.saturating_sub(self.held),
        };
        Err(FrameError::Truncated { missing })
    }

    fn peek_header(&self) -> Result<Option<(u8, u32)>, FrameError> {
        let mut header = [0; HEADER];
        let mut bytes = self.chunks.iter().flat_map(|chunk| chunk.iter());
        for to in &mut header {
            match bytes.next() {
                Some(byte) => *to = *byte,
                None => return Ok(None),
            }
        }
        let [kind, a, b, c] = header;
        let length = u32::from_be_bytes([0, a, b, c]);
        check(kind, length).map(|()| Some((kind, length)))
    }

    /// The first `count` held bytes; without a copy when they lie in one chunk.
    fn take(&mut self, count: usize) -> Bytes {
        self.held -= count;
        if let Some(first) = self.chunks.front_mut() {
            if first.len() > count {
                return first.split_to(count);
            }
            if first.len() == count {
                return self.chunks.pop_front().unwrap_or_default();
            }
        }
        let mut whole = BytesMut::with_capacity(count);
        while whole.len() < count {
            let Some(mut first) = self.chunks.pop_front() else {
                break;
            };
            let part = first.split_to(first.len().min(count - whole.len()));
            whole.extend_from_slice(&part);
            if !first.is_empty() {
                self.chunks.push_front(first);
            }
        }
        whole.freeze()
    }
}

/// Judges a header before a byte of its payload is kept.
fn check(kind: u8, length: u32) -> Result<(), FrameError> {
    let size = length as usize;
    let (least, most) = match kind {
        kind::DATA | kind::RECORD => (8, MAX_PAYLOAD),
        kind::ACK | kind::FIN | kind::PING | kind::PONG | kind::RECORD_ACK | kind::RECORD_END => (8, 8),
        kind::END => (2, 2 + MAX_CODE + MAX_TEXT),
        kind::NOTICE => (0, MAX_TEXT),
        _ => return Err(FrameError::UnknownKind(kind)),
    };
    if size > MAX_PAYLOAD {
        Err(FrameError::Oversized { kind, length })
    } else if size < least {
        Err(FrameError::Short { kind, length })
    } else if size > most {
        Err(FrameError::Long { kind, length })
    } else if size == 8 && matches!(kind, kind::DATA | kind::RECORD) {
        Err(FrameError::Empty(kind))
    } else {
        Ok(())
    }
}

/// Decodes a payload whose length [`check`] accepted.
fn decode(kind: u8, mut payload: Bytes) -> Result<Frame, FrameError> {
    if kind == kind::NOTICE {
        return Ok(Frame::Notice {
            text: text(kind, &payload)?,
        });
    }
    let short = || FrameError::Short {
        kind,
        length: u32::try_from(payload.len()).unwrap_or(u32::MAX),
    };
    if kind == kind::END {
        let (&[exit, code], rest) = payload.split_first_chunk::<2>().ok_or_else(short)?;
        if code as usize > MAX_CODE {
            return Err(FrameError::Long {
                kind,
                length: u32::from(code),
            });
        }
        let (code, sentence) = rest.split_at_checked(code as usize).ok_or_else(short)?;
        if sentence.len() > MAX_TEXT {
            return Err(FrameError::Long {
                kind,
                length: u32::try_from(sentence.len()).unwrap_or(u32::MAX),
            });
        }
        return Ok(Frame::End(End {
            exit,
            code: text(kind, code)?,
            text: text(kind, sentence)?,
        }));
    }
    let number = u64::from_be_bytes(*payload.first_chunk::<8>().ok_or_else(short)?);
    Ok(match kind {
        kind::ACK => Frame::Ack { offset: number },
        kind::FIN => Frame::Fin { offset: number },
        kind::PING => Frame::Ping(number),
        kind::PONG => Frame::Pong(number),
        kind::RECORD_ACK => Frame::RecordAck { offset: number },
        kind::RECORD_END => Frame::RecordEnd { offset: number },
        kind::DATA | kind::RECORD => {
            let bytes = payload.split_off(8);
            if number.checked_add(bytes.len() as u64).is_none() {
                return Err(FrameError::Overflow(kind));
            }
            if kind == kind::DATA {
                Frame::Data { offset: number, bytes }
            } else {
                Frame::Record { offset: number, bytes }
            }
        }
        _ => return Err(FrameError::UnknownKind(kind)),
    })
}

fn text(kind: u8, bytes: &[u8]) -> Result<String, FrameError> {
    std::str::from_utf8(bytes)
        .map(str::to_owned)
        .map_err(|_| FrameError::NotUtf8(kind))
}

#[cfg(test)]
mod tests;
