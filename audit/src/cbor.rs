//! CBOR forms of the types that minicbor does not know: shared bytes and UUIDs, both as byte
//! strings.

use minicbor::Encode;

/// Appends a value. A `Vec` takes everything and no type of ours refuses to be encoded.
pub(crate) fn put(value: &impl Encode<()>, out: &mut Vec<u8>) {
    let done = minicbor::encode(value, out);
    debug_assert!(done.is_ok());
}

/// `bytes::Bytes` as a CBOR byte string.
pub(crate) mod shared {
    use bytes::Bytes;
    use minicbor::{CborLen, Decoder, Encoder, encode::Write};

    pub(crate) fn encode<C, W: Write>(
        value: &Bytes,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.bytes(value)?.ok()
    }

    pub(crate) fn decode<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<Bytes, minicbor::decode::Error> {
        d.bytes().map(Bytes::copy_from_slice)
    }

    pub(crate) fn cbor_len<C>(value: &Bytes, ctx: &mut C) -> usize {
        value.len().cbor_len(ctx) + value.len()
    }
}

/// `uuid::Uuid` as a CBOR byte string of 16 bytes.
pub(crate) mod uuid {
    use minicbor::{Decoder, Encoder, encode::Write};
    use uuid::Uuid;

    pub(crate) fn encode<C, W: Write>(
        value: &Uuid,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.bytes(value.as_bytes())?.ok()
    }

    pub(crate) fn decode<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<Uuid, minicbor::decode::Error> {
        Uuid::from_slice(d.bytes()?).map_err(|_| minicbor::decode::Error::message("a UUID has 16 bytes"))
    }

    pub(crate) fn cbor_len<C>(_: &Uuid, _: &mut C) -> usize {
        17
    }
}
