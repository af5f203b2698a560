//! The object store behind the spool: objects that are created, checked, read and listed, and never replaced.
//!
//! An object counts as stored once the store has confirmed its SHA-256, or, where it was there already, once we have read it back
//! and found our own bytes. The one exception is a session's index, which is no evidence: it is replaced against the version
//! that we know.

mod credentials;
mod lock;
mod transport;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{self, SHA256};
use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _};
use http::Extensions;
use object_store::aws::{AmazonS3Builder, Checksum, S3ConditionalPut};
use object_store::path::Path as Key;
use object_store::{
    Error as Refused, ObjectStore, ObjectStoreExt as _, PutMode, PutMultipartOptions, PutOptions, RetryConfig,
    UpdateVersion,
};
use tokio::io::AsyncReadExt as _;

use crate::config::S3;
use lock::Direct;
use transport::{Confirmed, Plain, Signed};

pub(super) use transport::Protection;

/// One bucket, below one prefix. Names of objects are relative to that.
#[derive(Clone)]
pub(super) struct Bucket {
    objects: Arc<dyn ObjectStore>,
    prefix: Key,
    timeout: Duration,
    direct: Option<Direct>,
    /// Whether it keeps versions and locks them.
    pub(super) locks: bool,
}

/// Why the bucket does not do what it should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum BucketError {
    /// The settings cannot be used.
    #[error("the object store cannot be used: {0}")]
    Unusable(String),
    /// Something else stands where our bytes should.
    #[error("the object {0} is there already, with other content")]
    Conflict(String),
    /// It does not answer, or refuses.
    #[error("the object store does not {0}")]
    Down(String),
}

/// One object of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// Below the prefix.
    pub(super) name: String,
    pub(super) size: u64,
    pub(super) tag: Option<String>,
}

impl Bucket {
    /// A client for the configured bucket. Nothing is asked yet.
    pub(super) fn new(settings: &S3) -> Result<Self, BucketError> {
        let plain = Plain::new(settings)?;
        let credentials = credentials::provider(settings, &plain)?;
        let signed = Signed::new(plain, Arc::clone(&credentials), &settings.region);
        let endpoint = settings.endpoint.as_str().trim_end_matches('/');
        let endpoint = match settings.path_style {
            true => endpoint.to_owned(),
            false => endpoint.replacen("://", &format!("://{}.", settings.bucket), 1),
        };
        let store = AmazonS3Builder::new()
            .with_endpoint(&endpoint)
            .with_bucket_name(&settings.bucket)
            .with_region(&settings.region)
            .with_virtual_hosted_style_request(!settings.path_style)
            .with_credentials(credentials)
            // The connector signs.
            .with_skip_signature(true)
            .with_checksum_algorithm(Checksum::SHA256)
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            .with_retry(no_retry())
            .with_http_connector(signed.clone())
            .build()
            .map_err(|error| BucketError::Unusable(crate::refusal::chain(&error)))?;
        let base = match settings.path_style {
            true => format!("{endpoint}/{}", settings.bucket),
            false => endpoint,
        };
        Ok(Self {
            direct: Some(Direct { signed, base }),
            locks: settings.object_lock,
            ..Self::over(Arc::new(store), &settings.prefix, settings.timeout)
        })
    }

    pub(super) fn over(objects: Arc<dyn ObjectStore>, prefix: &str, timeout: Duration) -> Self {
        Self {
            objects,
            prefix: Key::from(prefix),
            timeout,
            direct: None,
            locks: false,
        }
    }

    /// Creates an object; an object of the same bytes that is there already is as good.
    pub(super) async fn create(&self, name: &str, bytes: Bytes, protection: &Protection) -> Result<(), BucketError> {
        let key = self.key(name);
        let options = PutOptions {
            mode: PutMode::Create,
            extensions: protected(protection),
            ..PutOptions::default()
        };
        let len = bytes.len() as u64;
        let put = self.objects.put_opts(&key, bytes.clone().into(), options);
        match self.within(put).await? {
            Ok(result) if result.extensions.get::<Confirmed>().is_some() => Ok(()),
            Ok(_) => self.check_size(name, len).await,
            Err(Refused::AlreadyExists { .. } | Refused::Precondition { .. }) => {
                self.compare(name, digest::digest(&SHA256, &bytes).as_ref(), len).await
            }
            Err(error) => Err(down(&format!("take {name}"), &error)),
        }
    }

    /// The same for the first `len` bytes of a file, in parts where there are many.
    pub(super) async fn create_from(
        &self,
        name: &str,
        file: &std::path::Path,
        len: u64,
        protection: &Protection,
    ) -> Result<(), BucketError> {
        let failed =
            |error: std::io::Error| BucketError::Down(format!("take {name}: the spool cannot be read: {error}"));
        let mut from = tokio::fs::File::open(file).await.map_err(failed)?.take(len);
        if len <= PART {
            let mut bytes = Vec::with_capacity(usize::try_from(len).unwrap_or(0));
            from.read_to_end(&mut bytes).await.map_err(failed)?;
            return self.create(name, bytes.into(), protection).await;
        }
        let key = self.key(name);
        let options = PutMultipartOptions {
            extensions: protected(protection),
            ..PutMultipartOptions::default()
        };
        let mut upload = self
            .within(self.objects.put_multipart_opts(&key, options))
            .await?
            .map_err(|error| down(&format!("begin {name}"), &error))?;
        let mut whole = digest::Context::new(&SHA256);
        let parts = async {
            loop {
                let mut part = Vec::new();
                (&mut from).take(PART).read_to_end(&mut part).await.map_err(failed)?;
                if part.is_empty() {
                    return Ok(());
                }
                whole.update(&part);
                let put = self.within(upload.put_part(Bytes::from(part).into())).await?;
                put.map_err(|error| down(&format!("take a part of {name}"), &error))?;
            }
        };
        let done = match parts.await {
            Ok(()) => self.within(upload.complete()).await,
            Err(error) => Err(error),
        };
        match done {
            Ok(Ok(_)) => self.check_size(name, len).await,
            Ok(Err(error)) => {
                let _ = self.within(upload.abort()).await;
                match error {
                    Refused::AlreadyExists { .. } | Refused::Precondition { .. } => {
                        self.compare(name, whole.finish().as_ref(), len).await
                    }
                    error => Err(down(&format!("finish {name}"), &error)),
                }
            }
            Err(error) => {
                // What cannot be taken back now is the bucket's lifecycle rule's.
                let _ = self.within(upload.abort()).await;
                Err(error)
            }
        }
    }

    /// Replaces an object that is no evidence, unless somebody else has meanwhile.
    pub(super) async fn replace(&self, name: &str, bytes: Bytes) -> Result<(), BucketError> {
        let key = self.key(name);
        let known = match self.within(self.objects.head(&key)).await? {
            Ok(meta) => meta.e_tag,
            Err(Refused::NotFound { .. }) => None,
            Err(error) => return Err(down(&format!("show {name}"), &error)),
        };
        let mode = match known {
            None => PutMode::Create,
            Some(tag) => PutMode::Update(UpdateVersion {
                e_tag: Some(tag),
                version: None,
            }),
        };
        let put = self.objects.put_opts(&key, bytes.into(), mode.into());
        self.within(put)
            .await?
            .map(drop)
            .map_err(|error| down(&format!("take {name}"), &error))
    }

    /// A whole small object; `None` if there is none.
    pub(super) async fn read(&self, name: &str) -> Result<Option<Bytes>, BucketError> {
        let Some((size, stream)) = self.stream(name).await? else {
            return Ok(None);
        };
        if size > LARGEST_READ {
            return Err(BucketError::Down(format!("give {name}: it is larger than it may be")));
        }
        let bytes: Vec<Bytes> = self.within(stream.try_collect()).await??;
        Ok(Some(bytes.concat().into()))
    }

    /// An object's size and its bytes; `None` if there is none.
    pub(super) async fn stream(
        &self,
        name: &str,
    ) -> Result<Option<(u64, BoxStream<'static, Result<Bytes, BucketError>>)>, BucketError> {
        let got = match self.within(self.objects.get(&self.key(name))).await? {
            Ok(got) => got,
            Err(Refused::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(down(&format!("give {name}"), &error)),
        };
        let (size, name) = (got.meta.size, name.to_owned());
        let stream = got.into_stream();
        let stream = stream.map_err(move |error| down(&format!("give all of {name}"), &error));
        Ok(Some((size, stream.boxed())))
    }

    /// All objects of a folder, by name; none where there is no such folder.
    pub(super) async fn list(&self, folder: &str) -> Result<Vec<Found>, BucketError> {
        let key = self.key(folder);
        let mut found: Vec<Found> = self
            .objects
            .list(Some(&key))
            .map_err(|error| down(&format!("list {folder}"), &error))
            .take(MOST_LISTED)
            .try_fold(Vec::new(), |mut all, meta| {
                all.extend(self.relative(&meta.location).map(|name| Found {
                    name,
                    size: meta.size,
                    tag: meta.e_tag,
                }));
                std::future::ready(Ok(all))
            })
            .await?;
        found.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    /// The folders directly below the prefix.
    pub(super) async fn folders(&self) -> Result<Vec<String>, BucketError> {
        let listed = self.objects.list_with_delimiter(Some(&self.prefix));
        let listed = self
            .within(listed)
            .await?
            .map_err(|error| down("list its folders", &error))?;
        let names = listed.common_prefixes.iter().filter_map(|key| self.relative(key));
        Ok(names.collect())
    }

    /// Deletes an object; one that is not there is as good.
    pub(super) async fn delete(&self, name: &str) -> Result<(), BucketError> {
        match self.within(self.objects.delete(&self.key(name))).await? {
            Ok(()) | Err(Refused::NotFound { .. }) => Ok(()),
            Err(error) => Err(down(&format!("delete {name}"), &error)),
        }
    }

    async fn check_size(&self, name: &str, len: u64) -> Result<(), BucketError> {
        match self.within(self.objects.head(&self.key(name))).await? {
            Ok(meta) if meta.size == len => Ok(()),
            Ok(_) => Err(BucketError::Conflict(name.to_owned())),
            Err(error) => Err(down(&format!("show {name}"), &error)),
        }
    }

    /// Whether the object holds exactly these bytes.
    pub(super) async fn compare(&self, name: &str, sha256: &[u8], len: u64) -> Result<(), BucketError> {
        let Some((size, mut stream)) = self.stream(name).await? else {
            return Err(BucketError::Down(format!("say whether {name} is there")));
        };
        let mut hash = digest::Context::new(&SHA256);
        while size == len
            && let Some(bytes) = self.within(stream.try_next()).await??
        {
            hash.update(&bytes);
        }
        if size == len && hash.finish().as_ref() == sha256 {
            Ok(())
        } else {
            Err(BucketError::Conflict(name.to_owned()))
        }
    }

    async fn within<T>(&self, act: impl Future<Output = T>) -> Result<T, BucketError> {
        let late = |_| BucketError::Down(format!("answer within {:?}", self.timeout));
        tokio::time::timeout(self.timeout, act).await.map_err(late)
    }

    fn key(&self, name: &str) -> Key {
        let parts = self.prefix.parts().map(|part| part.as_ref().to_owned());
        Key::from_iter(parts.chain(name.split('/').map(str::to_owned)))
    }

    fn relative(&self, key: &Key) -> Option<String> {
        let parts: Vec<_> = key.prefix_match(&self.prefix)?.collect();
        let parts: Vec<&str> = parts.iter().map(AsRef::as_ref).collect();
        Some(parts.join("/"))
    }
}

impl std::fmt::Debug for Bucket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Bucket({}, {})", self.objects, self.prefix)
    }
}

fn protected(protection: &Protection) -> Extensions {
    let mut extensions = Extensions::new();
    extensions.insert(protection.clone());
    extensions
}

fn down(what: &str, error: &Refused) -> BucketError {
    let mut text = crate::refusal::chain(error);
    // Whole error documents of a store are for nobody's eyes.
    if let Some((at, _)) = text.char_indices().nth(MOST_TEXT) {
        text.truncate(at);
        text.push('…');
    }
    BucketError::Down(format!("{what}: {}", text.replace(char::is_control, " ")))
}

/// The uploader tries again itself, with what it knows of the whole.
fn no_retry() -> RetryConfig {
    RetryConfig {
        max_retries: 0,
        ..RetryConfig::default()
    }
}

/// What is sent at once; larger files go in parts of this size, in bytes.
const PART: u64 = 8 * 1024 * 1024;
/// The largest object that is read into memory.
const LARGEST_READ: u64 = 1024 * 1024;
/// The longest list: a day of sessions, each of a few objects.
const MOST_LISTED: usize = 1_000_000;
const MOST_TEXT: usize = 400;

#[cfg(test)]
mod tests;
