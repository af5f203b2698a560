//! Parameters of a query or of a form body: bounded, and each at most once (RFC 6749 sections 3.1 and 3.2).

use std::collections::BTreeMap;

/// Parameters by name. Empty values count as absent, as RFC 6749 section 3.1 says.
#[derive(Clone, Debug, Default)]
pub(super) struct Params(BTreeMap<String, String>);

/// Repeated or too many parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl Params {
    pub(super) fn parse(encoded: &[u8]) -> Result<Self, Malformed> {
        let mut params = BTreeMap::new();
        for (name, value) in url::form_urlencoded::parse(encoded) {
            if params.len() == MOST || params.insert(name.into_owned(), value.into_owned()).is_some() {
                return Err(Malformed);
            }
        }
        Ok(Self(params))
    }

    pub(super) fn find(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The value, or the empty string.
    pub(super) fn text(&self, name: &str) -> &str {
        self.find(name).unwrap_or_default()
    }
}

const MOST: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_and_endless_parameters_are_refused() {
        let params = Params::parse(b"a=1&b=x%20y+z&c=").unwrap();
        assert_eq!(
            (params.text("a"), params.text("b"), params.find("c")),
            ("1", "x y z", None)
        );
        assert_eq!(Params::parse(b"a=1&a=1").unwrap_err(), Malformed);
        let many: String = (0..=MOST).map(|n| format!("p{n}=1&")).collect();
        assert_eq!(Params::parse(many.as_bytes()).unwrap_err(), Malformed);
    }
}
