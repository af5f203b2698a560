//! The command line of what reads recordings: lists, replay, verification, export.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::duration;

#[derive(Debug, Args)]
pub(crate) struct SessionsArgs {
    #[command(subcommand)]
    pub(crate) command: Option<SessionsCommand>,
    #[command(flatten)]
    pub(crate) list: ListArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SessionsCommand {
    /// List recorded sessions, newest first
    Ls(ListArgs),
    /// Show what one session did, from its recording
    #[command(
        after_help = "Fetches the recording, verifies it and lists, channel by channel: commands with exit code \
        and bytes, files with their SHA-256, connections with their addresses, and what was refused or is missing. What \
        the session wrote is escaped.\n\n\
        Example:\n  \
        doorward sessions show ID --json | jq '.channels[].acts[] | select(.act == \"file-closed\")'\n\n\
        JSON, one object: session, user, workspace, workspace-uid, login, started, ended, outcome, reason, record-bytes, \
        client-address, files, agent-version, serial, terms, terms-text, end, verification, channels, acts, coverage, \
        unknown-events, left-out. A channel: channel, kind, asked, at-ms, closed-ms, runs, command, subsystem, \
        duration-ms, streams, exit, terminal, forward, acts. An act: at-ms, act (environment, signal, file-operation, \
        file-closed, folder-listed, forward-failed, listener-opened, listener-closed, refused, gap, paused, masked, masks, ide-server) and what belongs to \
        it. Bytes that are not UTF-8 are there with U+FFFD, and as they were in NAME-hex. \
        docs/sessions.md has the whole.\n\n\
        Exit code 10 when the recording is not whole; what can be read of it is listed all the same."
    )]
    Show {
        /// The session
        id: uuid::Uuid,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only sessions of this person
    #[arg(long)]
    pub(crate) user: Option<String>,
    /// Only sessions in this workspace
    #[arg(long)]
    pub(crate) workspace: Option<String>,
    /// At most so many, from 1 to 1000
    #[arg(long, value_name = "N", value_parser = limit)]
    pub(crate) limit: Option<usize>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Print CSV, with times in UTC and sizes in bytes; a cell that a spreadsheet would take for a formula begins with '
    #[arg(long, conflicts_with = "json")]
    pub(crate) csv: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// A session, or the folder of a recording
    #[arg(value_name = "ID|FOLDER")]
    pub(crate) recording: OsString,
    /// How many times as fast
    #[arg(long, value_name = "N", default_value = "1", value_parser = speed)]
    pub(crate) speed: f64,
    /// The longest pause
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = duration)]
    pub(crate) max_pause: Duration,
    /// Begin at this time of the recording, with the screen as it was
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration, hide_default_value = true)]
    pub(crate) at: Duration,
    /// Write exactly the recorded bytes, whatever they do to a terminal
    #[arg(long)]
    pub(crate) raw: bool,
    /// Which channel, where the session had several
    #[arg(long, value_name = "N")]
    pub(crate) channel: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// Sessions; or folders of recordings, stores, logs and journals; or bundles
    #[arg(value_name = "ID|FOLDER|BUNDLE", required_unless_present = "all")]
    pub(crate) recordings: Vec<OsString>,
    /// Every session that you may see, and those that the gateway's log names and nobody has
    #[arg(long)]
    pub(crate) all: bool,
    /// Write one session with all that proves it into this file, which anybody can check
    #[arg(long, value_name = "FILE", conflicts_with = "all")]
    pub(crate) bundle: Option<PathBuf>,
    /// A file with the CA keys to trust
    #[arg(long, value_name = "FILE")]
    pub(crate) trust: Option<PathBuf>,
    /// Accept a session that has not ended yet
    #[arg(long)]
    pub(crate) allow_open: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// A session, or the folder of a recording
    #[arg(value_name = "ID|FOLDER")]
    pub(crate) recording: OsString,
    /// The format
    #[arg(long, value_enum)]
    pub(crate) format: Format,
    /// Where to write; standard output if left out
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Which channel, where the session had several
    #[arg(long, value_name = "N")]
    pub(crate) channel: Option<u32>,
}

/// What a recording can be written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// asciinema's format, version 2
    #[value(name = "asciicast", alias = "asciicast-v2")]
    AsciicastV2,
    /// asciinema's format, version 3
    #[value(name = "asciicast3", alias = "asciicast-v3")]
    AsciicastV3,
    /// What one channel showed, as plain text
    Text,
    /// Every event, one JSON object a line
    Jsonl,
    /// The bytes of the channel's output
    Raw,
}

fn speed(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(speed) if (0.01..=1000.0).contains(&speed) => Ok(speed),
        _ => Err("a number from 0.01 to 1000".to_owned()),
    }
}

/// How many sessions the gateway lists at once.
fn limit(text: &str) -> Result<usize, String> {
    let limit = text.parse().ok().filter(|limit| (1..=1000).contains(limit));
    limit.ok_or_else(|| "it must be a number from 1 to 1000".to_owned())
}
