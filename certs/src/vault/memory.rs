//! What is known of a mount's keys, over restarts: a file of the gateway's state directory.
//!
//! It holds public keys alone. It is not believed where it was written for another Vault or another mount, nor beyond the time
//! that it says; whoever can write to the directory has the gateway's own key as well. To drop a replaced key at once: stop
//! the gateway, delete the file, start it.

use std::{
    fmt::Write as _,
    fs,
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ssh_key::PublicKey;

use crate::CaKeys;

/// Where the keys of one mount are remembered.
#[derive(Debug)]
pub(super) struct Memory {
    file: PathBuf,
    /// Whose keys they are: address and mount. No control characters in it.
    whose: String,
}

/// What was known when it was written.
#[derive(Debug, PartialEq)]
pub(super) struct Remembered {
    /// The keys that were current.
    pub(super) current: CaKeys,
    /// Keys that were replaced, and until when they are believed.
    pub(super) replaced: Vec<(PublicKey, SystemTime)>,
}

impl Memory {
    pub(super) fn new(file: PathBuf, whose: String) -> Self {
        Self { file, whose }
    }

    /// Where it is, for texts.
    pub(super) fn file(&self) -> std::path::Display<'_> {
        self.file.display()
    }

    /// What was written last; nothing where there is no file, or one of another Vault or mount.
    ///
    /// # Errors
    /// It cannot be read, or is not what was written.
    pub(super) fn read(&self) -> io::Result<Option<Remembered>> {
        let file = match fs::File::open(&self.file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let mut text = String::new();
        file.take(LARGEST).read_to_string(&mut text)?;
        let mut lines = text.lines();
        if lines.next().and_then(|line| line.strip_prefix("of ")) != Some(self.whose.as_str()) {
            return Ok(None);
        }
        let broken = || io::Error::new(io::ErrorKind::InvalidData, "it is not what was written");
        let (mut current, mut replaced) = (Vec::new(), Vec::new());
        for line in lines {
            let (kind, rest) = line.split_once(' ').ok_or_else(broken)?;
            let (until, key) = match kind {
                "current" => (None, rest),
                "until" => rest
                    .split_once(' ')
                    .and_then(|(seconds, key)| Some((Some(seconds.parse::<u32>().ok()?), key)))
                    .ok_or_else(broken)?,
                _ => return Err(broken()),
            };
            let key = PublicKey::from_openssh(key).map_err(|_| broken())?;
            match until {
                None => current.push(key),
                Some(seconds) => replaced.push((key, UNIX_EPOCH + Duration::from_secs(seconds.into()))),
            }
        }
        // Both are held to what may sign.
        CaKeys::new(current.iter().chain(replaced.iter().map(|(key, _)| key)).cloned()).map_err(|_| broken())?;
        let current = CaKeys::new(current).map_err(|_| broken())?;
        Ok(Some(Remembered { current, replaced }))
    }

    /// Writes it whole or not at all.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn write(&self, what: &Remembered) -> io::Result<()> {
        let line = |key: &PublicKey| {
            let mut key = key.clone();
            key.set_comment("");
            key.to_openssh().map_err(io::Error::other)
        };
        let mut text = format!("of {}\n", self.whose);
        // Writing to a String cannot fail.
        for key in what.current.iter() {
            let _ = writeln!(text, "current {}", line(key)?);
        }
        for (key, until) in &what.replaced {
            let seconds = until.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
            let _ = writeln!(text, "until {seconds} {}", line(key)?);
        }
        let beside = self.file.with_extension("new");
        let mut file = fs::OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(true)
            .mode(0o600)
            .open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, &self.file)
    }
}

/// The most that is read of the file, in bytes: many times what is ever written.
const LARGEST: u64 = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::HostKey;

    fn key() -> PublicKey {
        let mut key = HostKey::generate().unwrap().public_key().clone();
        key.set_comment("");
        key
    }

    #[test]
    fn what_was_written_is_read_again_for_the_same_vault_and_mount_alone() {
        let folder = tempfile::tempdir().unwrap();
        let memory = |whose: &str| Memory::new(folder.path().join("keys"), whose.to_owned());
        let mine = memory("https://vault.example ssh");
        assert_eq!(mine.read().unwrap(), None);
        let known = Remembered {
            current: CaKeys::new([key(), key()]).unwrap(),
            replaced: vec![(key(), UNIX_EPOCH + Duration::from_secs(2_000_000_000))],
        };
        mine.write(&known).unwrap();
        mine.write(&known).unwrap();
        assert_eq!(mine.read().unwrap(), Some(known));
        assert_eq!(memory("https://vault.example ssh-host").read().unwrap(), None);
        assert_eq!(memory("https://other.example ssh").read().unwrap(), None);
    }

    #[test]
    fn what_nobody_wrote_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let memory = Memory::new(folder.path().join("keys"), "v m".to_owned());
        let good = key().to_openssh().unwrap();
        for text in [
            String::new(),
            format!("current {good}\nuntil x {good}\n"),
            format!("current {good}\nuntil -1 {good}\n"),
            format!("current {good}\nuntil 18446744073709551615 {good}\n"),
            format!("current {good}\nforever {good}\n"),
            format!("current {good}\n\n"),
            format!("until 2000000000 {good}\n"),
            "current ssh-ed25519 AAAA\n".to_owned(),
            format!("current {}", &good[..40]),
        ] {
            fs::write(folder.path().join("keys"), format!("of v m\n{text}")).unwrap();
            assert!(memory.read().is_err(), "{text}");
        }
        fs::write(folder.path().join("keys"), [0xff; 100]).unwrap();
        assert!(memory.read().is_err());
    }
}
