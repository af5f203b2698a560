//! Whose token this is, where the token is a person's and nobody but the API server can read it (TokenReview).
//!
//! [`super::review`] asks the same of pods. What the server answers is handed on as it said it; who of them may come in is not
//! decided here.

use std::{fmt, time::Duration};

use ::kube::Client;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewStatus};

use super::{KubeError, ask::Ask, review::question, rights::Subject};
use crate::workspace::line;

/// Why the API server vouches for nobody. The texts hold no part of the token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotTaken {
    /// It does not take the token.
    #[error("the API server does not take the token: {0}")]
    Refused(String),
    /// It takes it, for others.
    #[error("the API server takes the token, and for none of the configured audiences")]
    Audience,
}

/// Asks the API server about tokens of people. Clones share their bounds.
#[derive(Clone)]
pub(crate) struct People {
    ask: Ask<TokenReview>,
    audiences: Vec<String>,
}

impl People {
    /// Asks through this client about tokens for one of these audiences, for the server itself if there are none; waits so long
    /// for an answer.
    pub(crate) fn new(client: Client, audiences: &[String], within: Duration) -> Self {
        Self {
            ask: Ask::new(client, within, AT_ONCE),
            audiences: audiences.to_vec(),
        }
    }

    /// Whose token it is, or why it is nobody's. One question, never repeated here.
    ///
    /// # Errors
    /// The server gave no answer, or does not take the question.
    pub(crate) async fn whose(&self, token: &str) -> Result<Result<Subject, NotTaken>, KubeError> {
        let answer = self.ask.in_turn(&question(token, self.audiences.clone())).await?;
        let status = answer.status;
        let status = status.ok_or_else(|| KubeError::Garbage("a review without a status".to_owned()))?;
        Ok(judge(&status, &self.audiences))
    }
}

fn judge(status: &TokenReviewStatus, audiences: &[String]) -> Result<Subject, NotTaken> {
    if status.authenticated != Some(true) {
        let said = status.error.as_deref().filter(|said| !said.is_empty());
        return Err(NotTaken::Refused(line(said.unwrap_or("it gives no reason"))));
    }
    // A server that ignores audiences confirms none: it vouches for tokens that were meant for itself.
    let mut confirmed = status.audiences.iter().flatten();
    if !audiences.is_empty() && !confirmed.any(|one| audiences.contains(one)) {
        return Err(NotTaken::Audience);
    }
    match &status.user {
        Some(user) => Ok(Subject::of_review(user)),
        None => Err(NotTaken::Refused("it does not say whose it is".to_owned())),
    }
}

impl fmt::Debug for People {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "People({:?})", self.audiences)
    }
}

/// Reviews under way; others wait.
const AT_ONCE: usize = 32;

#[cfg(test)]
mod tests {
    use k8s_openapi::api::authentication::v1::UserInfo;

    use super::*;

    fn status(audiences: Option<&[&str]>) -> TokenReviewStatus {
        TokenReviewStatus {
            authenticated: Some(true),
            audiences: audiences.map(|all| all.iter().map(|&one| one.to_owned()).collect()),
            user: Some(UserInfo {
                username: Some("alice".to_owned()),
                ..UserInfo::default()
            }),
            ..TokenReviewStatus::default()
        }
    }

    #[test]
    fn the_servers_answer_must_name_an_audience_of_ours_where_we_have_any() {
        let ours = ["doorward".to_owned()];
        for audiences in [None, Some(&[][..]), Some(&["https://kubernetes.default.svc"][..])] {
            assert_eq!(
                judge(&status(audiences), &ours),
                Err(NotTaken::Audience),
                "{audiences:?}"
            );
            assert_eq!(judge(&status(audiences), &[]).unwrap().user(), "alice");
        }
        assert!(judge(&status(Some(&["x", "doorward"])), &ours).is_ok());
    }

    #[test]
    fn what_is_not_said_to_be_good_is_not_good() {
        let mut said = status(Some(&["doorward"]));
        for authenticated in [None, Some(false)] {
            said.authenticated = authenticated;
            said.error = Some("[invalid bearer token,\u{1b}[2J unknown]".to_owned());
            let error = judge(&said, &[]).unwrap_err();
            assert!(error.to_string().contains("invalid bearer token"), "{error}");
            assert!(!error.to_string().contains('\u{1b}'), "{error:?}");
        }
        said = status(None);
        said.user = None;
        assert!(matches!(judge(&said, &[]), Err(NotTaken::Refused(_))));
    }
}
