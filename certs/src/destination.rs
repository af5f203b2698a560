//! How a destination of forwards is written: `host:port` or `unix:` and a path.
//!
//! Only the form is judged here. What a pattern means for a name, an address or a file is the agent's part.

use crate::request::is_port;

/// Whether this is a destination of forwards that a certificate may carry: `host:port` with `*` for any, or `unix:` and
/// a path. There is never a comma in one.
#[must_use]
pub fn is_destination(text: &str) -> bool {
    text.len() <= LENGTH_AT_MOST && (text.strip_prefix("unix:").is_some_and(is_path) || is_host_and_port(text))
}

/// A host of letters, digits, `.`, `-`, `_`, `*`, `?`, or `[…]` around an IPv6 address; a port of 1 to 65535 without
/// leading zeros, or `*`.
fn is_host_and_port(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else {
        return false;
    };
    let host_ok = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok() || v6 == "*",
        None => {
            let ok = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'*' | b'?');
            !host.is_empty() && host.bytes().all(ok)
        }
    };
    let port_ok = port == "*" || is_port(port);
    host_ok && port_ok
}

/// An absolute path, or one in the login's home that begins with `~/`, in one spelling only: no empty, `.` or `..`
/// components. Its last component may be `*`, for everything below.
fn is_path(path: &str) -> bool {
    let Some(rest) = path.strip_prefix("~/").or_else(|| path.strip_prefix('/')) else {
        return false;
    };
    let (folder, last) = rest.rsplit_once('/').unwrap_or(("", rest));
    let named = |name: &str| {
        let ok = |b: u8| b.is_ascii_alphanumeric() || b"._-+@=:~".contains(&b);
        !matches!(name, "" | "." | "..") && name.bytes().all(ok)
    };
    (folder.is_empty() && !rest.starts_with('/') || !folder.is_empty() && folder.split('/').all(named))
        && (last == "*" || named(last))
}

const LENGTH_AT_MOST: usize = 300;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_paths_in_one_spelling() {
        for good in [
            "unix:/*",
            "unix:~/*",
            "unix:/tmp/*",
            "unix:~/.ssh/agent@1:2.sock",
            "unix:/run/user/1000/a+b=c",
            "unix:/tmp/.../x",
        ] {
            assert!(is_destination(good), "{good}");
        }
        for bad in [
            "unix:",
            "unix:/",
            "unix:~",
            "unix:~/",
            "unix:tmp/x",
            "unix:/tmp/",
            "unix://x",
            "unix:/tmp//x",
            "unix:/tmp/../x",
            "unix:/tmp/./x",
            "unix:/tmp/..",
            "unix:/tmp/*/x",
            "unix:/tmp/x*",
            "unix:/tmp/?",
            "unix:/tmp/a,b",
            "unix:/tmp/a b",
            "unix:/tmp/ä",
            "unix:/tmp/a\0",
            "unix:~root/x",
            "UNIX:/tmp/x",
        ] {
            assert!(!is_destination(bad), "{bad:?}");
        }
        assert!(!is_destination(&format!("unix:/{}", "x".repeat(LENGTH_AT_MOST))));
    }

    #[test]
    fn a_host_may_still_be_called_unix() {
        assert!(is_destination("unix:*") && is_destination("unix:22"));
    }
}
