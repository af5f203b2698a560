//! Taps: nothing passes a channel that is not recorded or said to be missing.
//!
//! The write side of a channel exists only inside an [`Outlet`], and the only way to make one takes a [`Tap`]. An
//! outlet records a chunk, then writes it; there is no other path to the client. Input passes [`Tap::input`] before
//! it takes effect.

use std::sync::Arc;

use bytes::Bytes;
use doorward_audit::{ChannelClosed, ChannelOpened, Digest, DigestStarted, Event, Exit, Gap};
use doorward_wire::RecordLost;
use russh::server::{Handle, Msg};
use russh::{ChannelWriteHalf, Sig};
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

use crate::mask::{Masker, Passed, content_events};
use crate::session::{Session, SharedRecording, Tally};
use crate::usage::{LastUse, Used};

/// Why a channel stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Stop {
    /// The client closed it, or the connection is gone.
    #[error("the channel is closed")]
    Gone,
    /// It cannot be recorded any longer.
    #[error("the recording is lost: {0}")]
    Lost(#[from] RecordLost),
}

/// The recording side of one channel.
#[derive(Debug, Clone)]
pub(crate) struct Tap {
    recording: SharedRecording,
    last_use: Arc<LastUse>,
    used: Arc<Used>,
    channel: u32,
}

impl Tap {
    /// Opens the tap of a new channel: records that it was opened.
    pub(crate) async fn open(session: &Session, channel: u32, kind: &str) -> Result<Self, Stop> {
        let recording = Arc::clone(session.recording());
        let last_use = Arc::clone(session.last_use());
        let one = Tally {
            channels: 1,
            ..Tally::default()
        };
        recording
            .record(
                ChannelOpened {
                    channel,
                    kind: kind.to_owned(),
                },
                one,
            )
            .await?;
        Ok(Self {
            recording,
            used: Arc::new(Used::new(&last_use)),
            last_use,
            channel,
        })
    }

    /// A program is started in the channel, on a terminal or not: the workspace is used.
    pub(crate) fn starts(&self, on_terminal: bool) {
        if on_terminal {
            self.used.on_terminal();
        }
        self.last_use.now();
    }

    /// The channel's number in the recording.
    pub(crate) fn channel(&self) -> u32 {
        self.channel
    }

    /// Whether each piece is shown only once its record is durable.
    pub(crate) fn waits_for_the_disk(&self) -> bool {
        self.recording.shows_what_is_durable()
    }

    /// Records an event of this channel.
    pub(crate) async fn note<E: Into<Event>>(&self, event: impl FnOnce(u32) -> E) -> Result<(), Stop> {
        Ok(self.recording.record(event(self.channel), Tally::default()).await?)
    }

    /// Records that something was refused in this channel.
    pub(crate) fn refused(&self, what: impl Into<String>, why: impl Into<String>) {
        self.recording.refused(Some(self.channel), what, why);
    }

    /// Records bytes from the client, as the flow says, before they take effect. `visible` is false while the
    /// terminal has echo off: then nothing of them is kept.
    pub(crate) async fn input(&self, flow: &mut Flow, bytes: &Bytes, visible: bool) -> Result<(), Stop> {
        self.pass(flow, bytes, visible).await
    }

    /// Counts bytes whose record is made of events, and of hashes in them.
    pub(crate) fn accounted(&self, bytes: usize) {
        let bytes = bytes as u64;
        self.used.passed(&self.last_use, bytes);
        self.recording.count(Tally {
            seen: bytes,
            digested: bytes,
            ..Tally::default()
        });
    }

    async fn pass(&self, flow: &mut Flow, bytes: &Bytes, visible: bool) -> Result<(), Stop> {
        let length = bytes.len() as u64;
        self.used.passed(&self.last_use, length);
        flow.total += length;
        let mut tally = Tally {
            seen: length,
            ..Tally::default()
        };
        match flow.keep {
            Keep::Whole if visible => return self.content(flow, bytes).await,
            Keep::Count => {}
            Keep::Whole | Keep::Nothing => flow.missing += length,
            Keep::UpTo(limit) => {
                flow.hash.update(bytes);
                if !flow.digesting && flow.total <= limit {
                    return self.content(flow, bytes).await;
                }
                if !flow.digesting {
                    self.rest(flow).await?;
                    flow.digesting = true;
                    let at_byte = flow.recorded;
                    let started = DigestStarted {
                        channel: self.channel,
                        stream: flow.stream,
                        at_byte,
                    };
                    self.recording.record(started, Tally::default()).await?;
                }
                tally.digested = length;
            }
        }
        self.recording.count(tally);
        Ok(())
    }

    /// Records bytes, without the secrets in them.
    async fn content(&self, flow: &mut Flow, bytes: &Bytes) -> Result<(), Stop> {
        let masker = flow
            .masker
            .get_or_insert_with(|| Masker::new(self.recording.patterns()));
        let newer = self.recording.newer_patterns(masker.patterns());
        // Seldom: a secret was mounted since.
        let of_before = newer.map(|patterns| masker.look_for(patterns));
        let passed = masker.push(bytes.clone());
        self.say(flow, [of_before, Some(passed)], bytes.len()).await
    }

    /// Records what waits to be known for a secret or not.
    async fn rest(&self, flow: &mut Flow) -> Result<(), Stop> {
        let Some(mut masker) = flow.masker.take_if(|masker| masker.held() > 0) else {
            return Ok(());
        };
        let passed = masker.finish();
        flow.masker = Some(masker);
        self.say(flow, [None, Some(passed)], 0).await
    }

    async fn say(&self, flow: &mut Flow, passed: [Option<Passed>; 2], seen: usize) -> Result<(), Stop> {
        let (channel, stream) = (self.channel, flow.stream);
        let length: u64 = passed.iter().flatten().map(|passed| passed.bytes.len() as u64).sum();
        let held = flow.masker.as_ref().map_or(0, Masker::held);
        let events = content_events(channel, stream, passed, held);
        if self.recording.content(channel, seen as u64, length, events).await? {
            flow.recorded += length;
        }
        Ok(())
    }

    /// Records what a stream came to: its digest, or that it is not kept.
    pub(crate) async fn end(&self, mut flow: Flow) -> Result<(), Stop> {
        self.rest(&mut flow).await?;
        let (channel, stream) = (self.channel, flow.stream);
        if flow.digesting {
            let digest = Digest {
                channel,
                stream,
                bytes: flow.total,
                sha256: flow.hash.finalize().into(),
            };
            self.recording.record(digest, Tally::default()).await?;
        }
        if flow.missing > 0 {
            let why = match flow.keep {
                Keep::Nothing => "terminal input is not recorded by policy",
                _ => "terminal input is not recorded while echo is off",
            };
            let gap = Gap {
                channel: Some(channel),
                bytes: flow.missing,
                why: why.to_owned(),
                ..Gap::default()
            };
            self.recording.record(gap, Tally::default()).await?;
        }
        Ok(())
    }
}

/// One stream of a channel: how it is kept, and what has passed.
#[derive(Debug)]
pub(crate) struct Flow {
    stream: u8,
    keep: Keep,
    hash: Sha256,
    total: u64,
    /// Of these, recorded.
    recorded: u64,
    missing: u64,
    digesting: bool,
    /// Made with the first byte that is kept.
    masker: Option<Masker>,
}

/// How a stream is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    /// Every byte.
    Whole,
    /// Every byte up to so many, then hash and length of the whole.
    UpTo(u64),
    /// Only how many bytes there were, and a gap that says so.
    Nothing,
    /// Only how many bytes there were; somebody else says so.
    Count,
}

impl Flow {
    /// Standard input.
    pub(crate) const INPUT: u8 = 0;
    /// Standard output, or the terminal.
    pub(crate) const OUTPUT: u8 = 1;
    /// Standard error.
    pub(crate) const ERRORS: u8 = 2;

    /// Bytes that have passed.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// Whether its bytes are recorded at all.
    pub(crate) fn is_kept(&self) -> bool {
        self.keep != Keep::Nothing
    }

    /// A stream of which nothing has passed yet.
    pub(crate) fn new(stream: u8, keep: Keep) -> Self {
        Self {
            stream,
            keep,
            hash: Sha256::new(),
            total: 0,
            recorded: 0,
            missing: 0,
            digesting: false,
            masker: None,
        }
    }
}

/// The write side of a channel.
pub(crate) struct Outlet {
    tap: Tap,
    write: ChannelWriteHalf<Msg>,
    handle: Handle,
    closed: CancellationToken,
}

impl Outlet {
    /// The only constructor: without a tap there is no writing. `closed` tells when the client has closed the channel.
    pub(crate) fn new(tap: Tap, write: ChannelWriteHalf<Msg>, handle: Handle, closed: CancellationToken) -> Self {
        Self {
            tap,
            write,
            handle,
            closed,
        }
    }

    /// The connection.
    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// The channel's tap.
    pub(crate) fn tap(&self) -> &Tap {
        &self.tap
    }

    /// Records a chunk, then writes it. Waits for the client's window.
    pub(crate) async fn output(&self, flow: &mut Flow, bytes: Bytes) -> Result<(), Stop> {
        self.tap.pass(flow, &bytes, true).await?;
        let write = async {
            match flow.stream {
                Flow::ERRORS => self.write.extended_data_bytes(STDERR, bytes).await,
                _ => self.write.data_bytes(bytes).await,
            }
        };
        tokio::select! {
            biased;
            written = write => written.map_err(|_| Stop::Gone),
            () = self.closed.cancelled() => Err(Stop::Gone),
        }
    }

    /// Writes bytes whose record is made of events: what they tell was noted before. Waits for the client's window.
    pub(crate) async fn accounted(&self, bytes: Bytes) -> Result<(), Stop> {
        self.tap.accounted(bytes.len());
        tokio::select! {
            biased;
            written = self.write.data_bytes(bytes) => written.map_err(|_| Stop::Gone),
            () = self.closed.cancelled() => Err(Stop::Gone),
        }
    }

    /// Records how the process ended, then tells the client.
    pub(crate) async fn exit(&self, exit: Exit) -> Result<(), Stop> {
        self.tap
            .note(|channel| Exit {
                channel,
                ..exit.clone()
            })
            .await?;
        let sent = match exit.signal {
            Some(name) => {
                let signal = exit_signal(name);
                let id = self.write.id();
                self.handle
                    .exit_signal_request(id, signal, exit.core_dumped, String::new(), String::new())
                    .await
            }
            None => self
                .write
                .exit_status(exit.status.unwrap_or_default())
                .await
                .map_err(|_| ()),
        };
        sent.map_err(|()| Stop::Gone)
    }

    /// Says that no more output follows.
    pub(crate) async fn eof(&self) -> Result<(), Stop> {
        self.write.eof().await.map_err(|_| Stop::Gone)
    }

    /// Records the channel's end and closes it; `silent` leaves the client to hear of it in another way.
    pub(crate) async fn close(self, silent: bool) {
        let recorded = self.tap.note(|channel| ChannelClosed { channel }).await;
        if let Err(Stop::Lost(_)) = recorded {
            self.last_words().await;
        }
        if !silent {
            // A connection that is gone needs no closing.
            let _ = self.write.close().await;
        }
    }

    /// The one thing that is said without a record: that there can be none.
    async fn last_words(&self) {
        let why = self.tap.recording.loss();
        let text = format!(
            "\r\ndoorward: this session must be recorded and the recording cannot be stored; it ends here: {why}\r\n"
        );
        // The text needs room in the client's window, the status does not.
        let say = self.write.extended_data_bytes(STDERR, Bytes::from(text));
        let _ = tokio::time::timeout(LAST_WORDS, say).await;
        let _ = tokio::time::timeout(LAST_WORDS, self.write.exit_status(RECORD_LOST_STATUS)).await;
    }
}

/// Extended data of this type is standard error (RFC 4254, 5.2).
const STDERR: u32 = 1;
/// Exit status of a session that cannot be recorded.
pub(crate) const RECORD_LOST_STATUS: u32 = 254;
/// How long a client that does not read is given for the last words.
const LAST_WORDS: std::time::Duration = std::time::Duration::from_secs(1);

/// The signal as RFC 4254, 6.10 names it; others get our own namespace.
fn exit_signal(name: String) -> Sig {
    match name.as_str() {
        "ABRT" => Sig::ABRT,
        "ALRM" => Sig::ALRM,
        "FPE" => Sig::FPE,
        "HUP" => Sig::HUP,
        "ILL" => Sig::ILL,
        "INT" => Sig::INT,
        "KILL" => Sig::KILL,
        "PIPE" => Sig::PIPE,
        "QUIT" => Sig::QUIT,
        "SEGV" => Sig::SEGV,
        "TERM" => Sig::TERM,
        "USR1" => Sig::USR1,
        "USR2" => Sig::Custom(name),
        _ => Sig::Custom(format!("{name}@doorward")),
    }
}
