//! Events that say what a recording leaves out on purpose: masked secrets, and terminals that are no channels.

use minicbor::{CborLen, Decode, Encode};

/// From here on the values with these names are looked for, and masked where they stand.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct MasksSet {
    /// Variables of the workspace's environment, and files.
    #[n(0)]
    pub names: Vec<String>,
}

/// Bytes were replaced by `*`, line ends left as they were: those of a stream in the next [`Output`](crate::Output) or
/// [`Input`](crate::Input) of it, or some of the value of the next event that has one.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct Masked {
    /// The channel, if it was in one.
    #[n(0)]
    pub channel: Option<u32>,
    /// 0 standard input, 1 standard output or the terminal, 2 standard error; missing for a value, such as a command.
    #[n(1)]
    pub stream: Option<u8>,
    /// The first byte: its offset in that event's bytes, or in the value.
    #[n(2)]
    pub at: u64,
    /// How many bytes, line ends within included.
    #[n(3)]
    pub bytes: u64,
    /// The variable or file whose value it was.
    #[n(4)]
    pub name: String,
    /// `plain`, `base64`, or `beginning` where the stream ended within the value.
    #[n(5)]
    pub form: String,
}

/// The last bytes of a stream may be the beginning of a secret. They are shown; what they were stands in the next
/// [`Output`](crate::Output) or [`Input`](crate::Input) of the stream.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct Withheld {
    /// The channel.
    #[n(0)]
    pub channel: u32,
    /// As in [`Output`](crate::Output); 0 for input.
    #[n(1)]
    pub stream: u8,
    /// How many bytes have passed and stand in no event.
    #[n(2)]
    pub bytes: u64,
}

/// The server of an IDE was seen in the workspace during the session. Its terminals run inside it and are recorded by
/// nobody: what they show passes here only as encrypted or opaque bytes of a forwarded connection.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct IdeServerSeen {
    /// Which one, `VS Code Server` for example.
    #[n(0)]
    pub product: String,
}
