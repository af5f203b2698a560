//! The key id of a session certificate: `user=<escaped user> session=<uuid>`.
//!
//! It is what sshd, Vault and `ssh-keygen -L` show in their logs, so it holds printable ASCII alone: every other byte
//! of the user's name is written `%XX`. One user has one spelling; another is refused.

use std::fmt::Write as _;

use uuid::Uuid;

/// The longest user name in bytes, before escaping.
pub(crate) const LONGEST_USER: usize = 256;

/// Whether a user name may stand in a certificate: 1 to 256 bytes, no control character.
pub(crate) fn is_user(user: &str) -> bool {
    (1..=LONGEST_USER).contains(&user.len()) && !user.chars().any(char::is_control)
}

pub(crate) fn write(user: &str, session: Uuid) -> String {
    format!("user={} session={session}", escape(user))
}

/// The user and the session in a key id, or `None` where it is not exactly what [`write`] makes.
pub(crate) fn read(key_id: &str) -> Option<(String, Uuid)> {
    let (user, session) = key_id.strip_prefix("user=")?.split_once(" session=")?;
    let user = unescape(user)?;
    let session = Uuid::try_parse(session).ok()?;
    (is_user(&user) && write(&user, session) == key_id).then_some((user, session))
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'@' | b'+') {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

fn unescape(text: &str) -> Option<String> {
    if text.len() > 3 * LONGEST_USER {
        return None;
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        if *first == b'%' {
            let (hex, after) = tail.split_at_checked(2)?;
            out.push(u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()?);
            rest = after;
        } else {
            out.push(*first);
            rest = tail;
        }
    }
    String::from_utf8(out).ok()
}
