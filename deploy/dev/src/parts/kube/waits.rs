//! Questions to the API server that take a while, or more than one request.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::super::Error;
use super::{Api, TokenRequest};

impl Api {
    /// Asks for an object until it is there.
    ///
    /// # Errors
    /// It is not there after a minute, or the API server refuses.
    pub async fn await_object(&self, path: &str) -> Result<Value, Error> {
        self.await_state(path, |_| true).await
    }

    /// Asks for an object until it is there and as wanted.
    ///
    /// # Errors
    /// It is not so after a minute, with its last state; or the API server refuses.
    pub async fn await_state(&self, path: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value, Error> {
        let last = Instant::now() + PATIENCE;
        loop {
            let found = self.find(path).await?;
            match found {
                Some(object) if wanted(&object) => return Ok(object),
                found if Instant::now() >= last => {
                    return Err(Error::NotSo {
                        what: path.to_owned(),
                        found: found.unwrap_or_default().to_string(),
                    });
                }
                _ => sleep(ASK_AGAIN).await,
            }
        }
    }

    /// Asks for an object until it is gone.
    ///
    /// # Errors
    /// It is there after a minute, or the API server refuses.
    pub async fn await_gone(&self, path: &str) -> Result<(), Error> {
        let last = Instant::now() + PATIENCE;
        while let Some(object) = self.find(path).await? {
            if Instant::now() >= last {
                return Err(Error::NotSo {
                    what: format!("{path}, gone"),
                    found: object.to_string(),
                });
            }
            sleep(ASK_AGAIN).await;
        }
        Ok(())
    }

    /// A service account's token (the TokenRequest API).
    ///
    /// # Errors
    /// There is no such account or pod; the lifetime is too short.
    pub async fn token(&self, wanted: TokenRequest<'_>) -> Result<String, Error> {
        let mut spec = json!({"expirationSeconds": wanted.seconds, "audiences": []});
        if let Some(audience) = wanted.audience {
            spec["audiences"] = json!([audience]);
        }
        if let Some((name, uid)) = wanted.pod {
            spec["boundObjectRef"] = json!({"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid});
        }
        let TokenRequest { namespace, account, .. } = wanted;
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token");
        let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec});
        let answer = self.create(&path, &request).await?;
        let token = answer["status"]["token"].as_str().map(str::to_owned);
        token.ok_or(Error::Answer {
            what: path,
            lacks: "a token",
        })
    }
}

const PATIENCE: Duration = Duration::from_secs(60);
const ASK_AGAIN: Duration = Duration::from_millis(30);
