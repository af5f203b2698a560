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
