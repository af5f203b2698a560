//! What takes events: a file, the standard output, an HTTP server. Each takes lines, in order, and says once they are its own.

mod file;
mod http;
mod stdout;

use tokio_util::sync::CancellationToken;

use crate::config::SinkKind;

/// One sink.
pub(super) enum Sink {
    File(file::File),
    Stdout(stdout::Stdout),
    Http(http::Http),
}

/// Why lines were not taken. They are sent again.
#[derive(Debug)]
pub(super) struct Failure {
    /// A sentence for the operator, with no secret in it.
    pub(super) why: String,
    /// Whether fewer might be taken.
    pub(super) too_large: bool,
}

impl From<String> for Failure {
    fn from(why: String) -> Self {
        Self { why, too_large: false }
    }
}

impl Sink {
    /// A sink by its settings; it is not asked yet.
    pub(super) fn new(kind: &SinkKind, stop: CancellationToken) -> Result<Self, String> {
        Ok(match kind {
            SinkKind::File(path) => Self::File(file::File(path.clone())),
            SinkKind::Stdout => Self::Stdout(stdout::Stdout(stop)),
            SinkKind::Http { url, ca, token_file } => {
                Self::Http(http::Http::new(url.clone(), ca.as_deref(), token_file.clone())?)
            }
        })
    }

    /// Hands lines over. On success they are the sink's; after a failure some of them may be.
    pub(super) async fn send(&mut self, lines: &[String]) -> Result<(), Failure> {
        let mut body = String::with_capacity(lines.iter().map(|line| line.len() + 1).sum());
        for line in lines {
            body.push_str(line);
            body.push('\n');
        }
        match self {
            Self::File(file) => file.send(body).await,
            Self::Stdout(stdout) => stdout.send(body).await,
            Self::Http(http) => http.send(body).await,
        }
    }
}
