//! Object lock: retention, legal holds, and the versions that a bucket with it keeps. `object_store` knows none of these, so
//! that they are small signed requests of our own (Amazon S3 API reference: PutObjectRetention, PutObjectLegalHold,
//! ListObjectVersions, DeleteObject).

use aws_lc_rs::digest::{self, SHA256};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::Method;
use http_body_util::{BodyExt as _, Limited};
use object_store::client::{HttpRequest, HttpRequestBody};
use serde::Deserialize;
use url::form_urlencoded;

use super::transport::{CHECKSUM, Signed};
use super::{Bucket, BucketError};

/// The way past `object_store`.
#[derive(Clone)]
pub(super) struct Direct {
    pub(super) signed: Signed,
    /// Scheme, host and the bucket.
    pub(super) base: String,
}

/// One version of an object, or a mark that says that there is none.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Version {
    key: String,
    version_id: String,
    #[serde(skip)]
    marks_deletion: bool,
}

/// Where versions and marks are mixed, each kind is collected from wherever it stands.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Versions {
    #[serde(default)]
    is_truncated: bool,
    next_key_marker: Option<String>,
    next_version_id_marker: Option<String>,
    #[serde(default)]
    version: Vec<Version>,
    #[serde(default)]
    delete_marker: Vec<Version>,
}

impl Bucket {
    /// Has the newest version of an object kept until then, RFC 3339. An earlier time than is set already is refused.
    pub(in crate::record) async fn retain(&self, name: &str, until: &str) -> Result<(), BucketError> {
        let body = format!(
            "<Retention xmlns=\"{NAMESPACE}\"><Mode>COMPLIANCE</Mode><RetainUntilDate>{until}</RetainUntilDate></Retention>"
        );
        let key = self.key(name).to_string();
        self.call(Method::PUT, &key, "retention", body.into()).await.map(drop)
    }

    /// Places a legal hold on the newest version of an object.
    pub(in crate::record) async fn hold(&self, name: &str) -> Result<(), BucketError> {
        let key = self.key(name).to_string();
        self.call(Method::PUT, &key, "legal-hold", hold_body(true))
            .await
            .map(drop)
    }

    /// Takes the legal hold from all versions of a folder's objects: an index may have been replaced since it was placed.
    pub(in crate::record) async fn release_folder(&self, folder: &str) -> Result<(), BucketError> {
        for version in self.versions(&format!("{}/", self.key(folder))).await? {
            if !version.marks_deletion {
                let query = format!("legal-hold&versionId={}", escaped(&version.version_id));
                self.call(Method::PUT, &version.key, &query, hold_body(false)).await?;
            }
        }
        Ok(())
    }

    /// Deletes an object; where the bucket keeps versions, all of them.
    pub(in crate::record) async fn erase(&self, name: &str) -> Result<(), BucketError> {
        if !self.locks {
            return self.delete(name).await;
        }
        let key = self.key(name).to_string();
        for version in self.versions(&key).await? {
            if version.key == key {
                self.delete_version(&version).await?;
            }
        }
        Ok(())
    }

    /// Deletes a folder's objects, and where the bucket keeps versions also what was there before; all but the object `except`
    /// of the folder, and `last` after all others.
    pub(in crate::record) async fn erase_folder(
        &self,
        folder: &str,
        except: &str,
        last: &str,
    ) -> Result<(), BucketError> {
        let (except, last) = (format!("{folder}/{except}"), format!("{folder}/{last}"));
        if !self.locks {
            let mut names: Vec<String> = self.list(folder).await?.into_iter().map(|found| found.name).collect();
            names.retain(|name| *name != except);
            names.sort_by_key(|name| *name == last);
            for name in names {
                self.delete(&name).await?;
            }
            return Ok(());
        }
        let (except, last) = (self.key(&except).to_string(), self.key(&last).to_string());
        let mut all = self.versions(&format!("{}/", self.key(folder))).await?;
        all.retain(|version| version.key != except);
        all.sort_by_key(|version| version.key == last);
        for version in all {
            self.delete_version(&version).await?;
        }
        Ok(())
    }

    async fn delete_version(&self, version: &Version) -> Result<(), BucketError> {
        let query = format!("versionId={}", escaped(&version.version_id));
        self.call(Method::DELETE, &version.key, &query, Bytes::new())
            .await
            .map(drop)
    }

    /// All versions of the objects whose names begin so, and the marks of deletions.
    async fn versions(&self, prefix: &str) -> Result<Vec<Version>, BucketError> {
        let mut all = Vec::new();
        let mut marker = String::new();
        loop {
            let query = format!("versions&prefix={}{marker}", escaped(prefix));
            let text = self.call(Method::GET, "", &query, Bytes::new()).await?;
            let found: Versions = quick_xml::de::from_reader(text.as_ref())
                .map_err(|error| BucketError::Down(format!("list the versions of {prefix}: {error}")))?;
            all.extend(found.version);
            all.extend(found.delete_marker.into_iter().map(|mark| Version {
                marks_deletion: true,
                ..mark
            }));
            match (found.is_truncated, found.next_key_marker, found.next_version_id_marker) {
                (true, Some(next), version) => {
                    let version = version.unwrap_or_default();
                    let next = format!("&key-marker={}&version-id-marker={}", escaped(&next), escaped(&version));
                    if next == marker || all.len() > super::MOST_LISTED {
                        return Err(BucketError::Down(format!("list all versions of {prefix}")));
                    }
                    marker = next;
                }
                _ => return Ok(all),
            }
        }
    }

    async fn call(&self, method: Method, key: &str, query: &str, body: Bytes) -> Result<Bytes, BucketError> {
        let failed = |text: String| BucketError::Down(format!("answer {method} {key}?{query}: {text}"));
        let Some(direct) = &self.direct else {
            return Err(failed("it has no object lock".to_owned()));
        };
        let slash = if key.is_empty() { "" } else { "/" };
        let mut request = http::Request::builder()
            .method(&method)
            .uri(format!("{}{slash}{key}?{query}", direct.base));
        if !body.is_empty() {
            let checksum = STANDARD.encode(digest::digest(&SHA256, &body));
            request = request
                .header(CHECKSUM, checksum)
                .header("x-amz-sdk-checksum-algorithm", "SHA256")
                .header(http::header::CONTENT_TYPE, "application/xml");
        }
        let request: HttpRequest = request
            .body(HttpRequestBody::from(body))
            .map_err(|error| failed(error.to_string()))?;
        let answered = self.within(direct.signed.send(request)).await?;
        let answer = answered.map_err(|error| failed(crate::refusal::chain(&error)))?;
        let status = answer.status();
        let text = Limited::new(answer.into_body(), LARGEST_ANSWER).collect();
        let text = self
            .within(text)
            .await?
            .map_err(|error| failed(error.to_string()))?
            .to_bytes();
        if status.is_success() {
            return Ok(text);
        }
        let said: String = String::from_utf8_lossy(&text)
            .chars()
            .filter(|one| !one.is_control())
            .take(super::MOST_TEXT)
            .collect();
        Err(failed(format!("{status} {said}")))
    }
}

fn hold_body(held: bool) -> Bytes {
    let status = if held { "ON" } else { "OFF" };
    format!("<LegalHold xmlns=\"{NAMESPACE}\"><Status>{status}</Status></LegalHold>").into()
}

fn escaped(text: &str) -> String {
    // A space is `+` in a form and `%20` in a signature.
    form_urlencoded::byte_serialize(text.as_bytes())
        .collect::<String>()
        .replace('+', "%20")
}

const NAMESPACE: &str = "http://s3.amazonaws.com/doc/2006-03-01/";
const LARGEST_ANSWER: usize = 4 * 1024 * 1024;
