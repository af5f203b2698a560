//! The message of the day (motd(5)): shown before a login shell on a terminal, unless the user hushed it.

use bytes::{BufMut, Bytes, BytesMut};

use super::Account;

/// What to show, with the line ends of a terminal. Reads files: may block.
pub(crate) fn motd(account: &Account) -> Option<Bytes> {
    if std::fs::symlink_metadata(account.home.join(".hushlogin")).is_ok() {
        return None;
    }
    let text = std::fs::read(FILE)
        .ok()
        .filter(|text| !text.is_empty() && text.len() <= LONGEST)?;
    Some(for_terminal(&text))
}

/// Text with the line ends of a terminal.
pub(crate) fn for_terminal(text: &[u8]) -> Bytes {
    let mut shown = BytesMut::with_capacity(text.len() + 64);
    for byte in text {
        if *byte == b'\n' {
            shown.put_u8(b'\r');
        }
        shown.put_u8(*byte);
    }
    shown.freeze()
}

const FILE: &str = "/etc/motd";
/// Longer than this it is no message, in bytes.
const LONGEST: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_as_on_a_terminal() {
        assert_eq!(for_terminal(b"a\n\nb").as_ref(), b"a\r\n\r\nb");
    }
}
