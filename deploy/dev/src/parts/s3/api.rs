//! The few calls of the S3 API that tests make past the gateway.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use object_store::aws::{AwsAuthorizer, AwsCredential};
use object_store::client::{HttpRequest, HttpRequestBody};
use reqwest::Client;

use crate::parts::Error;

/// A client with every right.
#[derive(Clone, Debug)]
pub struct Api {
    client: Client,
    url: String,
    credential: Arc<AwsCredential>,
}

/// What the store answered.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The header.
    pub headers: http::HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Reply {
    /// The texts of all elements of this name in the body.
    #[must_use]
    pub fn elements(&self, name: &str) -> Vec<String> {
        let text = String::from_utf8_lossy(&self.body);
        let (open, close) = (format!("<{name}>"), format!("</{name}>"));
        let parts = text.split(&open).skip(1);
        parts
            .filter_map(|part| part.split(&close).next().map(str::to_owned))
            .collect()
    }
}

impl Api {
    pub(super) fn new(url: &str, ca: Option<&str>, access: &str, secret: &str) -> Result<Self, Error> {
        let mut builder = Client::builder().no_proxy().timeout(PATIENCE);
        if let Some(pem) = ca {
            let ca = reqwest::Certificate::from_pem(pem.as_bytes()).map_err(unanswered(&"the CA"))?;
            builder = builder.tls_certs_only([ca]);
        }
        Ok(Self {
            client: builder.build().map_err(unanswered(&"the client"))?,
            url: url.to_owned(),
            credential: Arc::new(AwsCredential {
                key_id: access.to_owned(),
                secret_key: secret.to_owned(),
                token: None,
            }),
        })
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Makes a bucket; with `locking`, one that keeps versions and can lock them.
    ///
    /// # Errors
    /// The store does not answer, or refuses.
    pub async fn make_bucket(&self, bucket: &str, locking: bool) -> Result<(), Error> {
        let lock: &[_] = match locking {
            true => &[("x-amz-bucket-object-lock-enabled", "true")],
            false => &[],
        };
        let reply = self.call("PUT", bucket, lock).await?;
        match reply.status {
            200 => Ok(()),
            status => Err(Error::Refused {
                what: format!("PUT {bucket}"),
                status,
                said: String::from_utf8_lossy(&reply.body).into_owned(),
            }),
        }
    }

    /// The first thousand objects of a bucket, or the buckets.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn list(&self, bucket: &str) -> Result<Reply, Error> {
        let target = match bucket {
            "" => String::new(),
            bucket => format!("{bucket}?list-type=2"),
        };
        self.call("GET", &target, &[]).await
    }

    /// The names of a bucket's objects.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn names(&self, bucket: &str) -> Result<Vec<String>, Error> {
        Ok(self.list(bucket).await?.elements("Key"))
    }

    /// One signed request without a body. `target` is what stands behind the first slash.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn call(&self, method: &str, target: &str, headers: &[(&str, &str)]) -> Result<Reply, Error> {
        self.call_with(method, target, headers, Bytes::new()).await
    }

    /// The same with a body.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn call_with(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Reply, Error> {
        let what = || format!("{method} {target}");
        let unfit = |_| Error::Answer {
            what: what(),
            lacks: "a form that can be sent",
        };
        let mut request = http::Request::builder()
            .method(method)
            .uri(format!("{}/{target}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request: HttpRequest = request.body(HttpRequestBody::from(body.clone())).map_err(unfit)?;
        AwsAuthorizer::new(&self.credential, "s3", "us-east-1")
            .try_authorize(&mut request, None)
            .map_err(|_| Error::Answer {
                what: what(),
                lacks: "a signature",
            })?;
        let (parts, _) = request.into_parts();
        let response = self
            .client
            .request(parts.method, parts.uri.to_string())
            .headers(parts.headers)
            .body(body)
            .send()
            .await
            .map_err(unanswered(&what()))?;
        Ok(Reply {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            body: response.bytes().await.map_err(unanswered(&what()))?,
        })
    }
}

fn unanswered(what: &impl ToString) -> impl FnOnce(reqwest::Error) -> Error {
    let what = what.to_string();
    move |source| Error::Unanswered { what, source }
}

const PATIENCE: Duration = Duration::from_secs(30);
