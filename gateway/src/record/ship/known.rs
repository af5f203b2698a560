//! What we know that the bucket has of one session, because we sent it or have compared it.

use std::collections::{BTreeMap, BTreeSet};

use aws_lc_rs::digest::{self, SHA256};
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use tokio::io::AsyncReadExt as _;

use super::snapshot::Snapshot;
use crate::record::bucket::{Bucket, BucketError};
use crate::record::pieces::{Stored, piece_name};

/// The state of one session in the bucket.
#[derive(Default)]
pub(super) struct Known {
    /// Files that are there as a whole.
    pub(super) whole: BTreeSet<String>,
    /// How much of the others is there.
    pub(super) lens: BTreeMap<String, u64>,
    /// Where the pieces of the others begin.
    pub(super) pieces: BTreeMap<String, Vec<u64>>,
    /// Objects that whole files stand in for.
    pub(super) superseded: Vec<String>,
    /// The index as it was sent last.
    pub(super) index: Option<Bytes>,
}

impl Known {
    /// Looks into the bucket, and compares what is there with the spool.
    pub(super) async fn look(bucket: &Bucket, folder: &str, here: &Snapshot) -> Result<Self, BucketError> {
        let stored = Stored::of(folder, &bucket.list(folder).await?);
        let mut known = Self::default();
        for (name, file) in &stored.0 {
            if file.whole.is_some() {
                let pieces = file.pieces.keys().map(|offset| piece_name(name, *offset));
                known.superseded.extend(pieces);
            }
            let Some(local) = here.files.iter().find(|local| local.name == *name) else {
                continue;
            };
            let len = file.len();
            if len > local.len || (file.whole.is_some() && len != local.len) {
                return Err(BucketError::Conflict(format!("{folder}/{name}")));
            }
            let mut hash = digest::Context::new(&SHA256);
            for (object, _) in file.objects(name) {
                let object = format!("{folder}/{object}");
                let Some((_, mut stream)) = bucket.stream(&object).await? else {
                    return Err(BucketError::Down(format!("give {object}, which it listed")));
                };
                while let Some(bytes) = stream.try_next().await? {
                    hash.update(&bytes);
                }
            }
            if hash.finish().as_ref() != local_hash(here, name, len).await?.as_ref() {
                return Err(BucketError::Conflict(format!("{folder}/{name}")));
            }
            match file.whole {
                Some(_) => {
                    known.whole.insert(name.clone());
                }
                None => {
                    known.lens.insert(name.clone(), len);
                    known.pieces.insert(name.clone(), file.pieces.keys().copied().collect());
                }
            }
        }
        Ok(known)
    }

    /// Bytes of a file that the bucket has.
    pub(super) fn len(&self, name: &str) -> u64 {
        self.lens.get(name).copied().unwrap_or(0)
    }
}

async fn local_hash(here: &Snapshot, name: &str, len: u64) -> Result<digest::Digest, BucketError> {
    let failed = |error: std::io::Error| BucketError::Down(format!("be compared with the spool: {error}"));
    let mut file = tokio::fs::File::open(here.dir.join(name))
        .await
        .map_err(failed)?
        .take(len);
    let mut hash = digest::Context::new(&SHA256);
    let mut block = vec![0; 64 * 1024];
    loop {
        match file.read(&mut block).await.map_err(failed)? {
            0 => return Ok(hash.finish()),
            read => hash.update(&block[..read]),
        }
    }
}
