//! Real servers for tests: one of each per test process, and a word about the tests that had to do without.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Result;
use doorward_dev::parts::vault::Storage;
use doorward_dev::parts::{Cluster, KUBERNETES, MINIO, Part, S3, VAULT, VERSITYGW, Vault, kube, s3, vault};
use tokio::sync::OnceCell;

/// The executable that acts as each program, and a folder for the servers' files.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// `env!("CARGO_BIN_EXE_doorward-all")`.
    pub program: &'static str,
    /// `env!("CARGO_TARGET_TMPDIR")`.
    pub tmp: &'static str,
    /// The test file's name: it has a folder of its own.
    pub file: &'static str,
}

/// Whether a test can be run here.
#[derive(Debug)]
pub enum Had<T> {
    /// The part runs.
    Here(T),
    /// It cannot be had, which has been said.
    Skipped,
}

/// Whether all of these parts can be had, for a test that starts a stand on them.
///
/// # Errors
/// The word about it cannot be written.
pub async fn can_be_had(parts: &[&Part], place: Place, test: &str) -> Result<bool> {
    let mut all = true;
    for part in parts {
        all &= had(part, place, test).await?;
    }
    Ok(all)
}

/// A test's name, from a closure in its body.
#[must_use]
pub fn name_of<T>(_: &T) -> &'static str {
    let name = std::any::type_name::<T>();
    let name = name.split("::{{closure}}").next().unwrap_or(name);
    name.rsplit("::").next().unwrap_or(name)
}

/// The Vault that the tests of this process share, each with mounts of its own. A test that hurts it starts its own
/// with [`own_vault`].
///
/// # Errors
/// It can be had and does not come up.
pub async fn shared_vault(place: Place, test: &str) -> Result<Had<&'static Vault>> {
    static VAULT_HERE: OnceCell<Vault> = OnceCell::const_new();
    if !had(&VAULT, place, test).await? {
        return Ok(Had::Skipped);
    }
    let start = || start_vault(place, "vault", Storage::File);
    Ok(Had::Here(VAULT_HERE.get_or_try_init(start).await?))
}

/// A Vault for one test alone, in a folder of the test's name.
///
/// # Errors
/// It can be had and does not come up.
pub async fn own_vault(place: Place, test: &str, storage: Storage) -> Result<Had<Vault>> {
    if !had(&VAULT, place, test).await? {
        return Ok(Had::Skipped);
    }
    Ok(Had::Here(start_vault(place, test, storage).await?))
}

/// The object store that the tests of this process share, each with a bucket of its own.
///
/// # Errors
/// It can be had and does not come up.
pub async fn shared_s3(place: Place, test: &str, kind: s3::Kind) -> Result<Had<&'static S3>> {
    static MINIO_HERE: OnceCell<S3> = OnceCell::const_new();
    static VERSITYGW_HERE: OnceCell<S3> = OnceCell::const_new();
    let (part, here, name) = match kind {
        s3::Kind::Minio => (&MINIO, &MINIO_HERE, "minio"),
        s3::Kind::Versitygw => (&VERSITYGW, &VERSITYGW_HERE, "versitygw"),
    };
    if !had(part, place, test).await? {
        return Ok(Had::Skipped);
    }
    Ok(Had::Here(here.get_or_try_init(|| start_s3(place, name, kind)).await?))
}

/// An object store for one test alone, in a folder of the test's name.
///
/// # Errors
/// It can be had and does not come up.
pub async fn own_s3(place: Place, test: &str, kind: s3::Kind) -> Result<Had<S3>> {
    let part = match kind {
        s3::Kind::Minio => &MINIO,
        s3::Kind::Versitygw => &VERSITYGW,
    };
    if !had(part, place, test).await? {
        return Ok(Had::Skipped);
    }
    Ok(Had::Here(start_s3(place, test, kind).await?))
}

/// The Kubernetes that the tests of this process share, each with namespaces of its own.
///
/// # Errors
/// It can be had and does not come up.
pub async fn shared_cluster(place: Place, test: &str) -> Result<Had<&'static Cluster>> {
    static CLUSTER_HERE: OnceCell<Cluster> = OnceCell::const_new();
    if !had(&KUBERNETES, place, test).await? {
        return Ok(Had::Skipped);
    }
    let start = || start_cluster(place, "cluster");
    Ok(Had::Here(CLUSTER_HERE.get_or_try_init(start).await?))
}

/// A Kubernetes for one test alone, which may stop and kill its servers.
///
/// # Errors
/// It can be had and does not come up.
pub async fn own_cluster(place: Place, test: &str) -> Result<Had<Cluster>> {
    if !had(&KUBERNETES, place, test).await? {
        return Ok(Had::Skipped);
    }
    Ok(Had::Here(start_cluster(place, test).await?))
}

async fn start_cluster(place: Place, name: &str) -> Result<Cluster> {
    let settings = kube::Settings {
        folder: fresh(place, name)?,
        program: Some(PathBuf::from(place.program)),
        people: people(),
    };
    Ok(Cluster::start(settings).await?)
}

/// Those whom every cluster knows by a token; it cannot learn of others while it runs.
fn people() -> Vec<kube::KnownPerson> {
    let all = [
        ("alice", &["project-one-members"][..]),
        ("bob", &["project-two-members"]),
        ("olga", &["ambient-auditors"]),
        ("mallory", &[]),
    ];
    let known = |(name, groups): (&str, &[&str])| kube::KnownPerson {
        name: name.to_owned(),
        groups: groups.iter().map(|&group| group.to_owned()).collect(),
    };
    all.map(known).to_vec()
}

async fn start_s3(place: Place, name: &str, kind: s3::Kind) -> Result<S3> {
    let settings = s3::Settings {
        kind,
        folder: fresh(place, name)?,
        program: Some(PathBuf::from(place.program)),
    };
    Ok(S3::start(settings).await?)
}

async fn start_vault(place: Place, name: &str, storage: Storage) -> Result<Vault> {
    let settings = vault::Settings {
        folder: fresh(place, name)?,
        program: Some(PathBuf::from(place.program)),
        storage,
    };
    Ok(Vault::start(settings).await?)
}

/// An empty folder for a test.
///
/// # Errors
/// It cannot be made.
pub fn fresh(place: Place, name: &str) -> Result<PathBuf> {
    let folder = Path::new(place.tmp).join(place.file).join(name);
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// Finds or makes the part; where it cannot be had, says by the test's name that it was skipped.
///
/// # Errors
/// The ledger of skipped tests cannot be written.
pub async fn had(part: &Part, place: Place, test: &str) -> Result<bool> {
    let line = match part.have().await {
        Ok(found) => format!("used {} {} {}", part.name, part.version, found.path.display()),
        Err(error) => {
            let line = format!("skipped {}::{test}: {} cannot be had: {error}", place.file, part.name);
            // Past the capture of a test's output: what was skipped must be seen.
            writeln!(std::io::stderr(), "{}", line.replace('\n', " "))?;
            line
        }
    };
    note(place.tmp, &line)?;
    Ok(line.starts_with("used "))
}

/// The ledger of this run of `cargo test`, which is the parent of every test process.
#[must_use]
pub fn ledger(tmp: &str) -> PathBuf {
    Path::new(tmp).join(format!("real-parts-{}", std::os::unix::process::parent_id()))
}

fn note(tmp: &str, line: &str) -> Result<()> {
    let mut file = OpenOptions::new().create(true).append(true).open(ledger(tmp))?;
    // One write: other processes append to it as well.
    file.write_all(format!("{}\n", line.replace('\n', " ")).as_bytes())?;
    Ok(())
}
