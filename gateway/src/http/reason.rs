//! Why somebody wants in: a sentence from outside, in the field `doorward-reason`, percent-encoded (RFC 3986).

use http::{HeaderMap, HeaderName};

use super::request::{bad, percent_decoded};
use crate::refusal::Refusal;

/// A reason that can be put on record: 1 to 500 characters, none of them a control or hidden.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason(String);

impl Reason {
    /// The field.
    pub(super) const FIELD: HeaderName = HeaderName::from_static("doorward-reason");

    /// The reason of a request; nothing if it gives none.
    ///
    /// # Errors
    /// It is no such text.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Option<Self>, Refusal> {
        let Some(value) = headers.get(Self::FIELD) else {
            return Ok(None);
        };
        let text = value.to_str().ok().and_then(percent_decoded);
        let text = text.map(|text| text.trim().to_owned()).filter(|text| {
            let hidden = |one: char| one.is_control() || crate::oidc::is_hidden(one);
            (1..=MOST).contains(&text.chars().count()) && !text.contains(hidden)
        });
        text.map(|text| Some(Self(text)))
            .ok_or_else(|| bad("the reason is no text of 1 to 500 characters on one line"))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The longest reason, in characters.
const MOST: usize = 500;

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn of(text: &str) -> Result<Option<String>, ()> {
        let mut headers = HeaderMap::new();
        headers.insert(Reason::FIELD, HeaderValue::from_str(text).map_err(drop)?);
        let read = Reason::of(&headers).map_err(drop)?;
        Ok(read.map(|reason| reason.as_str().to_owned()))
    }

    #[test]
    fn a_reason_is_text_that_can_be_put_on_record() {
        assert_eq!(Reason::of(&HeaderMap::new()), Ok(None));
        assert_eq!(
            of("pager%20%231%3A%20db%20down%20%E2%80%93%20f%C3%BCr%20Zo%C3%AB"),
            Ok(Some("pager #1: db down – für Zoë".to_owned()))
        );
        assert_eq!(of("%20plain%20"), Ok(Some("plain".to_owned())));
        let long = "x".repeat(500);
        assert_eq!(of(&long), Ok(Some(long.clone())));
        for bad in [
            "",
            "%20%20",
            "a%0Ab",
            "a%1B%5B31m",
            "%E2%80%AE",
            "%FF",
            "%4",
            "%zz",
            &format!("{long}y"),
        ] {
            assert_eq!(of(bad), Err(()), "{bad:?}");
        }
    }
}
