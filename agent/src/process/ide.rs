//! Servers of IDEs in the workspace: their terminals run inside them, are no channels of ours, and are not recorded.

use nix::unistd::{Pid, Uid};

/// The products whose servers run among the account's processes now, each once. Reads `/proc`: may block.
pub(crate) fn ide_servers(account: Uid) -> Vec<&'static str> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let mut seen: Vec<&str> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| *pid != Pid::this().as_raw())
        .filter(|pid| {
            use std::os::unix::fs::MetadataExt as _;
            std::fs::metadata(format!("/proc/{pid}")).is_ok_and(|about| about.uid() == account.as_raw())
        })
        .filter_map(|pid| product(&std::fs::read(format!("/proc/{pid}/cmdline")).ok()?))
        .collect();
    seen.sort_unstable();
    seen.dedup();
    seen
}

/// Whose server a command line starts. The first two arguments are looked at: the program, or the interpreter and its
/// script.
fn product(command_line: &[u8]) -> Option<&'static str> {
    let programs = command_line.split(|byte| *byte == 0).take(2);
    let programs: Vec<_> = programs.map(String::from_utf8_lossy).collect();
    PRODUCTS
        .iter()
        .find(|(part, _)| programs.iter().any(|program| program.contains(part)))
        .map(|(_, product)| *product)
}

/// Parts of paths that only these products have. The more special comes first.
const PRODUCTS: &[(&str, &str)] = &[
    ("/.vscode-server-insiders/", "VS Code Server Insiders"),
    ("/.vscode-server/", "VS Code Server"),
    ("/.vscodium-server/", "VSCodium Server"),
    ("/.cursor-server/", "Cursor Server"),
    ("/.windsurf-server/", "Windsurf Server"),
    ("/code-server", "code-server"),
    ("/openvscode-server", "OpenVSCode Server"),
    ("/remote-dev-server", "JetBrains remote development server"),
    ("/JetBrains/RemoteDev/", "JetBrains remote development server"),
    ("/.zed_server/", "Zed remote server"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_known_by_their_paths_and_nothing_else_is() {
        for (line, expected) in [
            (
                &b"/home/node/.vscode-server/cli/servers/Stable-1/server/node\0--dns"[..],
                Some("VS Code Server"),
            ),
            (
                b"sh\0/home/node/.vscode-server/bin/1/bin/code-server\0--start-server",
                Some("VS Code Server"),
            ),
            (
                b"node\0/usr/lib/code-server/out/node/entry.js\0--auth\0none",
                Some("code-server"),
            ),
            (
                b"/home/node/.cache/JetBrains/RemoteDev/dist/1/bin/remote-dev-server.sh\0run",
                Some("JetBrains remote development server"),
            ),
            (b"bash\0-c\0echo /.vscode-server/", None),
            (b"vim\0notes-about-vscode", None),
            (b"", None),
        ] {
            assert_eq!(product(line), expected, "{}", String::from_utf8_lossy(line));
        }
    }
}
