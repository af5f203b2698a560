//! What the API server may make us wait for and keep: a deadline for each answer, a bound for each body.
//!
//! A watch has no last byte. Its head has the deadline, each of its lines the bound; that it is alive is judged by whoever
//! watches. Everything else is whole within the deadline, or an error.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use ::kube::client::Body as RequestBody;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::{Body, Frame};
use tokio::time::Sleep;
use tower::{BoxError, Layer, Service};

/// No answer within this time.
#[derive(Debug, thiserror::Error)]
#[error("no answer within {0:?}")]
pub(super) struct Late(pub(super) Duration);

/// More than is taken.
#[derive(Debug, thiserror::Error)]
#[error("it is longer than {0} bytes")]
pub(super) struct TooLong(pub(super) usize);

/// Puts the bounds around a client.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// How long an answer may take.
    pub(super) timeout: Duration,
}

/// A client within its bounds.
#[derive(Debug, Clone)]
pub(super) struct Bounded<S> {
    inner: S,
    bounds: Bounds,
}

impl<S> Layer<S> for Bounds {
    type Service = Bounded<S>;

    fn layer(&self, inner: S) -> Bounded<S> {
        Bounded { inner, bounds: *self }
    }
}

type Answer = Response<UnsyncBoxBody<Bytes, BoxError>>;

impl<S, B> Service<Request<RequestBody>> for Bounded<S>
where
    S: Service<Request<RequestBody>, Response = Response<B>, Error = BoxError>,
    S::Future: Send + 'static,
    B: Body<Data = Bytes, Error = BoxError> + Send + Unpin + 'static,
{
    type Response = Answer;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<RequestBody>) -> Self::Future {
        let timeout = self.bounds.timeout;
        let watches = request.uri().query().is_some_and(is_watch);
        let deadline = tokio::time::Instant::now() + timeout;
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = tokio::time::timeout_at(deadline, answer)
                .await
                .map_err(|_| Late(timeout))??;
            let streams = watches && answer.status().is_success();
            Ok(answer.map(|inner| {
                UnsyncBoxBody::new(BoundedBody {
                    inner,
                    seen: 0,
                    most: if streams { LONGEST_LINE } else { LONGEST_BODY },
                    by_line: streams,
                    deadline: (!streams).then(|| (Box::pin(tokio::time::sleep_until(deadline)), timeout)),
                })
            }))
        })
    }
}

fn is_watch(query: &str) -> bool {
    query.split('&').any(|pair| matches!(pair, "watch=true" | "watch=1"))
}

struct BoundedBody<B> {
    inner: B,
    /// Bytes of the body, or of its present line.
    seen: usize,
    most: usize,
    by_line: bool,
    deadline: Option<(Pin<Box<Sleep>>, Duration)>,
}

impl<B> BoundedBody<B> {
    fn count(&mut self, bytes: &[u8]) -> Result<(), TooLong> {
        let newline = match self.by_line {
            true => bytes.iter().rposition(|byte| *byte == b'\n'),
            false => None,
        };
        // What precedes a newline is bounded by the part that came at once, and by what was counted before.
        self.seen = match newline {
            Some(at) => bytes.len() - at - 1,
            None => self.seen + bytes.len(),
        };
        match self.seen <= self.most {
            true => Ok(()),
            false => Err(TooLong(self.most)),
        }
    }
}

impl<B> Body for BoundedBody<B>
where
    B: Body<Data = Bytes, Error = BoxError> + Unpin,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some((sleep, timeout)) = &mut self.deadline
            && sleep.as_mut().poll(context).is_ready()
        {
            return Poll::Ready(Some(Err(Late(*timeout).into())));
        }
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(context));
        Poll::Ready(frame.map(|frame| {
            let frame = frame?;
            if let Some(bytes) = frame.data_ref() {
                self.count(bytes)?;
            }
            Ok(frame)
        }))
    }
}

/// A page of 500 pods has a tenth of this.
const LONGEST_BODY: usize = 64 * 1024 * 1024;
/// An object has at most 1.5 MiB where the server stores it.
const LONGEST_LINE: usize = 8 * 1024 * 1024;
