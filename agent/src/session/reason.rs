//! Why a session ended: one value, and what each side is told of it.

use doorward_wire::{Closed, DriverError, End, RECORDING_UNAVAILABLE};

use crate::process::Ending;

/// Why a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reason {
    /// The client closed the connection.
    ClientLeft,
    /// The client broke the SSH protocol, or its stream did.
    Protocol(String),
    /// Nobody logged in in time.
    LoginDeadline,
    /// Another login was asked for: (asked, granted).
    OtherLogin(String, String),
    /// The session lasted as long as it may.
    Longest,
    /// It cannot be recorded any longer, and why.
    RecordLost(String),
    /// The agent stops; the sentence says why.
    Stopping(String),
    /// The gateway said the end.
    Gateway(End),
    /// The stream to the gateway broke.
    LinkLost(String),
}

impl Reason {
    /// What the end of the stream says, where that came first.
    pub(super) fn of_stream(ended: &Result<Closed, DriverError>) -> Self {
        match ended {
            Ok(Closed::Heard(end)) if end.exit != 0 => Self::Gateway(end.clone()),
            Ok(_) => Self::ClientLeft,
            Err(error) => Self::LinkLost(error.to_string()),
        }
    }

    /// A word from a closed set; a gateway's own word is passed on.
    pub(super) fn code(&self) -> &str {
        match self {
            Self::ClientLeft => "client-left",
            Self::Protocol(_) => "protocol",
            Self::LoginDeadline => "login-deadline",
            Self::OtherLogin(..) => "other-login",
            Self::Longest => "longest",
            Self::RecordLost(_) => "record-lost",
            Self::Stopping(_) => "agent-stopping",
            Self::Gateway(end) => &end.code,
            Self::LinkLost(_) => "link-lost",
        }
    }

    /// A sentence for people.
    pub(super) fn text(&self) -> String {
        match self {
            Self::ClientLeft => "the client closed the connection".to_owned(),
            Self::Protocol(error) => format!("the SSH connection failed: {error}"),
            Self::LoginDeadline => "nobody logged in in time".to_owned(),
            Self::OtherLogin(asked, granted) => {
                format!("this session is granted to the login '{granted}', not '{asked}'")
            }
            Self::Longest => "the session has lasted as long as it may".to_owned(),
            Self::RecordLost(lost) => {
                format!("this session must be recorded and the recording cannot be stored: {lost}")
            }
            Self::Stopping(text) => text.clone(),
            Self::Gateway(end) => end.text.clone(),
            Self::LinkLost(error) => format!("the stream to the gateway broke: {error}"),
        }
    }

    /// What the client's program is told: exit code, word, sentence.
    pub(super) fn end(&self) -> End {
        let exit = match self {
            Self::ClientLeft => 0,
            Self::OtherLogin(..) => 77,
            Self::RecordLost(_) => RECORDING_UNAVAILABLE,
            Self::Gateway(end) => end.exit,
            _ => 255,
        };
        // an end in order needs no word on the user's terminal
        let text = if exit == 0 { String::new() } else { self.text() };
        End::new(exit, self.code(), text)
    }

    /// What becomes of processes: where somebody's authority ended the session, nothing lives on.
    pub(super) fn ending(&self, usual: Ending) -> Ending {
        match self {
            Self::Longest | Self::RecordLost(_) | Self::Stopping(_) => Ending::Kill,
            Self::Gateway(end)
                if ENDED_ON_PURPOSE.contains(&end.code.as_str()) || end.exit == RECORDING_UNAVAILABLE =>
            {
                Ending::Kill
            }
            _ => usual,
        }
    }
}

/// What a gateway says when somebody, or the grant, ended the session; otherwise the client is merely gone.
const ENDED_ON_PURPOSE: [&str; 4] = ["killed", "locked", "revoked", "too-long"];

#[cfg(test)]
mod tests {
    use super::*;

    /// Who is thrown out leaves nothing behind, and the page for people says so.
    #[test]
    fn what_ends_by_authority_leaves_nothing_behind() {
        let page = include_str!("../../../docs/sessions.md");
        let promised = page
            .lines()
            .find(|line| line.contains("nothing of the session lives on"));
        for code in [
            "killed",
            "locked",
            "revoked",
            "too-long",
            "client-gone",
            "client-silent",
            "gateway-stops",
        ] {
            let kills = Reason::Gateway(End::new(255, code, "")).ending(Ending::Leave) == Ending::Kill;
            assert_eq!(
                kills,
                promised.is_some_and(|line| line.contains(&format!("`{code}`"))),
                "{code}"
            );
        }
        assert_eq!(
            Reason::Gateway(End::new(RECORDING_UNAVAILABLE, "record-store", "")).ending(Ending::Leave),
            Ending::Kill
        );
        let lost = Reason::RecordLost(String::new());
        assert_eq!(lost.ending(Ending::Leave), Ending::Kill);
        assert!(page.contains(&format!(
            "`{}` | {RECORDING_UNAVAILABLE} | {RECORDING_UNAVAILABLE} |",
            lost.code()
        )));
    }
}
