//! Pipes, read and written each by a thread.
//!
//! OpenSSH for Windows gives named pipes that were opened for overlapped operations. The standard library waits for each
//! operation of such a handle to be over; so that one never takes the other's end for its own, at most one is under way
//! on each handle. Nothing here goes through the standard library's own standard streams, which hold back what follows
//! the last line end.

#![expect(
    unsafe_code,
    reason = "a standard handle can be closed through the C interface alone"
)]

use std::fs::File;
use std::io;
use std::os::windows::io::{AsHandle as _, AsRawHandle as _, BorrowedHandle};
use std::pin::Pin;
use std::ptr::null_mut;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use windows_sys::Win32::Foundation::CloseHandle;
use windows_sys::Win32::System::Console::{STD_OUTPUT_HANDLE, SetStdHandle};

/// Standard input.
#[derive(Debug)]
pub(in super::super) struct Input(tokio::fs::File);

/// Standard output.
#[derive(Debug)]
pub(in super::super) struct Output(tokio::fs::File);

/// Both; at most once in a process.
pub(in super::super) fn open() -> io::Result<(Input, Output)> {
    let file = |handle: BorrowedHandle<'_>| {
        handle
            .try_clone_to_owned()
            .map(File::from)
            .map(tokio::fs::File::from_std)
    };
    Ok((
        Input(file(io::stdin().as_handle())?),
        Output(file(io::stdout().as_handle())?),
    ))
}

impl Output {
    /// Closes standard output itself, so that whoever reads it sees its end now and not when this process ends.
    pub(in super::super) fn close(self) {
        drop(self);
        let handle = io::stdout().as_raw_handle();
        // `2>&1` may give one handle for both, and there is still something to say on standard error.
        if handle.is_null() || handle == io::stderr().as_raw_handle() {
            return;
        }
        // SAFETY: nobody finds the handle any more once it is not the standard one, and nobody writes to it now: this
        // program writes nothing to standard output while it carries a session, but through the value dropped above.
        unsafe {
            if SetStdHandle(STD_OUTPUT_HANDLE, null_mut()) != 0 {
                CloseHandle(handle);
            }
        }
    }
}

impl AsyncRead for Input {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_read(cx, to)
    }
}

impl AsyncWrite for Output {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::os::windows::fs::OpenOptionsExt as _;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::windows::named_pipe::{NamedPipeServer, PipeMode, ServerOptions};
    use windows_sys::Win32::Storage::FileSystem::FILE_FLAG_OVERLAPPED;

    use super::*;

    /// A pipe as OpenSSH for Windows makes it: named, small, both ends opened for overlapped operations. Its own end,
    /// and the one that it gives to the program.
    async fn pipe(what: &str) -> (NamedPipeServer, tokio::fs::File) {
        let name = format!(r"\\.\pipe\doorward-test-{what}-{}", std::process::id());
        let mut options = ServerOptions::new();
        options
            .pipe_mode(PipeMode::Byte)
            .in_buffer_size(4096)
            .out_buffer_size(4096);
        let theirs = options.create(&name).unwrap();
        let mut options = File::options();
        options.read(true).write(true).custom_flags(FILE_FLAG_OVERLAPPED);
        let ours = options.open(&name).unwrap();
        theirs.connect().await.unwrap();
        (theirs, tokio::fs::File::from_std(ours))
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn overlapped_pipes_carry_every_byte_both_ways_at_once_and_the_end() {
        let ((mut to_us, input), (mut from_us, output)) = (pipe("in").await, pipe("out").await);
        let (mut input, mut output) = (Input(input), Output(output));
        let payload: Vec<u8> = (0..4_000_000_u32)
            .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        let send = async {
            to_us.write_all(&payload).await.unwrap();
            to_us.flush().await.unwrap();
            to_us
        };
        let pass = async {
            let mut buffer = vec![0; 128 * 1024];
            let mut left = payload.len();
            while left > 0 {
                let count = input.read(&mut buffer).await.unwrap();
                assert!(count > 0, "an end before the end");
                output.write_all(&buffer[..count]).await.unwrap();
                output.flush().await.unwrap();
                left -= count;
            }
            (input, output)
        };
        let receive = async {
            let mut got = vec![0; payload.len()];
            from_us.read_exact(&mut got).await.unwrap();
            got
        };
        let (to_us, (mut input, output), got) = tokio::join!(send, pass, receive);
        assert!(got == payload);
        drop((to_us, output));
        assert_eq!(
            input.read(&mut [0; 16]).await.unwrap(),
            0,
            "the end of input is an end and no error"
        );
        assert!(
            from_us.read(&mut [0; 16]).await.is_ok_and(|count| count == 0),
            "the end of output is seen"
        );
    }

    const CHILD: &str = "DOORWARD_TEST_CLOSES_ITS_OUTPUT";

    /// It is a process's own standard output that is closed, so this is done in another.
    #[tokio::test]
    async fn the_end_of_standard_output_is_seen_while_the_program_lives() {
        if std::env::var_os(CHILD).is_some() {
            let (mut input, output) = open().unwrap();
            output.close();
            input.read_to_end(&mut Vec::new()).await.unwrap();
            return;
        }
        let name = "connect::stdio::windows::tests::the_end_of_standard_output_is_seen_while_the_program_lives";
        let mut child = tokio::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(CHILD, "1")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let (mut said, mut output) = (Vec::new(), child.stdout.take().unwrap());
        let patience = std::time::Duration::from_secs(30);
        let ended = tokio::time::timeout(patience, output.read_to_end(&mut said)).await;
        ended.expect("an end").unwrap();
        assert!(String::from_utf8_lossy(&said).contains("running 1 test"), "{said:?}");
        assert!(child.try_wait().unwrap().is_none(), "it lives until its input ends");
        drop(child.stdin.take());
        assert!(child.wait().await.unwrap().success());
    }
}
