//! The callbacks of the SSH library. They translate: a request becomes a question to [`Admission`], its answer goes
//! to the client at once (answers must keep the order of requests), and what was granted goes to the channel's task.
//! Nothing here dials or starts anything, and nothing waits for anybody; a refused login alone is answered late.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use russh::keys::Certificate;
use russh::server::{Auth, ChannelOpenHandle, Handle, Msg, PublicKeyOffer, Response, VerifiedPublicKey};
use russh::{Channel, ChannelId, ChannelOpenFailure, Pty, Sig};
use tokio::sync::{mpsc, watch};

use super::admission::{Admission, NOT_GRANTED, Resize, Why};
use super::window::{Level, Windows};
use crate::channel::{self, Act, Opening};
use crate::forward::{self, Display, Key, Target, shown};
use crate::process::Size;
use crate::session::Session;

/// The handler of one connection.
pub(crate) struct Handler {
    session: Arc<Session>,
    desks: HashMap<ChannelId, Desk>,
    windows: Windows,
    /// Authentication requests so far.
    attempts: u32,
    /// Channels that we closed before the client did.
    kept: usize,
}

/// A channel as its requests see it.
struct Desk {
    number: u32,
    admission: Admission,
    acts: mpsc::Sender<Act>,
    size: watch::Sender<Size>,
}

/// A callback's error: the library ends the connection.
pub(crate) type Fault = russh::Error;

impl Handler {
    /// Serves this session.
    pub(crate) fn new(session: Arc<Session>) -> Self {
        let windows = Windows::new(Arc::clone(session.inflow()));
        Self {
            session,
            desks: HashMap::new(),
            windows,
            attempts: 0,
            kept: 0,
        }
    }

    /// The one rule of authentication: the login is the granted one. How the client proves itself does not matter.
    ///
    /// For another login the session is ending; the answer waits for that, so that the client hears the reason before
    /// it gives up.
    ///
    /// A client that only ever asks whether a key would do is not counted by the library, so it is counted here.
    async fn judge(&mut self, user: &str) -> Result<Auth, Fault> {
        self.attempts += 1;
        if self.attempts > ATTEMPTS {
            self.refuse(None, "authentication", "too many attempts");
            return Err(Fault::NotAuthenticated);
        }
        if self.session.is_login(user) {
            return Ok(Auth::Accept);
        }
        tokio::time::sleep(REFUSED_AFTER).await;
        Ok(Auth::reject())
    }

    /// Asks the channel's admission and hands on what was granted.
    fn ask(
        &mut self,
        channel: ChannelId,
        what: &str,
        decide: impl FnOnce(&mut Admission, &Session) -> Result<Act, Why>,
    ) -> bool {
        let Some(desk) = self.desks.get_mut(&channel) else {
            return false;
        };
        let verdict = decide(&mut desk.admission, &self.session).and_then(|act| {
            let taken = !matches!(act, Act::Variable { accepted: false, .. });
            // The task of a channel takes everything at once; a full queue is a flood.
            desk.acts
                .try_send(act)
                .map(|()| taken)
                .map_err(|_| "too many requests at once")
        });
        match verdict {
            Ok(taken) => taken,
            Err(why) => {
                self.session.recording().refused(Some(desk.number), what, why);
                if why == NOT_GRANTED {
                    self.session.aside().not_granted(what);
                }
                false
            }
        }
    }

    /// Data came. A client that sends more than its window allows is cut off, as sshd does.
    fn arrived(&mut self, channel: ChannelId, bytes: usize) -> Result<(), Fault> {
        if self.windows.arrived(channel.number(), bytes) {
            return Ok(());
        }
        self.refuse(Some(channel), "data", "more than the window allows");
        Err(Fault::Inconsistent)
    }

    fn refuse(&self, channel: Option<ChannelId>, what: impl Into<String>, why: Why) {
        let number = channel.and_then(|id| self.desks.get(&id)).map(|desk| desk.number);
        self.session.recording().refused(number, what, why);
    }

    async fn refuse_open(&self, reply: ChannelOpenHandle, what: String, why: Why) {
        self.refuse(None, what, why);
        // Does not wait: the answer is queued.
        reply.reject(forward::refusal(why)).await;
    }

    /// Hands a connection that may be tried to a task of its own.
    async fn connect(
        &mut self,
        channel: Channel<Msg>,
        target: Result<Target, Why>,
        what: String,
        reply: ChannelOpenHandle,
        handle: Handle,
    ) {
        self.kept += self.windows.sweep();
        if self.kept >= self.session.most_channels() {
            return self.refuse_open(reply, what, KEPT).await;
        }
        let admitted = target.and_then(|target| Ok((target, self.session.forwards().place()?)));
        let (target, place) = match admitted {
            Ok(admitted) => admitted,
            Err(why) => return self.refuse_open(reply, what, why).await,
        };
        let opening = forward::Opening {
            level: self.level(channel.id()),
            channel,
            reply,
            handle,
        };
        let task = forward::direct(Arc::clone(&self.session), opening, target, place);
        self.session.tasks().spawn(task);
    }

    /// The answer to a request to listen. Why not is only told to who asks for more than yes or no (`ssh -v`).
    fn listens(
        &self,
        session: &mut russh::server::Session,
        what: String,
        bound: Result<(), forward::Reason>,
    ) -> Result<bool, Fault> {
        if let Err(why) = &bound {
            session.debug(true, &format!("{what}: {why}"), "en")?;
            self.session.recording().refused(None, what, why.clone());
        }
        Ok(bound.is_ok())
    }

    /// A new channel's level, known to the window rule.
    fn level(&mut self, channel: ChannelId) -> Arc<Level> {
        let level = Arc::new(Level::new(self.session.inflow()));
        self.windows.open(channel.number(), Arc::clone(&level));
        level
    }
}

fn answer(session: &mut russh::server::Session, channel: ChannelId, granted: bool) -> Result<(), Fault> {
    if granted {
        session.channel_success(channel)
    } else {
        session.channel_failure(channel)
    }
}

impl russh::server::Handler for Handler {
    type Error = Fault;

    async fn auth_none(&mut self, user: &str) -> Result<Auth, Fault> {
        self.judge(user).await
    }

    async fn auth_password(&mut self, user: &str, _password: &str) -> Result<Auth, Fault> {
        self.judge(user).await
    }

    async fn auth_publickey_offered(&mut self, user: &str, _offer: PublicKeyOffer<'_>) -> Result<Auth, Fault> {
        self.judge(user).await
    }

    async fn auth_publickey(&mut self, user: &str, _key: VerifiedPublicKey<'_>) -> Result<Auth, Fault> {
        self.judge(user).await
    }

    async fn auth_openssh_certificate(&mut self, user: &str, _certificate: &Certificate) -> Result<Auth, Fault> {
        self.judge(user).await
    }

    async fn auth_keyboard_interactive<'a>(
        &'a mut self,
        user: &str,
        _submethods: &str,
        _response: Option<Response<'a>>,
    ) -> Result<Auth, Fault> {
        self.judge(user).await
    }

    async fn auth_succeeded(&mut self, _: &mut russh::server::Session) -> Result<(), Fault> {
        self.session.logged_in();
        Ok(())
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        session: &mut russh::server::Session,
    ) -> Result<(), Fault> {
        // Channels whose task has ended are only found out here.
        self.desks.retain(|_, desk| !desk.acts.is_closed());
        self.kept += self.windows.sweep();
        if self.desks.len() >= CHANNELS {
            self.refuse(None, "session", "too many channels are open");
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        }
        if self.kept >= self.session.most_channels() {
            self.refuse(None, "session", KEPT);
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        }
        let (acts, taken) = mpsc::channel(ACTS);
        let (size, sizes) = watch::channel(Size::default());
        let number = self.session.recording().next_channel();
        let level = self.level(channel.id());
        self.desks.insert(
            channel.id(),
            Desk {
                number,
                admission: Admission::default(),
                acts,
                size,
            },
        );
        let opening = Opening {
            channel,
            number,
            reply,
            handle: session.handle(),
            acts: taken,
            size: sizes,
            level,
        };
        self.session
            .tasks()
            .spawn(channel::serve(Arc::clone(&self.session), opening));
        Ok(())
    }

    async fn channel_close(&mut self, channel: ChannelId, _: &mut russh::server::Session) -> Result<(), Fault> {
        self.desks.remove(&channel);
        self.windows.close(channel.number());
        Ok(())
    }

    async fn data(&mut self, channel: ChannelId, data: &[u8], _: &mut russh::server::Session) -> Result<(), Fault> {
        self.arrived(channel, data.len())
    }

    async fn extended_data(
        &mut self,
        channel: ChannelId,
        _: u32,
        data: &[u8],
        _: &mut russh::server::Session,
    ) -> Result<(), Fault> {
        self.arrived(channel, data.len())
    }

    fn adjust_window(&mut self, channel: ChannelId, _: u32) -> u32 {
        self.windows.opened(channel.number())
    }

    async fn pty_request(
        &mut self,
        channel: ChannelId,
        term: &str,
        cols: u32,
        rows: u32,
        width: u32,
        height: u32,
        modes: &[(Pty, u32)],
        session: &mut russh::server::Session,
    ) -> Result<(), Fault> {
        let size = Size::asked(cols, rows, width, height);
        let end = Pty::TTY_OP_END as u8;
        let modes = modes
            .iter()
            .map(|(code, value)| (*code as u8, *value))
            .filter(|(code, _)| *code != end)
            .collect();
        let granted = self.ask(channel, "pty-req", |admission, session| {
            admission.terminal(&session.terms().capabilities, term, size, modes)
        });
        if granted && let Some(desk) = self.desks.get(&channel) {
            desk.size.send_replace(size);
        }
        answer(session, channel, granted)
    }

    async fn window_change_request(
        &mut self,
        channel: ChannelId,
        cols: u32,
        rows: u32,
        width: u32,
        height: u32,
        session: &mut russh::server::Session,
    ) -> Result<(), Fault> {
        let size = Size::asked(cols, rows, width, height);
        let verdict = self.desks.get(&channel).map(|desk| (desk, desk.admission.resize(size)));
        if let Some((desk, Ok(Resize(size)))) = verdict {
            desk.size.send_replace(size);
        }
        let granted = matches!(verdict, Some((_, Ok(_))));
        answer(session, channel, granted)
    }

    async fn env_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        value: &str,
        session: &mut russh::server::Session,
    ) -> Result<(), Fault> {
        let granted = self.ask(channel, "env", |admission, session| {
            admission.variable(session.accept_env(), name, value)
        });
        answer(session, channel, granted)
    }

    async fn shell_request(&mut self, channel: ChannelId, session: &mut russh::server::Session) -> Result<(), Fault> {
        let granted = self.ask(channel, "shell", |admission, session| {
            admission.shell(&session.terms().capabilities)
        });
        answer(session, channel, granted)
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        line: &[u8],
        session: &mut russh::server::Session,
    ) -> Result<(), Fault> {
        let granted = self.ask(channel, "exec", |admission, session| {
            admission.command(&session.terms().capabilities, line)
        });
        answer(session, channel, granted)
    }

    async fn subsystem_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        session: &mut russh::server::Session,
    ) -> Result<(), Fault> {
        let what = format!("subsystem {}", shown(name));
        let granted = self.ask(channel, &what, |admission, session| {
            admission.subsystem(&session.terms().capabilities, name)
        });
        answer(session, channel, granted)
    }

    async fn signal(
        &mut self,
        channel: ChannelId,
        signal: Sig,
        session: &mut russh::server::Session,
    ) -> Result<(), Fault> {
        let name = signal_name(&signal);
        let what = format!("signal {}", shown(name));
        let granted = self.ask(channel, &what, |admission, _| admission.signal(name));
        answer(session, channel, granted)
    }

    async fn x11_request(
        &mut self,
        channel: ChannelId,
        single: bool,
        protocol: &str,
        cookie: &str,
        screen: u32,
        session: &mut russh::server::Session,
    ) -> Result<(), Fault> {
        let granted = self.ask(channel, "x11-req", |admission, session| {
            let asked = || Display::new(single, protocol, cookie, screen);
            admission.display(&session.terms().capabilities, asked)
        });
        answer(session, channel, granted)
    }

    async fn agent_request(&mut self, channel: ChannelId, session: &mut russh::server::Session) -> Result<bool, Fault> {
        let granted = self.session.terms().capabilities.agent_forwarding;
        if granted {
            self.session.forwards().lend_agent(session.handle());
        } else {
            self.refuse(Some(channel), "auth-agent-req", NOT_GRANTED);
        }
        Ok(granted)
    }

    async fn channel_open_confirmation(
        &mut self,
        channel: ChannelId,
        _: u32,
        _: u32,
        _: &mut russh::server::Session,
    ) -> Result<(), Fault> {
        self.kept += self.windows.sweep();
        let level = self.level(channel);
        self.session.forwards().levels().confirmed(channel.number(), level);
        Ok(())
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host: &str,
        port: u32,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        session: &mut russh::server::Session,
    ) -> Result<(), Fault> {
        let target = self.session.forwards().host(host, port);
        let what = format!("direct-tcpip {}:{port}", shown(host));
        self.connect(channel, target, what, reply, session.handle()).await;
        Ok(())
    }

    async fn channel_open_direct_streamlocal(
        &mut self,
        channel: Channel<Msg>,
        path: &str,
        reply: ChannelOpenHandle,
        session: &mut russh::server::Session,
    ) -> Result<(), Fault> {
        let target = self.session.forwards().path(path);
        let what = format!("direct-streamlocal {}", shown(path));
        self.connect(channel, target, what, reply, session.handle()).await;
        Ok(())
    }

    async fn channel_open_x11(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut russh::server::Session,
    ) -> Result<(), Fault> {
        self.refuse_open(reply, "x11".into(), CLIENT_OPENS).await;
        Ok(())
    }

    async fn channel_open_forwarded_tcpip(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut russh::server::Session,
    ) -> Result<(), Fault> {
        self.refuse_open(reply, "forwarded-tcpip".into(), CLIENT_OPENS).await;
        Ok(())
    }

    async fn tcpip_forward(
        &mut self,
        address: &str,
        port: &mut u32,
        session: &mut russh::server::Session,
    ) -> Result<bool, Fault> {
        // Binding is done at once; who hangs in a file system is not waited for long.
        let bound = forward::listen_port(&self.session, session.handle(), address, *port).await;
        let what = format!("tcpip-forward {}:{port}", shown(address));
        self.listens(session, what, bound.map(|bound| *port = bound.into()))
    }

    async fn cancel_tcpip_forward(
        &mut self,
        address: &str,
        port: u32,
        _: &mut russh::server::Session,
    ) -> Result<bool, Fault> {
        let Ok(port) = u16::try_from(port) else {
            return Ok(false);
        };
        Ok(forward::cancel(&self.session, &Key::Port(address.to_owned(), port)).await)
    }

    async fn streamlocal_forward(&mut self, path: &str, session: &mut russh::server::Session) -> Result<bool, Fault> {
        let bound = forward::listen_path(&self.session, session.handle(), path).await;
        self.listens(session, format!("streamlocal-forward {}", shown(path)), bound)
    }

    async fn cancel_streamlocal_forward(&mut self, path: &str, _: &mut russh::server::Session) -> Result<bool, Fault> {
        Ok(forward::cancel(&self.session, &Key::Path(path.into())).await)
    }
}

fn signal_name(signal: &Sig) -> &str {
    match signal {
        Sig::ABRT => "ABRT",
        Sig::ALRM => "ALRM",
        Sig::FPE => "FPE",
        Sig::HUP => "HUP",
        Sig::ILL => "ILL",
        Sig::INT => "INT",
        Sig::KILL => "KILL",
        Sig::PIPE => "PIPE",
        Sig::QUIT => "QUIT",
        Sig::SEGV => "SEGV",
        Sig::TERM => "TERM",
        Sig::USR1 => "USR1",
        Sig::Custom(name) => name,
    }
}

/// Longer than a session takes to end.
const REFUSED_AFTER: Duration = Duration::from_secs(1);
/// Session channels at once.
const CHANNELS: usize = 256;
/// Authentication requests of one connection. OpenSSH's agent may hold many keys; nobody holds so many.
const ATTEMPTS: u32 = 128;
/// Requests of a channel that may wait for its task: every variable, and the rest.
const ACTS: usize = 72;
const KEPT: Why = "the connection has had as many channels as it may";
const CLIENT_OPENS: Why = "a client does not open this kind of channel";
