//! Paths and addresses as a pod knows them, in terms of this machine.

use std::net::Ipv4Addr;
use std::path::PathBuf;

/// What a pod's volumes and its network are here.
#[derive(Clone, Debug)]
pub(super) struct Rewrite {
    /// Mount paths and their folders, longest path first.
    mounts: Vec<(String, PathBuf)>,
    address: Ipv4Addr,
}

impl Rewrite {
    pub(super) fn new(mut mounts: Vec<(String, PathBuf)>, address: Ipv4Addr) -> Self {
        for (path, _) in &mut mounts {
            path.truncate(path.trim_end_matches('/').len());
        }
        mounts.retain(|(path, _)| !path.is_empty());
        mounts.sort_by_key(|(path, _)| std::cmp::Reverse(path.len()));
        Self { mounts, address }
    }

    /// The text with every mount path and the address of all interfaces replaced.
    pub(super) fn text(&self, text: &str) -> String {
        let mut written = String::with_capacity(text.len());
        let mut rest = text;
        let mut inside = false;
        'text: while let Some(next) = rest.chars().next() {
            if !inside {
                for (path, folder) in &self.mounts {
                    if let Some(after) = rest.strip_prefix(path.as_str())
                        && !after.starts_with(in_a_name)
                    {
                        written.push_str(&folder.to_string_lossy());
                        (rest, inside) = (after, true);
                        continue 'text;
                    }
                }
            }
            written.push(next);
            inside = in_a_name(next) || next == '/';
            rest = &rest[next.len_utf8()..];
        }
        written.replace("0.0.0.0", &self.address.to_string())
    }
}

/// Whether a character can be part of a path's component.
fn in_a_name(c: char) -> bool {
    c.is_alphanumeric() || "._-".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_paths_alone_are_rewritten_and_the_longest_wins() {
        let mounts = [
            ("/home/node/", "/t/home"),
            ("/home/node/.cache", "/t/cache"),
            ("/etc/d", "/t/etc"),
        ];
        let mounts = mounts.map(|(path, folder)| (path.to_owned(), folder.into())).to_vec();
        let rewrite = Rewrite::new(mounts, Ipv4Addr::new(127, 70, 0, 1));
        for (text, wanted) in [
            ("home = \"/home/node\"", "home = \"/t/home\""),
            ("/home/node/.cache/x:/home/node/x", "/t/cache/x:/t/home/x"),
            ("--config=/etc/d/agent.toml", "--config=/t/etc/agent.toml"),
            (
                "/etc/doorward /home/node2 /var/etc/d",
                "/etc/doorward /home/node2 /var/etc/d",
            ),
            ("listen = '0.0.0.0:7000'", "listen = '127.70.0.1:7000'"),
            ("", ""),
        ] {
            assert_eq!(rewrite.text(text), wanted);
        }
    }
}
