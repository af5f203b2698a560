//! Paths in an ssh configuration.
//!
//! OpenSSH reads them up to four times: as words of a line, as tokens (`%`), as an environment (`${`) and, in
//! `Include`, as a glob; the `ProxyCommand` is read by a shell. No quoting is right for all of these in all versions, so
//! the few paths that would need it are refused, and plain ones, with or without spaces, are put in double quotes.
//!
//! On Windows two programs read the same file. OpenSSH for Windows starts a `ProxyCommand` without a shell, as a command
//! line of Windows; the `ssh` of Git gives it to its own `sh`, to which a backslash is a quote. Slashes are right for
//! both. A command's words stand in double quotes only where they need them: old versions of OpenSSH for Windows
//! looked for a program whose name begins with the quote.

use std::path::Path;

use super::System;
use crate::error::Error;

/// Characters that some reader takes for something else, even between double quotes.
const SPECIAL: &[char] = &['"', '%', '$', '`', '*', '?', '[', ']', '{', '}', '!'];

/// The path between double quotes, for the value of an option.
pub(super) fn path(system: System, path: &Path) -> Result<String, Error> {
    Ok(format!("\"{}\"", plain(system, path)?))
}

/// The path as a word of a `ProxyCommand`.
pub(super) fn word(system: System, path: &Path) -> Result<String, Error> {
    let text = plain(system, path)?;
    let simple = |c: char| c.is_ascii_alphanumeric() || "/:._-".contains(c);
    Ok(if system == System::Windows && text.chars().all(simple) {
        text
    } else {
        format!("\"{text}\"")
    })
}

/// The path as it stands between the quotes.
fn plain(system: System, path: &Path) -> Result<String, Error> {
    let refused = |what: &str| {
        let path = path.display();
        Error::Configuration(format!(
            "ssh could misread the path {path}, which {what}: choose another one with --home"
        ))
    };
    let text = path.to_str().ok_or_else(|| refused("is not Unicode"))?;
    let (text, is_absolute) = match system {
        System::Unix => (text.to_owned(), text.starts_with('/')),
        System::Windows => {
            let text = text.replace('\\', "/");
            let is_absolute = text.starts_with("//") || text.get(1..).is_some_and(|rest| rest.starts_with(":/"));
            (text, is_absolute)
        }
    };
    if !is_absolute {
        return Err(refused("is not absolute"));
    }
    if let Some(bad) = text
        .chars()
        .find(|c| SPECIAL.contains(c) || *c == '\\' || c.is_control())
    {
        return Err(refused(&format!("contains {bad:?}")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spaces_are_fine_and_traps_are_refused() {
        let good = "/home/an o'hara/Library/Application Support/door-ward_1.0/ssh_config#~é";
        for quoted in [path, word] {
            assert_eq!(quoted(System::Unix, Path::new(good)).unwrap(), format!("\"{good}\""));
        }
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
            assert!(path(System::Unix, Path::new(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn windows_has_slashes_and_quotes_where_they_are_needed() {
        let of = |text: &str| {
            let path = Path::new(text);
            (
                super::path(System::Windows, path).unwrap(),
                word(System::Windows, path).unwrap(),
            )
        };
        let simple = (
            r#""C:/Users/bob/doorward.exe""#.into(),
            "C:/Users/bob/doorward.exe".into(),
        );
        assert_eq!(of(r"C:\Users\bob\doorward.exe"), simple);
        for (spoken, quoted) in [
            (
                r"C:\Program Files (x86)\doorward.exe",
                r#""C:/Program Files (x86)/doorward.exe""#,
            ),
            (
                r"\\server\people\O'Hara\ssh_config",
                r#""//server/people/O'Hara/ssh_config""#,
            ),
            (r"C:\Users\Zoë & Co\d.exe", r#""C:/Users/Zoë & Co/d.exe""#),
        ] {
            assert_eq!(of(spoken), (quoted.to_owned(), quoted.to_owned()));
        }
        for bad in [
            r"Users\bob",
            r"\Users\bob",
            r"C:bob",
            r"\\?\C:\bob",
            r"C:\100%\d",
            "C:\\a\"b",
            "C:\\a\nHost *",
        ] {
            assert!(path(System::Windows, Path::new(bad)).is_err(), "{bad}");
        }
    }
}
