//! The ways in which parts are made from package registries.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;
use std::pin::Pin;

use sha2::{Digest as _, Sha256};
use tokio::process::Command;

use super::tool::Tool;
use super::{Error, Part};

/// How a part is made.
#[derive(Debug)]
pub(super) enum Recipe {
    /// A Go program.
    Go(GoProgram),
    /// A distribution from Maven's registry.
    Distribution(Distribution),
}

/// Built from modules that `go.sum` pins by hash.
#[derive(Debug)]
pub(super) struct GoProgram {
    /// What to build: `.`, or the path of a package in a module that `go.mod` requires.
    pub package: &'static str,
    /// Build tags, separated by commas; empty for none.
    pub tags: &'static str,
    /// More flags of `go build`.
    pub flags: &'static [&'static str],
    /// Whether it is built without C, and without a C compiler.
    pub pure: bool,
    /// The main module's files.
    pub files: &'static [(&'static str, &'static str)],
}

/// A zip file with one folder, prepared after unpacking.
#[derive(Debug)]
pub(super) struct Distribution {
    pub group: &'static str,
    pub artifact: &'static str,
    /// Of the zip file, in hexadecimal.
    pub sha256: &'static str,
    pub prepare: Prepare,
}

/// What is done to an unpacked distribution, once.
pub(super) type Prepare = fn(&Path) -> Pin<Box<dyn Future<Output = Result<(), Error>> + Send + '_>>;

impl Recipe {
    /// Whether what the environment names is the part itself, and not what it is made from.
    pub(super) fn is_usable_as_named(&self) -> bool {
        matches!(self, Self::Go(_))
    }

    /// What tells the results of different recipes apart: a few hexadecimal digits.
    pub(super) fn mark(&self, named: Option<&Path>) -> Result<String, Error> {
        let mut digest = match (self, named) {
            (Self::Go(program), _) => {
                let mut hash = Sha256::new();
                for (name, text) in program.files {
                    hash.update(format!("{name} {}\n{text}", text.len()));
                }
                hash.update(program.package);
                hash.update(program.tags);
                hash.update(program.flags.join(" "));
                hex(&hash.finalize())
            }
            (Self::Distribution(_), Some(zip)) => sha256(zip)?,
            (Self::Distribution(it), None) => it.sha256.to_owned(),
        };
        digest.truncate(MARK_DIGITS);
        Ok(digest)
    }

    /// Makes the part as `beside`/`part.name`.
    pub(super) async fn make(&self, part: &Part, named: Option<&Path>, beside: &Path) -> Result<(), Error> {
        match self {
            Self::Go(program) => program.build(part, beside).await,
            Self::Distribution(it) => it.unpack(part, named, beside).await,
        }
    }
}

impl GoProgram {
    async fn build(&self, part: &Part, beside: &Path) -> Result<(), Error> {
        let source = beside.join("source");
        fs::create_dir(&source).map_err(Error::file("make the folder", &source))?;
        for (name, text) in self.files {
            let path = source.join(name);
            fs::write(&path, text).map_err(Error::file("write", &path))?;
        }
        let mut go = Command::new("go");
        go.args(["build", "-buildvcs=false", "-tags", self.tags])
            .args(self.flags)
            .arg("-o")
            .arg(beside.join(part.name))
            .arg(self.package)
            .current_dir(&source)
            .env("GO111MODULE", "on")
            .env("GOWORK", "off")
            // go.mod and go.sum stay as they are: what they do not pin is refused.
            .env("GOFLAGS", "-mod=readonly");
        if self.pure {
            go.env("CGO_ENABLED", "0");
        }
        Tool {
            command: go,
            name: "go",
            package: "golang-go",
        }
        .run(&format!("building {}", part.name), beside)
        .await
    }
}

impl Distribution {
    async fn unpack(&self, part: &Part, named: Option<&Path>, beside: &Path) -> Result<(), Error> {
        let zip = match named {
            Some(zip) => zip.to_owned(),
            None => self.fetch(part, beside).await?,
        };
        let unpacked = beside.join("unpacked");
        let mut unzip = Command::new("unzip");
        unzip.arg("-q").arg(&zip).arg("-d").arg(&unpacked);
        Tool {
            command: unzip,
            name: "unzip",
            package: "unzip",
        }
        .run(&format!("unpacking {}", part.name), beside)
        .await?;
        if named.is_none() {
            fs::remove_file(&zip).map_err(Error::file("remove", &zip))?;
        }
        let mut folders = fs::read_dir(&unpacked).map_err(Error::file("read", &unpacked))?;
        let folder = folders.next().and_then(Result::ok).map(|entry| entry.path());
        let folder = folder.unwrap_or_else(|| unpacked.join("nothing"));
        let place = beside.join(part.name);
        fs::rename(&folder, &place).map_err(Error::file("rename", &folder))?;
        (self.prepare)(&place).await
    }

    async fn fetch(&self, part: &Part, beside: &Path) -> Result<std::path::PathBuf, Error> {
        let mut maven = Command::new("mvn");
        let artifact = format!("{}:{}:{}:zip", self.group, self.artifact, part.version);
        maven
            .args(["-q", "-B", "dependency:copy"])
            .arg(format!("-Dartifact={artifact}"))
            .arg(format!("-DoutputDirectory={}", beside.display()))
            // No project of the folder that we happen to be in.
            .current_dir(beside);
        Tool {
            command: maven,
            name: "mvn",
            package: "maven",
        }
        .run(&format!("fetching {}", part.name), beside)
        .await?;
        let zip = beside.join(format!("{}-{}.zip", self.artifact, part.version));
        let found = sha256(&zip)?;
        if found == self.sha256 {
            return Ok(zip);
        }
        Err(Error::Hash {
            path: zip,
            found,
            wanted: self.sha256.to_owned(),
        })
    }
}

fn sha256(path: &Path) -> Result<String, Error> {
    let hash = || {
        let mut file = File::open(path)?;
        let (mut hash, mut block) = (Sha256::new(), vec![0; 1 << 20]);
        loop {
            match file.read(&mut block)? {
                0 => return std::io::Result::Ok(hex(&hash.finalize())),
                read => hash.update(&block[..read]),
            }
        }
    };
    hash().map_err(Error::file("read", path))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

const MARK_DIGITS: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    const PART: Part = Part {
        name: "thing",
        version: "1",
        variable: "DOORWARD_THING",
        recipe: Recipe::Distribution(DISTRIBUTION),
    };
    const DISTRIBUTION: Distribution = Distribution {
        group: "g",
        artifact: "a",
        sha256: "00",
        prepare: |_| Box::pin(async { Ok(()) }),
    };

    #[test]
    fn another_recipe_has_another_mark() {
        let go = |text| {
            let program = GoProgram {
                package: ".",
                tags: "",
                flags: &[],
                pure: false,
                files: Box::leak(Box::new([("go.sum", text)])),
            };
            Recipe::Go(program).mark(None).unwrap()
        };
        assert_eq!(go("a"), go("a"));
        assert_ne!(go("a"), go("b"));
    }

    #[tokio::test]
    async fn what_is_no_distribution_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let zip = dir.path().join("a.zip");
        fs::write(&zip, "no zip file").unwrap();
        let beside = dir.path().join("beside");
        fs::create_dir(&beside).unwrap();
        let refused = PART.recipe.make(&PART, Some(&zip), &beside).await;
        assert!(
            matches!(refused, Err(Error::Tool { .. } | Error::NoTool { .. })),
            "{refused:?}"
        );
    }
}
