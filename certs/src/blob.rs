//! From bytes to a certificate: the first look at what a peer sent, before any library parses it.
//!
//! The walk below allocates nothing, never recurses and reads each byte once. It refuses every blob that is too long,
//! broken off or longer than it says, that has an unplain key (a certificate inside a certificate, a security key, an
//! RSA key of absurd size), or whose options are unsorted or doubled. What passes is parsed by `ssh-key`, written
//! again and compared with the input: a blob that is not the one encoding of what it says is refused.
//! Format: OpenSSH's PROTOCOL.certkeys; strings and integers as in RFC 4251, section 5.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ssh_key::Certificate;

use crate::{Refusal, extension, refusal::shown};

/// The longest certificate in bytes that is looked at (16 KiB).
pub const LONGEST_BLOB: usize = 16 * 1024;

const SUBJECT_TYPE: &[u8] = b"ssh-ed25519-cert-v01@openssh.com";
const PRINCIPALS_AT_MOST: usize = 256;
const OPTIONS_AT_MOST: usize = 64;

/// Parses a certificate over an ed25519 key. Says nothing about whether it is to be believed.
pub(crate) fn read(blob: &[u8]) -> Result<Certificate, Refusal> {
    walk(blob)?;
    let certificate = Certificate::from_bytes(blob).map_err(|_| Refusal::Malformed("a field"))?;
    match certificate.to_bytes() {
        Ok(again) if again == blob => Ok(certificate),
        _ => Err(Refusal::NotCanonical),
    }
}

/// Parses one line `type base64 [comment]`, which may end in a newline.
pub(crate) fn read_text(text: &str) -> Result<Certificate, Refusal> {
    read(&of_text(text)?)
}

/// The blob of such a line, not looked at yet.
pub(crate) fn of_text(text: &str) -> Result<Vec<u8>, Refusal> {
    if text.len() > 2 * LONGEST_BLOB {
        return Err(Refusal::TooLong);
    }
    let (kind, blob) = split_line(text).ok_or(Refusal::NotText)?;
    if kind.as_bytes() != SUBJECT_TYPE {
        return Err(Refusal::SubjectAlgorithm);
    }
    Ok(blob)
}

/// The type and the blob of one line `type base64 [comment]`, of a key or a certificate alike.
///
/// The base64 is RFC 4648, section 4, with its padding and no stray bits: one blob has one text.
pub(crate) fn split_line(text: &str) -> Option<(&str, Vec<u8>)> {
    let line = text.strip_suffix('\n').unwrap_or(text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.contains(['\n', '\r', '\0']) {
        return None;
    }
    let mut words = line.split(' ');
    let (kind, base64) = (words.next()?, words.next()?);
    Some((kind, STANDARD.decode(base64).ok()?))
}

/// Whether `blob` is a public key that may sign certificates: plain ed25519, ECDSA on a NIST curve, or RSA of 2048
/// to 8192 bits, in its one encoding.
pub(crate) fn check_authority_key(blob: &[u8]) -> Result<(), Refusal> {
    if blob.len() > LONGEST_BLOB {
        return Err(Refusal::TooLong);
    }
    authority_key(blob).map(|_| ())
}

/// The bytes that RFC 4251 strings and integers are read from.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize, what: &'static str) -> Result<&'a [u8], Refusal> {
        let (head, tail) = self.0.split_at_checked(count).ok_or(Refusal::Malformed(what))?;
        self.0 = tail;
        Ok(head)
    }

    fn u32(&mut self, what: &'static str) -> Result<u32, Refusal> {
        let bytes = self.take(4, what)?;
        Ok(bytes.iter().fold(0, |sum, byte| (sum << 8) | u32::from(*byte)))
    }

    fn string(&mut self, what: &'static str) -> Result<&'a [u8], Refusal> {
        let length = usize::try_from(self.u32(what)?).map_err(|_| Refusal::Malformed(what))?;
        self.take(length, what)
    }

    fn text(&mut self, what: &'static str) -> Result<&'a str, Refusal> {
        let text = std::str::from_utf8(self.string(what)?).map_err(|_| Refusal::Malformed(what))?;
        if text.contains('\0') {
            Err(Refusal::Malformed(what))
        } else {
            Ok(text)
        }
    }

    fn end(&self, what: &'static str) -> Result<(), Refusal> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(Refusal::Malformed(what))
        }
    }
}

fn walk(blob: &[u8]) -> Result<(), Refusal> {
    if blob.len() > LONGEST_BLOB {
        return Err(Refusal::TooLong);
    }
    let mut at = Cursor(blob);
    if at.string("the type")? != SUBJECT_TYPE {
        return Err(Refusal::SubjectAlgorithm);
    }
    at.string("the nonce")?;
    if at.string("the subject")?.len() != 32 {
        return Err(Refusal::Malformed("the subject"));
    }
    at.take(8, "the serial number")?;
    if !matches!(at.u32("the certificate type")?, 1 | 2) {
        return Err(Refusal::Malformed("the certificate type"));
    }
    at.text("the key id")?;
    let mut principals = Cursor(at.string("the principals")?);
    let mut count = 0;
    while !principals.0.is_empty() {
        count += 1;
        if principals.text("the principals")?.is_empty() || count > PRINCIPALS_AT_MOST {
            return Err(Refusal::Malformed("the principals"));
        }
    }
    at.take(16, "the validity")?;
    options(at.string("the critical options")?, "the critical options")?;
    options(at.string("the extensions")?, "the extensions")?;
    if !at.string("the reserved field")?.is_empty() {
        return Err(Refusal::Malformed("the reserved field"));
    }
    let key = authority_key(at.string("the authority's key")?)?;
    signature(at.string("the signature")?, key)?;
    at.end("the end")
}

fn options(field: &[u8], what: &'static str) -> Result<(), Refusal> {
    let mut at = Cursor(field);
    let mut last = "";
    let mut count = 0;
    while !at.0.is_empty() {
        let name = at.text(what)?;
        count += 1;
        // Strictly ascending, so that no name can stand there twice.
        if name <= last || count > OPTIONS_AT_MOST {
            return Err(Refusal::Malformed(what));
        }
        last = name;
        let mut data = Cursor(at.string(what)?);
        if data.0.is_empty() {
            continue;
        }
        if extension::FLAGS.contains(&name) {
            return Err(Refusal::FlagWithValue(shown(name)));
        }
        data.text(what)?;
        data.end(what)?;
    }
    Ok(())
}

/// What the signature has to look like.
enum AuthorityKey<'a> {
    Ed25519,
    Ecdsa { name: &'a [u8] },
    Rsa { modulus_bytes: usize },
}

fn authority_key(blob: &[u8]) -> Result<AuthorityKey<'_>, Refusal> {
    const WHAT: &str = "the authority's key";
    let mut at = Cursor(blob);
    let name = at.string(WHAT)?;
    let key = match name {
        b"ssh-ed25519" => {
            if at.string(WHAT)?.len() != 32 {
                return Err(Refusal::Malformed(WHAT));
            }
            AuthorityKey::Ed25519
        }
        b"ecdsa-sha2-nistp256" | b"ecdsa-sha2-nistp384" | b"ecdsa-sha2-nistp521" => {
            let curve = at.string(WHAT)?;
            let size = match curve {
                b"nistp256" => 32,
                b"nistp384" => 48,
                _ => 66,
            };
            let point = at.string(WHAT)?;
            let uncompressed = point.first() == Some(&4) && point.len() == 1 + 2 * size;
            if name.strip_prefix(b"ecdsa-sha2-") != Some(curve) || !uncompressed {
                return Err(Refusal::Malformed(WHAT));
            }
            AuthorityKey::Ecdsa { name }
        }
        b"ssh-rsa" => {
            let exponent = at.string(WHAT)?;
            let modulus = at.string(WHAT)?;
            // An mpint has a zero byte in front where its highest bit is set; leading zeros are otherwise forbidden.
            let modulus = modulus.strip_prefix(&[0]).unwrap_or(modulus);
            let leading = modulus.first().map_or(8, |byte| byte.leading_zeros() as usize);
            let bits = (modulus.len() * 8).saturating_sub(leading);
            if !(2048..=8192).contains(&bits) {
                return Err(Refusal::AuthorityKeySize);
            }
            let odd = |number: &[u8]| number.last().is_some_and(|byte| byte & 1 == 1);
            // At most 33 bits of exponent: a huge one makes each verification dear.
            if exponent.len() > 5 || exponent == [1] || !odd(exponent) || !odd(modulus) {
                return Err(Refusal::Malformed(WHAT));
            }
            AuthorityKey::Rsa {
                modulus_bytes: bits.div_ceil(8),
            }
        }
        _ => return Err(Refusal::AuthorityAlgorithm),
    };
    at.end(WHAT)?;
    Ok(key)
}

fn signature(blob: &[u8], key: AuthorityKey<'_>) -> Result<(), Refusal> {
    const WHAT: &str = "the signature";
    let mut at = Cursor(blob);
    let name = at.string(WHAT)?;
    let data = at.string(WHAT)?;
    let fits = match key {
        AuthorityKey::Ed25519 => name == b"ssh-ed25519",
        AuthorityKey::Ecdsa { name: key_name } => name == key_name,
        AuthorityKey::Rsa { .. } => matches!(name, b"rsa-sha2-256" | b"rsa-sha2-512"),
    };
    if !fits {
        return Err(Refusal::SignatureAlgorithm);
    }
    let length_ok = match key {
        AuthorityKey::Ed25519 => data.len() == 64,
        AuthorityKey::Ecdsa { .. } => data.len() <= 2 * (4 + 67),
        AuthorityKey::Rsa { modulus_bytes } => data.len() == modulus_bytes,
    };
    if !length_ok {
        return Err(Refusal::Malformed(WHAT));
    }
    at.end(WHAT)
}
