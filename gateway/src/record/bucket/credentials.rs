//! Whom the object store takes us for: keys from two files, or the pod's own identity exchanged for a role.

use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use object_store::CredentialProvider;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, AwsCredential, AwsCredentialProvider};

use super::BucketError;
use super::transport::Plain;
use crate::config::{S3, S3Credentials};
use crate::guarded::Guarded;

pub(super) fn provider(settings: &S3, plain: &Plain) -> Result<AwsCredentialProvider, BucketError> {
    match &settings.credentials {
        S3Credentials::Files { access_key, secret_key } => Ok(Arc::new(Files {
            access_key: access_key.clone(),
            secret_key: secret_key.clone(),
            read: Guarded::default(),
        })),
        S3Credentials::WebIdentity { role, token_file, sts } => {
            // Builds no client of its own for the store: it is asked for its credentials alone.
            let sts = sts.as_ref().map_or_else(
                || format!("https://sts.{}.amazonaws.com", settings.region),
                |sts| sts.as_str().trim_end_matches('/').to_owned(),
            );
            let built = AmazonS3Builder::new()
                .with_bucket_name(&settings.bucket)
                .with_region(&settings.region)
                .with_config(AmazonS3ConfigKey::WebIdentityTokenFile, token_file.to_string_lossy())
                .with_config(AmazonS3ConfigKey::RoleArn, role)
                .with_config(AmazonS3ConfigKey::RoleSessionName, "doorward-gateway")
                .with_config(AmazonS3ConfigKey::StsEndpoint, sts)
                .with_retry(super::no_retry())
                .with_http_connector(plain.clone())
                .build();
            let store = built.map_err(|error| BucketError::Unusable(crate::refusal::chain(&error)))?;
            Ok(Arc::clone(store.credentials()))
        }
    }
}

/// Two files, read again after a while, so that keys can be exchanged without a restart.
struct Files {
    access_key: PathBuf,
    secret_key: PathBuf,
    read: Guarded<Option<(Instant, Arc<AwsCredential>)>>,
}

impl Files {
    fn credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let known = self.read.with(|read| read.clone());
        if let Some((_, credential)) = known.filter(|(at, _)| at.elapsed() < READ_AGAIN) {
            return Ok(credential);
        }
        let credential = Arc::new(AwsCredential {
            key_id: line(&self.access_key)?,
            secret_key: line(&self.secret_key)?,
            token: None,
        });
        self.read
            .with(|read| *read = Some((Instant::now(), Arc::clone(&credential))));
        Ok(credential)
    }
}

/// The one line of a file. What is in it is never part of an error.
fn line(file: &Path) -> object_store::Result<String> {
    let failed = |text: String| object_store::Error::Generic {
        store: "S3",
        source: format!("the key file {} {text}", file.display()).into(),
    };
    let text = fs::read_to_string(file).map_err(|error| failed(format!("cannot be read: {error}")))?;
    let text = text.trim();
    let good = (1..=1024).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    good.then(|| text.to_owned())
        .ok_or_else(|| failed("does not hold one key".to_owned()))
}

impl CredentialProvider for Files {
    type Credential = AwsCredential;

    fn get_credential<'s, 'f>(
        &'s self,
    ) -> Pin<Box<dyn Future<Output = object_store::Result<Arc<AwsCredential>>> + Send + 'f>>
    where
        's: 'f,
        Self: 'f,
    {
        Box::pin(std::future::ready(self.credential()))
    }
}

impl std::fmt::Debug for Files {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Files({})", self.access_key.display())
    }
}

const READ_AGAIN: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_from_files_and_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        let (access_key, secret_key) = (dir.path().join("access"), dir.path().join("secret"));
        fs::write(&access_key, "AKIA\n").unwrap();
        fs::write(&secret_key, "canary of two words\n").unwrap();
        let files = Files {
            access_key,
            secret_key: secret_key.clone(),
            read: Guarded::default(),
        };
        let refused = files.credential().unwrap_err().to_string();
        assert!(
            refused.contains("does not hold one key") && !refused.contains("canary"),
            "{refused}"
        );
        fs::write(&secret_key, "canary\n").unwrap();
        let credential = files.credential().unwrap();
        assert_eq!((&*credential.key_id, &*credential.secret_key), ("AKIA", "canary"));
        assert!(!format!("{credential:?} {files:?}").contains("canary"));
    }
}
