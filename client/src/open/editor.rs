//! Which editor: by name, by path, or the first of those that are known on the `PATH`.

use std::path::{Path, PathBuf};

use super::address::Target;

/// An editor that can work in a workspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Editor {
    /// A name on the `PATH`, or a path.
    pub(super) program: String,
    pub(super) kind: Kind,
}

/// How it is told where to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// VS Code and what was made from it: the same arguments, a scheme of its own. No scheme where it is not known.
    Code { scheme: Option<&'static str> },
    /// JetBrains Gateway.
    Gateway,
}

/// Programs of VS Code's family with their schemes, in the order in which they are looked for.
const FAMILY: [(&str, &str); 5] = [
    ("code", "vscode"),
    ("code-insiders", "vscode-insiders"),
    ("codium", "vscodium"),
    ("cursor", "cursor"),
    ("windsurf", "windsurf"),
];
/// What JetBrains Gateway is called; the first is its program.
const GATEWAY: [&str; 3] = ["jetbrains-gateway", "gateway", "jetbrains"];
/// What people call members of the family whose program is called otherwise.
const ALSO: [(&str, &str); 2] = [("vscode", "code"), ("vscodium", "codium")];

impl Editor {
    /// The one that is meant where nothing says which.
    pub(super) fn usual() -> Self {
        let [(program, scheme), ..] = FAMILY;
        Self {
            program: program.to_owned(),
            kind: Kind::Code { scheme: Some(scheme) },
        }
    }

    /// By a name or a path. A name that is not known is that of a program of VS Code's family.
    pub(super) fn named(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() || text.starts_with('-') || text.contains(char::is_control) {
            return Err(format!("{text:?} is no editor: name a program or a path"));
        }
        let stem = stem(text);
        let is_path = text.contains(std::path::is_separator);
        let or_path = |program: &str| if is_path { text.to_owned() } else { program.to_owned() };
        if GATEWAY.contains(&stem.as_str()) {
            let [program, ..] = GATEWAY;
            return Ok(Self {
                program: or_path(program),
                kind: Kind::Gateway,
            });
        }
        let program = ALSO
            .iter()
            .find(|(name, _)| *name == stem)
            .map_or(stem.as_str(), |(_, program)| program);
        let known = FAMILY.iter().find(|(name, _)| *name == program);
        Ok(Self {
            program: match known {
                Some((program, _)) => or_path(program),
                None => text.to_owned(),
            },
            kind: Kind::Code {
                scheme: known.map(|(_, scheme)| *scheme),
            },
        })
    }

    /// What a person or a page can open.
    pub(super) fn address(&self, target: &Target<'_>) -> String {
        match self.kind {
            Kind::Code { scheme } => target.link(scheme.unwrap_or("vscode")),
            Kind::Gateway => target.gateway(),
        }
    }

    /// What the program itself is told.
    pub(super) fn arguments(&self, target: &Target<'_>) -> Vec<String> {
        match (&self.kind, target.folder_uri()) {
            (Kind::Gateway, _) => vec![target.gateway()],
            // A folder by its address is never taken for a file, whatever it is called.
            (Kind::Code { .. }, Some(uri)) => vec!["--folder-uri".to_owned(), uri],
            (Kind::Code { .. }, None) => vec!["--remote".to_owned(), target.remote()],
        }
    }
}

/// The first known editor for which `find` finds a program.
pub(super) fn detect(find: impl Fn(&str) -> Option<PathBuf>) -> Option<Editor> {
    let [gateway, ..] = GATEWAY;
    let family = FAMILY.iter().map(|(program, scheme)| Editor {
        program: (*program).to_owned(),
        kind: Kind::Code { scheme: Some(*scheme) },
    });
    let gateway = Editor {
        program: gateway.to_owned(),
        kind: Kind::Gateway,
    };
    family
        .chain(Some(gateway))
        .find(|editor| find(&editor.program).is_some())
}

/// What is looked for, for a sentence.
pub(super) fn names() -> String {
    let [gateway, ..] = GATEWAY;
    let names: Vec<&str> = FAMILY.iter().map(|(program, _)| *program).chain([gateway]).collect();
    names.join(", ")
}

/// A program's name without its folder and without what Windows puts behind it.
fn stem(text: &str) -> String {
    let name = Path::new(text)
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .to_ascii_lowercase();
    let without = [".exe", ".cmd"].iter().find_map(|ending| name.strip_suffix(ending));
    without.unwrap_or(&name).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scheme(text: &str) -> Option<&'static str> {
        match Editor::named(text).unwrap().kind {
            Kind::Code { scheme } => scheme,
            Kind::Gateway => Some("jetbrains-gateway"),
        }
    }

    #[test]
    fn an_editor_is_known_by_its_program() {
        for (text, program, expected) in [
            ("code", "code", Some("vscode")),
            ("vscode", "code", Some("vscode")),
            ("VSCodium", "codium", Some("vscodium")),
            ("cursor", "cursor", Some("cursor")),
            ("code.cmd", "code", Some("vscode")),
            ("/opt/x y/windsurf", "/opt/x y/windsurf", Some("windsurf")),
            ("jetbrains", "jetbrains-gateway", Some("jetbrains-gateway")),
            ("/opt/gateway", "/opt/gateway", Some("jetbrains-gateway")),
            ("positron", "positron", None),
        ] {
            assert_eq!(Editor::named(text).unwrap().program, program, "{text}");
            assert_eq!(scheme(text), expected, "{text}");
        }
        for bad in ["", " ", "--wait", "a\nb"] {
            assert!(Editor::named(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_first_that_is_there_is_taken() {
        let there = |names: &'static [&str]| move |name: &str| names.contains(&name).then(|| PathBuf::from(name));
        assert_eq!(detect(there(&["cursor", "code"])).unwrap().program, "code");
        assert_eq!(detect(there(&["windsurf", "cursor"])).unwrap().program, "cursor");
        assert_eq!(detect(there(&["jetbrains-gateway"])).unwrap().kind, Kind::Gateway);
        assert_eq!(detect(there(&["vim"])), None);
    }
}
