//! The key to the user's X server as X clients look for it (Xau(3)): a file of the account's own with one cookie. Written here, so
//! that no image needs an `xauth`.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Makes the file, or makes it anew, with the rights of whoever calls.
pub(super) fn write(file: &Path, display: u16, protocol: &str, cookie: &[u8]) -> io::Result<()> {
    let host = nix::unistd::gethostname()?;
    let text = entries(host.as_encoded_bytes(), display, protocol, cookie)?;
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(file)?;
    file.write_all(&text)
}

/// One entry for this host, which is what `localhost` stands for there, and one for whoever asks in another way.
fn entries(host: &[u8], display: u16, protocol: &str, cookie: &[u8]) -> io::Result<Vec<u8>> {
    let display = display.to_string();
    let mut all = Vec::new();
    for (family, address) in [(LOCAL, host), (WILD, b"")] {
        all.extend(family.to_be_bytes());
        for part in [address, display.as_bytes(), protocol.as_bytes(), cookie] {
            let length = u16::try_from(part.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
            all.extend(length.to_be_bytes());
            all.extend(part);
        }
    }
    Ok(all)
}

/// Bytes of hexadecimal digits.
pub(super) fn bytes(hex: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| {
        char::from(*byte)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    let read = |pair: &[u8]| match pair {
        [high, low] => Some(digit(high)? << 4 | digit(low)?),
        _ => None,
    };
    hex.as_bytes().chunks(2).map(read).collect()
}

const LOCAL: u16 = 256;
const WILD: u16 = 65_535;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_as_xau_says() {
        let all = entries(b"pod", 10, "MIT", &[0xab, 0xcd]).unwrap();
        let local = b"\x01\x00\x00\x03pod\x00\x0210\x00\x03MIT\x00\x02\xab\xcd";
        let wild = b"\xff\xff\x00\x00\x00\x0210\x00\x03MIT\x00\x02\xab\xcd";
        assert_eq!(all, [&local[..], wild].concat());
    }

    #[test]
    fn a_cookie_is_whole_bytes() {
        assert_eq!(bytes("00fF"), Some(vec![0, 255]));
        for bad in ["0", "0g", "+1", "é"] {
            assert_eq!(bytes(bad), None, "{bad}");
        }
    }
}
