//! `doorward.exe`, built here and run under Wine, whose drive C: is a folder of the tests.
//!
//! What it needs is in `.ci/run`; a test that has to do without says so by name, and fails where `CI` is set.
//! `DOORWARD_EXE` names a program that was built elsewhere.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};
use doorward_dev::stack::ClientFolder;
use tokio::process::Command;
use tokio::sync::OnceCell;

use crate::parts::Place;

/// The target that it is built for.
const TARGET: &str = "x86_64-pc-windows-gnu";
/// Whose profile is used: nothing that a path could hold is missing from the name.
const PERSON: &str = "Zoë O'Hara";

/// The program, installed on a drive C: of its own.
#[derive(Debug)]
pub struct Windows {
    prefix: PathBuf,
    runner: PathBuf,
}

impl Windows {
    /// The one of this test process; `None` where it cannot be had, which has been said.
    ///
    /// # Errors
    /// It can be had and is not built, or `CI` is set and something is missing.
    pub async fn had(place: Place, test: &str) -> Result<Option<&'static Self>> {
        static HERE: OnceCell<Windows> = OnceCell::const_new();
        let missing = missing().await?;
        if !missing.is_empty() {
            let word = format!("skipped {}::{test}: not installed: {}", place.file, missing.join(", "));
            ensure!(std::env::var_os("CI").is_none(), "{word}");
            eprintln!("{word}");
            return Ok(None);
        }
        Ok(Some(HERE.get_or_try_init(|| Self::install(place)).await?))
    }

    async fn install(place: Place) -> Result<Self> {
        let tmp = Path::new(place.tmp);
        let exe = match std::env::var_os("DOORWARD_EXE") {
            Some(exe) => PathBuf::from(exe),
            None => build(tmp.parent().context("no target folder")?).await?,
        };
        let prefix = tmp.join(place.file).join("wine");
        let _ = fs::remove_dir_all(&prefix);
        fs::create_dir_all(&prefix)?;
        let windows = Self {
            prefix,
            runner: Path::new(env!("CARGO_MANIFEST_DIR")).join("windows/wine"),
        };
        // The first program makes the drive.
        let mut first = Command::new(&windows.runner);
        first
            .env("WINEPREFIX", &windows.prefix)
            .env("WINEUSER", PERSON)
            .stdin(Stdio::null());
        let made = first.args(["cmd", "/c", "exit", "7"]).status().await?;
        ensure!(made.code() == Some(7), "Wine does not run: {made}");
        let program = windows.drive().join("Program Files/Doorward");
        fs::create_dir_all(&program)?;
        fs::copy(&exe, program.join("doorward.exe")).with_context(|| exe.display().to_string())?;
        Ok(windows)
    }

    /// Drive C:.
    #[must_use]
    pub fn drive(&self) -> PathBuf {
        self.prefix.join("drive_c")
    }

    /// What is `%USERPROFILE%` there.
    #[must_use]
    pub fn profile(&self) -> PathBuf {
        self.drive().join("users").join(PERSON)
    }

    /// A client folder whose program is `doorward.exe`. `home` is `DOORWARD_HOME` as Windows writes it, and below C:; the
    /// program's own choice where it is empty. `name` is the script's.
    ///
    /// # Errors
    /// The script cannot be written.
    pub fn client(&self, name: &str, home: &str) -> Result<ClientFolder> {
        let folder = match home.strip_prefix(r"C:\") {
            Some(below) => self.drive().join(below.replace('\\', "/")),
            None => self.profile().join("AppData/Local/doorward/config"),
        };
        let script = self.prefix.with_file_name(name);
        let line = self.shell_line(home)?;
        fs::write(&script, format!("#!/bin/sh\nexec {line} \"$@\"\n"))?;
        fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        Ok(ClientFolder::of_script(&folder, &script))
    }

    /// What a shell has to be told to run the program, without its arguments.
    ///
    /// # Errors
    /// The path is not UTF-8.
    pub fn shell_line(&self, home: &str) -> Result<String> {
        let word = |text: &str| format!("'{}'", text.replace('\'', r"'\''"));
        let home = match home {
            "" => "-u DOORWARD_HOME".to_owned(),
            home => format!("DOORWARD_HOME={}", word(home)),
        };
        Ok(format!(
            "env {home} WINEPREFIX={} WINEUSER={} {} {}",
            word(self.prefix.to_str().context("not UTF-8")?),
            word(PERSON),
            word(self.runner.to_str().context("not UTF-8")?),
            word(PROGRAM),
        ))
    }
}

/// Where the program is installed.
pub const PROGRAM: &str = r"C:\Program Files\Doorward\doorward.exe";

/// What of the tools is not here.
async fn missing() -> Result<Vec<&'static str>> {
    let mut missing = Vec::new();
    let on_path = |program: &str| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
    };
    if !on_path("wine64") && !on_path("wine") && !Path::new("/usr/lib/wine/wine64").is_file() {
        missing.push("wine64");
    }
    if !on_path("x86_64-w64-mingw32-gcc") {
        missing.push("gcc-mingw-w64-x86-64");
    }
    if std::env::var_os("DOORWARD_EXE").is_some() {
        return Ok(missing);
    }
    if !on_path("nasm") {
        missing.push("nasm");
    }
    let library = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", TARGET])
        .output()
        .await?;
    if !Path::new(String::from_utf8_lossy(&library.stdout).trim()).is_dir() {
        missing.push("rustup target x86_64-pc-windows-gnu");
    }
    Ok(missing)
}

/// Builds the program as `.ci/run` does, which then finds it done.
async fn build(target: &Path) -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args([
            "build",
            "--locked",
            "--target",
            TARGET,
            "-p",
            "doorward-client",
            "--target-dir",
        ])
        .arg(target)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()
        .await?;
    if !built.status.success() {
        bail!("doorward.exe is not built: {}", String::from_utf8_lossy(&built.stderr));
    }
    Ok(target.join(TARGET).join("debug/doorward.exe"))
}
