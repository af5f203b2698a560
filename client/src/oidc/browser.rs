//! Opening a browser: its standard streams are closed, because ours may be an SSH connection.

use std::env;
use std::io::{IsTerminal as _, stderr};
use std::process::{Command, Stdio};

/// Whether somebody sits at a screen of this computer: standard error is a terminal, and there is a place for windows.
pub(crate) fn can_open() -> bool {
    let set = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty());
    let named = set("BROWSER");
    let screen = cfg!(any(windows, target_os = "macos")) || set("DISPLAY") || set("WAYLAND_DISPLAY");
    // Over SSH the screen is somewhere else, or far away.
    let local = screen && !set("SSH_CONNECTION");
    stderr().is_terminal() && (named || local || set("WSL_DISTRO_NAME"))
}

/// Tries to open a page; says whether some program took it.
pub(super) fn open(url: &str) -> bool {
    commands(url).into_iter().any(|mut command| {
        let started = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        // It is not waited for: a browser may live as long as it likes.
        started.is_ok()
    })
}

#[cfg(windows)]
fn commands(url: &str) -> Vec<Command> {
    // Not through `cmd`, to which `&` in an address is a separator.
    let mut command = Command::new("rundll32");
    command.args(["url.dll,FileProtocolHandler", url]);
    vec![command]
}

#[cfg(not(windows))]
fn commands(url: &str) -> Vec<Command> {
    let named = env::var("BROWSER").unwrap_or_default();
    let named: Vec<&str> = named.split(':').filter(|name| !name.trim().is_empty()).collect();
    let known: &[&str] = if cfg!(target_os = "macos") {
        &["open"]
    } else {
        &["xdg-open", "wslview", "x-www-browser"]
    };
    named
        .iter()
        .chain(known)
        .filter_map(|words| command(words, url))
        .collect()
}

/// `program arg %s`: the address stands for `%s`, or comes last.
#[cfg(not(windows))]
fn command(words: &str, url: &str) -> Option<Command> {
    let mut words = words.split_whitespace();
    let mut command = Command::new(words.next()?);
    let mut placed = false;
    for word in words {
        placed |= word.contains("%s");
        command.arg(word.replace("%s", url));
    }
    if !placed {
        command.arg(url);
    }
    Some(command)
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_one_argument() {
        let url = "http://i/?a=1&b=$(touch x)";
        let line = |words: &str| -> Vec<String> {
            let command = command(words, url).unwrap();
            let args = command.get_args().map(|arg| arg.to_string_lossy().into_owned());
            std::iter::once(command.get_program().to_string_lossy().into_owned())
                .chain(args)
                .collect()
        };
        assert_eq!(line("firefox -P work"), ["firefox", "-P", "work", url]);
        assert_eq!(line("b --url=%s -x"), ["b", &format!("--url={url}"), "-x"]);
        assert!(command("  ", url).is_none());
    }
}
