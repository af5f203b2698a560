//! A day at a terminal, made up: prompts, commands typed key by key, listings, a log, a build, an editor that redraws.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use anyhow::{Context, Result, ensure};

use crate::target::Target;
use crate::transfer::Noise;

/// Types a day's commands and returns how many bytes the terminal printed.
///
/// # Errors
/// When ssh fails, or the terminal shows something else than what was typed.
pub fn type_through(target: &Target, folder: &Path) -> Result<u64> {
    fs::create_dir_all(folder)?;
    let mut noise = Noise::new(11);
    let mut terminal = Terminal::open(target)?;
    terminal.command(&format!("cd {}", folder.display()))?;
    for turn in 0..TURNS {
        let (name, content) = match turn % 8 {
            0 | 3 => ("ls", listing(&mut noise)),
            1 => ("git-log", log(&mut noise)),
            2 | 5 => ("build", build(&mut noise)),
            4 | 6 => ("edit", editor(&mut noise)),
            _ => ("grep", matches(&mut noise)),
        };
        let file = format!("{name}-{turn}");
        fs::write(folder.join(&file), content)?;
        terminal.command(&format!("cat {file}"))?;
    }
    terminal.leave()
}

/// A shell on a terminal, typed into as people do.
#[derive(Debug)]
pub struct Terminal {
    ssh: Child,
    stdin: ChildStdin,
    stdout: ChildStdout,
    printed: u64,
}

impl Terminal {
    /// Opens a shell and awaits its prompt.
    ///
    /// # Errors
    /// When ssh fails.
    pub fn open(target: &Target) -> Result<Self> {
        let shell = format!("PS1='{PROMPT}' exec sh -i");
        let mut ssh = target
            .ssh(&["-tt"])
            .arg(shell)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let stdin = ssh.stdin.take().context("no stdin")?;
        let stdout = ssh.stdout.take().context("no stdout")?;
        let mut terminal = Self {
            ssh,
            stdin,
            stdout,
            printed: 0,
        };
        terminal.until_prompt()?;
        Ok(terminal)
    }

    /// Types a command key by key, each once the one before has come back, and reads what it prints, to the next prompt.
    ///
    /// # Errors
    /// When the session ends.
    pub fn command(&mut self, line: &str) -> Result<()> {
        for key in line.bytes() {
            self.stdin.write_all(&[key])?;
            let mut echoed = [0];
            self.stdout.read_exact(&mut echoed)?;
            self.printed += 1;
            ensure!(echoed[0] == key, "typed {key:#x}, came back {:#x}", echoed[0]);
        }
        self.stdin.write_all(b"\n")?;
        self.until_prompt()
    }

    fn until_prompt(&mut self) -> Result<()> {
        let mut block = vec![0; 64 * 1024];
        let mut tail = Vec::new();
        while !tail.ends_with(PROMPT.as_bytes()) {
            let read = self.stdout.read(&mut block)?;
            ensure!(read > 0, "the terminal ended");
            self.printed += read as u64;
            tail.extend_from_slice(&block[..read]);
            tail.drain(..tail.len().saturating_sub(PROMPT.len()));
        }
        Ok(())
    }

    fn leave(mut self) -> Result<u64> {
        self.stdin.write_all(b"exit\n")?;
        let mut rest = Vec::new();
        self.stdout.read_to_end(&mut rest)?;
        self.ssh.wait()?;
        Ok(self.printed + rest.len() as u64)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.ssh.kill();
        let _ = self.ssh.wait();
    }
}

fn word(noise: &mut Noise) -> String {
    let part = |noise: &mut Noise| PARTS[noise.below(PARTS.len())];
    format!("{}{}", part(noise), part(noise))
}

fn hex(noise: &mut Noise, digits: usize) -> String {
    (0..digits)
        .map(|_| char::from(b"0123456789abcdef"[noise.below(16)]))
        .collect()
}

fn listing(noise: &mut Noise) -> String {
    let mut text = String::from("total 1312\n");
    for _ in 0..20 + noise.below(60) {
        let (size, day, hour, minute) = (
            noise.below(900_000),
            1 + noise.below(28),
            noise.below(24),
            noise.below(60),
        );
        text += &format!(
            "-rw-r--r-- 1 node node {size:>7} Nov {day:>2} {hour:02}:{minute:02} {}.rs\n",
            word(noise)
        );
    }
    text
}

fn log(noise: &mut Noise) -> String {
    let mut text = String::new();
    for _ in 0..30 + noise.below(40) {
        text += &format!(
            "\x1b[33mcommit {}\x1b[m\nAuthor: Bob Example <bob@corp.example>\n",
            hex(noise, 40)
        );
        text += &format!(
            "Date:   Mon Nov {} {:02}:{:02}:{:02} 2026 +0100\n\n",
            1 + noise.below(28),
            noise.below(24),
            noise.below(60),
            noise.below(60)
        );
        text += &format!(
            "    {}: {} the {} of {}\n\n",
            word(noise),
            word(noise),
            word(noise),
            word(noise)
        );
    }
    text
}

fn build(noise: &mut Noise) -> String {
    let mut text = String::new();
    let all = 80 + noise.below(120);
    for done in 0..all {
        text += &format!(
            "\x1b[1m\x1b[32m   Compiling\x1b[0m {} v{}.{}.{}\n",
            word(noise),
            noise.below(4),
            noise.below(30),
            noise.below(12)
        );
        let bar = "=".repeat(done * 25 / all);
        text += &format!(
            "\x1b[1m\x1b[36m    Building\x1b[0m [{bar:<25}] {done}/{all}: {}, {}\r",
            word(noise),
            word(noise)
        );
    }
    for _ in 0..noise.below(8) {
        text += &format!(
            "\x1b[1m\x1b[33mwarning\x1b[0m: unused variable: `{}`\n   --> src/{}.rs:{}:{}\n",
            word(noise),
            word(noise),
            noise.below(900),
            noise.below(80)
        );
    }
    text += "    Finished `dev` profile [unoptimized + debuginfo] target(s) in 41.73s\n";
    text
}

/// An editor's screen of 50 lines, scrolled and edited.
fn editor(noise: &mut Noise) -> String {
    let lines: Vec<String> = (0..200)
        .map(|_| {
            format!(
                "    \x1b[34mlet\x1b[m {} = {}.{}({}, {});",
                word(noise),
                word(noise),
                word(noise),
                word(noise),
                noise.below(1000)
            )
        })
        .collect();
    let mut text = String::from("\x1b[?1049h\x1b[H\x1b[2J");
    for _ in 0..12 + noise.below(20) {
        let top = noise.below(150);
        for (row, line) in lines[top..top + 50].iter().enumerate() {
            text += &format!("\x1b[{};1H\x1b[33m{:>4} \x1b[m{line}\x1b[K", row + 1, top + row + 1);
        }
        for key in word(noise).chars() {
            text += &format!(
                "\x1b[{};{}H{key}\x1b[51;60H{},{}\x1b[K",
                1 + noise.below(50),
                1 + noise.below(80),
                top,
                noise.below(80)
            );
        }
    }
    text + "\x1b[?1049l"
}

fn matches(noise: &mut Noise) -> String {
    let mut text = String::new();
    for _ in 0..20 + noise.below(100) {
        text += &format!(
            "\x1b[35msrc/{}.rs\x1b[m:\x1b[32m{}\x1b[m: pub fn \x1b[1;31m{}\x1b[m({}: &str)\n",
            word(noise),
            noise.below(900),
            word(noise),
            word(noise)
        );
    }
    text
}

const PROMPT: &str = "bob@devenv-0:~/work$ ";
const TURNS: usize = 160;
const PARTS: [&str; 24] = [
    "session", "record", "frame", "store", "link", "token", "stream", "chunk", "head", "segment", "policy", "grant",
    "agent", "client", "relay", "index", "journal", "verify", "window", "channel", "block", "key", "cert", "time",
];
