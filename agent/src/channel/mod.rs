//! Channels: what was granted in one is done here, by one task per channel that always drains its reader.

mod inlet;
mod pump;
mod run;
mod sftp;
mod shell;

pub(crate) use inlet::Inlet;
pub(crate) use shell::{Act, Opening, SFTP, serve};
