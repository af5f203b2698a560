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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SESSION: Uuid = Uuid::from_u128(0x0190_a6e0_0000_7000_8000_0000_0000_0001);

    #[test]
    fn hostile_users_become_printable() {
        let written = write("al ice\u{202e}=%\u{e9} session=x", SESSION);
        assert_eq!(
            written,
            format!("user=al%20ice%E2%80%AE%3D%25%C3%A9%20session%3Dx session={SESSION}")
        );
        assert_eq!(
            read(&written),
            Some(("al ice\u{202e}=%\u{e9} session=x".to_owned(), SESSION))
        );
    }

    #[test]
    fn one_user_has_one_spelling() {
        let good = format!("user=alice session={SESSION}");
        assert!(read(&good).is_some());
        for bad in [
            format!("user=%61lice session={SESSION}"),
            format!("user=a%c3%a9 session={SESSION}"),
            format!("user=alice  session={SESSION}"),
            format!("user=alice session={SESSION} "),
            format!("user=alice session={SESSION} session={SESSION}"),
            format!("user=alice session={}", SESSION.simple()),
            format!(
                "user=alice session={}",
                SESSION.to_string().to_uppercase().replace("0190A", "0190a")
            ),
            format!("user= session={SESSION}"),
            format!("user=%0A session={SESSION}"),
            format!("user=%FF session={SESSION}"),
            format!("user=%F session={SESSION}"),
            format!("user=%+1 session={SESSION}"),
            format!("user={} session={SESSION}", "a".repeat(257)),
            format!("user={} session={SESSION}", "a".repeat(64 * 1024)),
            format!("USER=alice session={SESSION}"),
            "user=alice".to_owned(),
            "user=alice session=".to_owned(),
            String::new(),
        ] {
            assert_eq!(read(&bad), None, "{bad:.80}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(user in any::<String>()) {
            if is_user(&user) {
                let written = write(&user, SESSION);
                prop_assert!(written.bytes().all(|b| b.is_ascii_graphic() || b == b' '));
                prop_assert_eq!(read(&written), Some((user, SESSION)));
            }
        }

        #[test]
        fn what_is_read_is_what_was_written(text in "user=[a-z%0-9A-F .=]{0,12} session=0190a6e0-0000-7000-8000-00000000000[12]") {
            if let Some((user, session)) = read(&text) {
                prop_assert_eq!(write(&user, session), text);
            }
        }
    }
}
