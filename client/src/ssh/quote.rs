//! Paths in an ssh configuration.
//!
//! OpenSSH reads them up to four times: as words of a line, as tokens (`%`), as an environment (`${`) and, in
//! `Include`, as a glob; the `ProxyCommand` is read by a shell. No quoting is right for all of these in all versions, so
//! the few paths that would need it are refused, and plain ones, with or without spaces, are put in double quotes.

use std::path::Path;

use crate::error::Error;

/// Characters that some reader takes for something else, even between double quotes.
const SPECIAL: &[char] = &['"', '%', '$', '`', '*', '?', '[', ']', '{', '}', '!'];

/// The path between double quotes.
pub(super) fn path(path: &Path) -> Result<String, Error> {
    let refused = |what: &str| {
        let path = path.display();
        Error::Configuration(format!(
            "ssh could misread the path {path}, which {what}: choose another one with --home"
        ))
    };
    let text = path.to_str().ok_or_else(|| refused("is not Unicode"))?;
    if !path.is_absolute() {
        return Err(refused("is not absolute"));
    }
    // OpenSSH for Windows takes slashes for backslashes, and reads a backslash as what it is only here and there.
    let text = if cfg!(windows) {
        text.replace('\\', "/")
    } else {
        text.to_owned()
    };
    if let Some(bad) = text
        .chars()
        .find(|c| SPECIAL.contains(c) || *c == '\\' || c.is_control())
    {
        return Err(refused(&format!("contains {bad:?}")));
    }
    Ok(format!("\"{text}\""))
}

/// A program for a `ProxyCommand`, between double quotes.
pub(super) fn program(program: &Path) -> Result<String, Error> {
    let quoted = path(program)?;
    // `cmd.exe` wants backslashes in the name of a program.
    Ok(if cfg!(windows) {
        quoted.replace('/', "\\")
    } else {
        quoted
    })
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;

    #[test]
    fn spaces_are_fine_and_traps_are_refused() {
        let good = "/home/an o'hara/Library/Application Support/door-ward_1.0/ssh_config#~é";
        assert_eq!(path(Path::new(good)).unwrap(), format!("\"{good}\""));
        for bad in [
            "relative",
            "/a%h",
            "/a$HOME",
            "/a\"b",
            "/a`b",
            "/a\\b",
            "/a\nHost *",
            "/a*",
            "/a[b]",
            "/a?",
            "/a!b",
        ] {
            assert!(path(Path::new(bad)).is_err(), "{bad}");
        }
    }
}
