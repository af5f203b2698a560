//! Pipes and sockets, read and written by the event loop itself, non-blocking.
//!
//! Tokio's own standard streams would move every byte through another thread. The flag is shared with whoever else has the
//! same end of the pipe, so it is put back at the end. Terminals and files get tokio's streams.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileTypeExt as _;
use std::pin::Pin;
use std::task::{Context, Poll};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixStream, unix::pipe};

/// Standard input.
#[derive(Debug)]
pub(in super::super) enum Input {
    Direct(Direct),
    Threaded(tokio::io::Stdin),
}

/// Standard output.
#[derive(Debug)]
pub(in super::super) enum Output {
    Direct(Direct),
    Threaded(tokio::io::Stdout),
}

/// Both; at most once in a process.
pub(in super::super) fn open() -> io::Result<(Input, Output)> {
    let input = Direct::new(io::stdin().as_fd(), Way::In)?;
    let output = Direct::new(io::stdout().as_fd(), Way::Out)?;
    Ok((
        input.map_or_else(|| Input::Threaded(tokio::io::stdin()), Input::Direct),
        output.map_or_else(|| Output::Threaded(tokio::io::stdout()), Output::Direct),
    ))
}

impl Output {
    /// Closes standard output itself, so that whoever reads it sees its end now and not when this process ends.
    pub(in super::super) fn close(self) {
        drop(self);
        if let Ok(nothing) = File::options().write(true).open("/dev/null") {
            // What cannot be closed now is closed by the end of the process.
            let _ = nix::unistd::dup2_stdout(nothing);
        }
    }
}

impl AsyncRead for Input {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Direct(input) => input.poll_read(cx, to),
            Self::Threaded(input) => Pin::new(input).poll_read(cx, to),
        }
    }
}

impl AsyncWrite for Output {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Direct(output) => output.poll_write(cx, bytes),
            Self::Threaded(output) => Pin::new(output).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Direct(_) => Poll::Ready(Ok(())),
            Self::Threaded(output) => Pin::new(output).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }
}

/// A pipe or a socket, non-blocking while this lives.
#[derive(Debug)]
pub(in super::super) struct Direct {
    end: End,
    /// Puts the flags back; `None` where somebody else had set the flag already.
    _flags: Option<Flags>,
}

#[derive(Debug)]
enum End {
    Reader(pipe::Receiver),
    Writer(pipe::Sender),
    Socket(UnixStream),
}

/// Which direction is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Way {
    In,
    Out,
}

impl Direct {
    /// Takes what lies behind `fd`, if it is a pipe or a socket.
    pub(in super::super) fn new(fd: BorrowedFd<'_>, way: Way) -> io::Result<Option<Self>> {
        let file = File::from(fd.try_clone_to_owned()?);
        let kind = file.metadata()?.file_type();
        if !kind.is_fifo() && !kind.is_socket() {
            return Ok(None);
        }
        let flags = Flags::set(fd.try_clone_to_owned()?)?;
        #[cfg(target_os = "linux")]
        if kind.is_fifo() {
            // More room, fewer turns; what a system does not grant is no loss.
            let _ = fcntl(&file, FcntlArg::F_SETPIPE_SZ(PIPE));
        }
        let end = match way {
            _ if kind.is_socket() => End::Socket(UnixStream::from_std(OwnedFd::from(file).into())?),
            Way::In => End::Reader(pipe::Receiver::from_file(file)?),
            Way::Out => End::Writer(pipe::Sender::from_file(file)?),
        };
        Ok(Some(Self { end, _flags: flags }))
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.end {
            End::Reader(pipe) => Pin::new(pipe).poll_read(cx, to),
            End::Socket(socket) => Pin::new(socket).poll_read(cx, to),
            End::Writer(_) => Poll::Ready(Err(io::ErrorKind::Unsupported.into())),
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.end {
            End::Writer(pipe) => Pin::new(pipe).poll_write(cx, bytes),
            End::Socket(socket) => Pin::new(socket).poll_write(cx, bytes),
            End::Reader(_) => Poll::Ready(Err(io::ErrorKind::Unsupported.into())),
        }
    }
}

/// The non-blocking flag of somebody's end, set by us.
#[derive(Debug)]
struct Flags(OwnedFd);

impl Flags {
    fn set(fd: OwnedFd) -> io::Result<Option<Self>> {
        let flags = OFlag::from_bits_retain(fcntl(&fd, FcntlArg::F_GETFL)?);
        if flags.contains(OFlag::O_NONBLOCK) {
            return Ok(None);
        }
        fcntl(&fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        Ok(Some(Self(fd)))
    }
}

impl Drop for Flags {
    fn drop(&mut self) {
        if let Ok(flags) = fcntl(&self.0, FcntlArg::F_GETFL) {
            let flags = OFlag::from_bits_retain(flags) - OFlag::O_NONBLOCK;
            let _ = fcntl(&self.0, FcntlArg::F_SETFL(flags));
        }
    }
}

#[cfg(target_os = "linux")]
const PIPE: i32 = 256 * 1024;

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    fn is_nonblocking(fd: BorrowedFd<'_>) -> bool {
        OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL).unwrap()).contains(OFlag::O_NONBLOCK)
    }

    #[tokio::test]
    async fn both_directions_of_one_socket_and_the_flag_is_put_back() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let input = Direct::new(ours.as_fd(), Way::In).unwrap().unwrap();
        let output = Direct::new(ours.as_fd(), Way::Out).unwrap().unwrap();
        assert!(is_nonblocking(ours.as_fd()));
        let (mut input, mut output) = (Input::Direct(input), Output::Direct(output));
        let payload = vec![7; 1 << 20];
        theirs.set_nonblocking(true).unwrap();
        let mut theirs = tokio::net::UnixStream::from_std(theirs).unwrap();
        let mut back = vec![0; payload.len()];
        let (sent, got) = tokio::join!(output.write_all(&payload), theirs.read_exact(&mut back));
        sent.unwrap();
        got.unwrap();
        assert_eq!(back, payload);
        theirs.write_all(b"hello").await.unwrap();
        drop(theirs);
        let mut text = String::new();
        input.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "hello");
        assert!(output.write_all(b"x").await.is_err(), "nobody reads any more");
        drop((input, output));
        assert!(!is_nonblocking(ours.as_fd()));
    }

    #[tokio::test]
    async fn a_pipe_carries_its_end() {
        let (reader, writer) = io::pipe().unwrap();
        let input = Direct::new(reader.as_fd(), Way::In).unwrap().unwrap();
        let output = Direct::new(writer.as_fd(), Way::Out).unwrap().unwrap();
        let (mut input, mut output) = (Input::Direct(input), Output::Direct(output));
        output.write_all(b"bytes").await.unwrap();
        drop(output);
        assert!(!is_nonblocking(writer.as_fd()));
        drop(writer);
        let mut text = String::new();
        input.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "bytes");
    }

    #[tokio::test]
    async fn files_are_left_to_others() {
        let file = tempfile::tempfile().unwrap();
        assert!(Direct::new(file.as_fd(), Way::In).unwrap().is_none());
        assert!(!is_nonblocking(file.as_fd()));
    }
}
