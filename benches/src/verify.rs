//! How fast a recording is verified: a large one, made by the agent's own recorder, from a warm page cache.

use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::{Result, ensure};
use doorward_audit::{HEAD_NAMESPACE, Opened, Options, Output, Recorder, Stamped, Trust, segment_name, verify_with};
use ssh_key::{HashAlg, PrivateKey, private::Ed25519Keypair};
use uuid::Uuid;

/// What the terminal showed.
#[derive(Debug, Clone, Copy)]
pub enum Shown {
    /// What does not shrink: every byte is stored.
    Noise,
    /// Lines of a build, which shrink to a tenth.
    Text,
}

/// A recording in a folder.
#[derive(Debug)]
pub struct Large {
    session: Uuid,
    key: PrivateKey,
    /// Bytes that were shown.
    pub shown: u64,
    /// Bytes that are stored.
    pub stored: u64,
}

impl Large {
    /// Writes a recording of about so many shown bytes.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write(folder: &Path, shown: Shown, bytes: u64) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let session = Uuid::now_v7();
        let mut recorder = Recorder::new(session);
        let mut large = Self {
            session,
            key: PrivateKey::from(Ed25519Keypair::from_seed(&[1; 32])),
            shown: 0,
            stored: 0,
        };
        let opened = Opened {
            session,
            ..Opened::default()
        };
        let mut segment = recorder.append(&[Stamped::new(0, opened)]).to_vec();
        let (mut index, mut state) = (0, 1_u64);
        while large.shown < bytes {
            let piece = piece(shown, &mut state);
            large.shown += piece.len() as u64;
            let output = Output {
                channel: 0,
                stream: 1,
                bytes: piece.into(),
            };
            segment.extend_from_slice(&recorder.append(&[Stamped::new(large.shown, output)]));
            let last = large.shown >= bytes;
            if recorder.head_due() || last {
                let head = recorder.head(1, last, |text| large.key.sign(HEAD_NAMESPACE, HashAlg::Sha512, text))?;
                segment.extend_from_slice(&head);
                large.stored += segment.len() as u64;
                fs::write(folder.join(segment_name(index)), &segment)?;
                segment.clear();
                index += 1;
            }
        }
        Ok(large)
    }

    /// Seconds that a verification takes.
    ///
    /// # Errors
    /// It does not find what was written.
    pub fn verify(&self, folder: &Path) -> Result<f64> {
        let key = self.key.public_key().clone();
        let trust = Trust {
            agent_key: Box::new(move |_, _| Ok(key.clone())),
            gateway_key: Box::new(|_, _| Err("nobody".to_owned())),
        };
        let options = Options {
            allow_open: true,
            session: Some(self.session),
            ..Options::default()
        };
        let begun = Instant::now();
        let report = verify_with(folder, &trust, &options);
        let seconds = begun.elapsed().as_secs_f64();
        ensure!(report.ok && report.bytes == self.stored, "{report:?}");
        Ok(seconds)
    }
}

fn piece(shown: Shown, state: &mut u64) -> Vec<u8> {
    let mut next = || {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        *state
    };
    match shown {
        Shown::Noise => (0..4096).flat_map(|_| next().to_le_bytes()).collect(),
        Shown::Text => (0..400)
            .map(|_| {
                let (unit, line) = (next() % 300, next() % 2000);
                format!(
                    "   Compiling unit-{unit} v0.{line}.1 (/home/node/src/unit-{unit}): {:08x}\n",
                    next() % 65536
                )
            })
            .collect::<String>()
            .into_bytes(),
    }
}
