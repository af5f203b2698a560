//! A token on the wire: bounded, wiped when it is dropped, and never shown.

use std::fmt;

use minicbor::decode::{Decoder, Error as DecodeError};
use minicbor::encode::{Encoder, Error as EncodeError, Write};
use minicbor::{Decode, Encode};
use zeroize::Zeroizing;

/// The longest token, in bytes. One of a service account has about 1,200.
pub const MAX_TOKEN: usize = 16 * 1024;

/// A secret that proves something to whoever reads it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Token(Zeroizing<String>);

impl Token {
    /// Takes a secret's text.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(Zeroizing::new(text.to_owned()))
    }

    /// The secret itself.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("…")
    }
}

impl<C> Encode<C> for Token {
    fn encode<W: Write>(&self, to: &mut Encoder<W>, _: &mut C) -> Result<(), EncodeError<W::Error>> {
        to.str(&self.0).map(|_| ())
    }
}

impl<'b, C> Decode<'b, C> for Token {
    fn decode(from: &mut Decoder<'b>, _: &mut C) -> Result<Self, DecodeError> {
        let text = from.str()?;
        match text.len() <= MAX_TOKEN {
            true => Ok(Self::new(text)),
            false => Err(DecodeError::message("a token is longer than any may be")),
        }
    }
}
