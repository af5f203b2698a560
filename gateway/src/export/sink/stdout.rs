//! The gateway's standard output. Nobody may read it: it is waited for in small pieces, and never past the gateway's end.

use std::io;
use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio_util::sync::CancellationToken;

use super::Failure;

/// The standard output, until the gateway closes.
pub(in crate::export) struct Stdout(pub(super) CancellationToken);

impl Stdout {
    /// Writes lines.
    pub(super) async fn send(&self, body: String) -> Result<(), Failure> {
        let stop = self.0.clone();
        let done = tokio::task::spawn_blocking(move || write(io::stdout().as_fd(), body.as_bytes(), &stop)).await;
        let done = done.map_err(io::Error::other).and_then(|done| done);
        done.map_err(|error| Failure::from(format!("the standard output cannot be written: {error}")))
    }
}

fn write(to: impl AsFd, mut bytes: &[u8], stop: &CancellationToken) -> io::Result<()> {
    while !bytes.is_empty() {
        if stop.is_cancelled() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let mut place = [PollFd::new(to.as_fd(), PollFlags::POLLOUT)];
        match poll(&mut place, PollTimeout::from(100_u8)) {
            Ok(0) | Err(nix::errno::Errno::EINTR) => continue,
            ready => ready?,
        };
        // A pipe that is ready takes this much without a wait (POSIX, PIPE_BUF).
        let piece = bytes.get(..bytes.len().min(PIECE)).unwrap_or_default();
        let written = nix::unistd::write(&to, piece)?;
        bytes = bytes.get(written..).unwrap_or_default();
    }
    Ok(())
}

const PIECE: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_does_not_read_keeps_nobody() {
        let (reader, writer) = std::io::pipe().unwrap();
        let stop = CancellationToken::new();
        let stopping = stop.clone();
        // More than a pipe holds.
        let writing = std::thread::spawn(move || write(&writer, &vec![b'x'; 1 << 20], &stopping));
        stop.cancel();
        assert!(writing.join().unwrap().is_err());
        drop(reader);
        let (mut reader, writer) = std::io::pipe().unwrap();
        let writing = std::thread::spawn(move || write(&writer, &vec![b'x'; 1 << 20], &CancellationToken::new()));
        let mut all = Vec::new();
        io::Read::read_to_end(&mut reader, &mut all).unwrap();
        writing.join().unwrap().unwrap();
        assert_eq!(all.len(), 1 << 20);
    }
}
