//! Workspace names as they are typed, or as `ssh` hands them over.

use doorward_certs::WorkspaceName;

use crate::error::Error;
use crate::ssh::SUFFIX;

/// A workspace's name; `NAME.doorward`, which the wildcard of our ssh configuration matches, is `NAME`. Anything that is no
/// such name never reaches the network.
pub(crate) fn workspace(text: &str) -> Result<WorkspaceName, Error> {
    let lower = text.to_ascii_lowercase();
    let name = lower.strip_suffix(SUFFIX).unwrap_or(&lower);
    WorkspaceName::try_from(name).map_err(|error| Error::Usage(format!("{text:?} is no workspace: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_pass() {
        for (text, name) in [
            ("devenv-0", "devenv-0"),
            ("DevEnv-0.doorward", "devenv-0"),
            ("a.b", "a.b"),
        ] {
            assert_eq!(workspace(text).unwrap().as_str(), name);
        }
        for text in [
            "",
            "-oProxyCommand=x",
            "../x",
            "a/b",
            "a b",
            "$(x)",
            "a\n",
            ".doorward",
            "a'",
            "%h",
            "é",
            &"a".repeat(300),
        ] {
            let error = workspace(text).unwrap_err();
            assert_eq!(error.exit(), 64, "{text}");
        }
    }
}
