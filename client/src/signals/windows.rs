//! Control events of a Windows console.
//!
//! After the event of a closed window or of an end of the session, Windows ends this process within seconds, whatever it
//! does; until then it leaves in order.

use std::task::{Context, Poll};

use tokio::signal::windows::{
    CtrlBreak, CtrlC, CtrlClose, CtrlLogoff, CtrlShutdown, ctrl_break, ctrl_c, ctrl_close, ctrl_logoff, ctrl_shutdown,
};

/// Those that ask this program to leave.
#[derive(Debug)]
pub(super) struct Sources {
    // Without a handler the event simply ends this process.
    interrupt: Option<CtrlC>,
    stop: Option<CtrlBreak>,
    window: Option<CtrlClose>,
    session: Option<CtrlLogoff>,
    computer: Option<CtrlShutdown>,
}

impl Sources {
    pub(super) fn new() -> Self {
        Self {
            interrupt: ctrl_c().ok(),
            stop: ctrl_break().ok(),
            window: ctrl_close().ok(),
            session: ctrl_logoff().ok(),
            computer: ctrl_shutdown().ok(),
        }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let polled = [
            self.interrupt.as_mut().map(|source| source.poll_recv(cx)),
            self.stop.as_mut().map(|source| source.poll_recv(cx)),
            self.window.as_mut().map(|source| source.poll_recv(cx)),
            self.session.as_mut().map(|source| source.poll_recv(cx)),
            self.computer.as_mut().map(|source| source.poll_recv(cx)),
        ];
        if polled
            .into_iter()
            .flatten()
            .any(|polled| polled == Poll::Ready(Some(())))
        {
            return Poll::Ready(());
        }
        Poll::Pending
    }
}
