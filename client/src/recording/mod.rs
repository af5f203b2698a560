//! Recordings: found in a folder, or fetched from the gateway into one that is removed afterwards.

mod download;
pub(crate) mod export;
pub(crate) mod sessions;
pub(crate) mod show;
pub(crate) mod verify;

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use doorward_audit::{Fault, Stamped, events, open_regular, segment_name};
use uuid::Uuid;

use crate::error::Error;
use crate::gateway::Gateway;
use crate::home::Home;
use crate::home::settings::Settings;
use crate::pass::Pass;

/// A recording whose files are at hand.
#[derive(Debug)]
pub(crate) struct Recording {
    folder: PathBuf,
    /// Which session it must be, if that is known.
    session: Option<Uuid>,
    /// Removes what was fetched.
    _fetched: Option<tempfile::TempDir>,
}

impl Recording {
    /// A folder, or else a session that is fetched from the gateway.
    pub(crate) async fn find(home: &Home, what: &OsStr) -> Result<Self, Error> {
        let folder = Path::new(what);
        let named = |name: Option<&OsStr>| name.and_then(OsStr::to_str).and_then(|name| Uuid::try_parse(name).ok());
        if folder.is_dir() {
            let name = std::path::absolute(folder).map_err(Error::file("find", folder))?;
            return Ok(Self {
                folder: folder.to_owned(),
                session: named(name.file_name()),
                _fetched: None,
            });
        }
        let Some(session) = named(Some(what)) else {
            let what = folder.display();
            return Err(Error::Recording(format!(
                "{what} is neither a session nor the folder of a recording"
            )));
        };
        let fetched = download::fetch(home, &Settings::read(home)?, session).await?;
        Ok(Self {
            folder: fetched.path().to_owned(),
            session: Some(session),
            _fetched: Some(fetched),
        })
    }

    /// A session that is fetched from this gateway.
    pub(crate) async fn fetch(gateway: &Gateway, pass: &Pass, session: Uuid) -> Result<Self, Error> {
        let fetched = download::fetch_from(gateway, pass, session).await?;
        Ok(Self {
            folder: fetched.path().to_owned(),
            session: Some(session),
            _fetched: Some(fetched),
        })
    }

    /// Its folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Which session it must be.
    pub(crate) fn session(&self) -> Option<Uuid> {
        self.session
    }

    /// Its events, from the first on.
    pub(crate) fn events(&self) -> Result<impl Iterator<Item = Result<Stamped, Fault>>, Error> {
        let first = self.folder.join(segment_name(0));
        if !first.is_file() {
            return Err(Error::Recording(format!(
                "{} holds no recording",
                self.folder.display()
            )));
        }
        Ok(events(Segments::of(&self.folder)))
    }
}

/// When a stream was made, Unix milliseconds: its id says so (RFC 9562, version 7).
pub(crate) fn made_at(stream: Uuid) -> Option<u64> {
    let (seconds, nanos) = stream.get_timestamp()?.to_unix();
    Some(
        seconds
            .saturating_mul(1000)
            .saturating_add(u64::from(nanos / 1_000_000)),
    )
}

/// A recording that is damaged here.
pub(crate) fn damaged(fault: &Fault) -> Error {
    Error::Recording(format!("the recording is damaged: {fault}"))
}

/// The segment files of a recording, one after the other, up to the first that is missing.
#[derive(Debug)]
struct Segments {
    folder: PathBuf,
    next: u32,
    current: Option<BufReader<File>>,
}

impl Segments {
    fn of(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            next: 0,
            current: None,
        }
    }
}

impl Read for Segments {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(current) = &mut self.current {
                match current.read(to)? {
                    0 if !to.is_empty() => self.current = None,
                    count => return Ok(count),
                }
            }
            match open_regular(&self.folder.join(segment_name(self.next))) {
                Ok(file) => self.current = Some(BufReader::with_capacity(256 * 1024, file)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
                Err(error) => return Err(error),
            }
            self.next += 1;
        }
    }
}
