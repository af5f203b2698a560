//! What others have a say in stays data: names, versions, paths, commands and claims end no line of a log, forge no event, and
//! act on nobody's terminal or spreadsheet, whichever way they are looked at.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use doorward_dev::stack::{ClientFolder, Options};
use serde_json::{Value, json};
use tests::front::{header, ssh};
use tests::raw::{Reply, UPGRADE, get};
use tests::second::Second;
use tests::side::{Field, Side};
use tests::{PATIENCE, Stand, feed, sessions_of, until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

/// Stands in everything hostile, so that it can be seen to have arrived.
const MARK: &str = "=mark-";

/// A field's value: a formula that forges lines in every form, moves the cursor, sets titles, and turns the direction.
fn hostile(field: &str) -> String {
    format!(
        "{MARK}{field}-\n{{\"forged\":1}}\r\n2026-01-01T00:00:00.000000Z forged\u{1b}[31m\u{1b}]0;t\u{7}\u{9b}7m\u{202e}\u{2066}\
         \u{61c}\u{feff}\u{7f}"
    )
}

/// The same without what a header cannot carry.
fn turned(field: &str) -> String {
    format!("{MARK}{field}-\u{9b}31m\u{202e}\u{2066}\u{61c}\u{feff}")
}

/// Somebody whose name a provider lets through and a spreadsheet takes for a formula.
const FORMULA: &str = "=2+5+cmd|' /C calc'!A0";

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_says_is_data_wherever_it_is_shown() -> Result<()> {
    let options = Options {
        agent_env: vec![("RUST_LOG".to_owned(), "debug".to_owned())],
        ..Options::default()
    };
    let stand = Stand::start_with(crate::PROGRAM, crate::TMP, "recording-injected", options).await?;
    for form in ["text", "json"] {
        let second = Second::start_logging(&stand, crate::PROGRAM, form, form, |config| {
            let export = |format: &str| {
                toml::Table::from_iter(
                    [("name", format), ("kind", "file"), ("format", format), ("path", format)]
                        .map(|(key, value)| (key.to_owned(), value.to_owned().into())),
                )
            };
            let all = EXPORTS.map(|format| toml::Value::Table(export(format)));
            config.insert("export".to_owned(), toml::Value::Array(all.into()));
            Ok(())
        })
        .await?;
        let bob = second.client(&stand, "bob", "bob", second.address).await?;
        let alice = second.client(&stand, "alice", "alice", second.address).await?;
        by_http(&second).await?;
        by_name(&second, &bob).await?;
        by_ssh(&stand, &bob).await?;
        by_rights(&bob, &alice).await?;
        let ids = ended(&alice).await?;
        shown(&alice, &ids)
            .await
            .with_context(|| format!("at the gateway that logs {form}"))?;
        exported(second.folder(), &ids).await?;
        logged(&second.log_file(), form == "json", &["typ"])?;
    }
    logged(&stand.stack.log_file("agent"), true, &["login"])?;
    stand.stack.stop().await;
    Ok(())
}

const EXPORTS: [&str; 3] = ["jsonl", "ocsf", "ecs"];

/// Everything that stands in a request, up to the name in the TLS handshake.
async fn by_http(second: &Second) -> Result<()> {
    let door = second.door()?;
    let good = second.issuer.access_token("bob")?;
    let bearer = format!("Authorization: Bearer {good}\r\n");
    let encoded: String = hostile("target").bytes().map(|byte| format!("%{byte:02x}")).collect();
    for target in [
        format!("/v1/connect/{encoded}"),
        format!("/{encoded}"),
        format!("/v1/sessions?user={encoded}"),
        format!("/v1/sessions/{encoded}/files/{encoded}"),
        format!("/{}", turned("target")),
    ] {
        answered(&door.ask(get(&target, &format!("{UPGRADE}{bearer}"))).await?.1)?;
    }
    for line in [
        format!("User-Agent: {}\u{1b}[31m\0", turned("agent")),
        format!("Host: {}", turned("host")),
        format!("Upgrade: {}", turned("upgrade")),
        format!("Origin: {}", turned("origin")),
        format!(
            "X-Forwarded-For: {}\r\nForwarded: for={}",
            turned("forwarded"),
            turned("forwarded")
        ),
        format!("Doorward-Reason: {encoded}"),
        format!("DPoP: {}", turned("proof")),
    ] {
        // Without a token, so that the answer is a refusal in any case.
        answered(
            &door
                .ask(get("/v1/connect/devenv-0", &format!("{UPGRADE}{line}\r\n")))
                .await?
                .1,
        )?;
        let lines = format!("{UPGRADE}{line}\r\nAuthorization: Bearer {}\r\n", turned("token"));
        answered(&door.ask(get("/v1/connect/devenv-0", &lines)).await?.1)?;
    }
    // A handshake that asks for a server of such a name.
    let hello = door.client_hello()?;
    let name = b"localhost";
    let place = hello.windows(name.len()).position(|window| window == name);
    let place = place.context("the name is not in the handshake")?;
    for name in [
        b"=mark-sni",
        b"\n{\"a\":1}\n",
        b"\r2026\x1b[3m",
        b"x\xe2\x80\xae\xc2\x9b7mm",
        b"a\0b\0c\0d\0e",
    ] {
        let mut hello = hello.clone();
        hello[place..place + name.len()].copy_from_slice(name);
        let mut tcp = door.tcp().await?;
        tcp.write_all(&hello).await?;
        Reply::read(&mut tcp).await?;
    }
    let claims = second.issuer.access_claims("bob")?;
    for name in [
        "iss",
        "sub",
        "aud",
        "azp",
        "client_id",
        "sid",
        "jti",
        "scope",
        "preferred_username",
        "name",
        "email",
        "groups",
        "exp",
    ] {
        let mut claims = claims.clone();
        claims[name] = match name {
            "groups" => json!([hostile(name)]),
            _ => json!(hostile(name)),
        };
        claims["email_verified"] = json!(true);
        let token = second.issuer.sign(&header(), &claims)?;
        let (_, reply) = door
            .ask(get("/v1/workspaces", &format!("Authorization: Bearer {token}\r\n")))
            .await?;
        // `name` and the like are nobody's business here, and let nobody in or out.
        ensure!([200, 401, 403].contains(&reply.status()), "{name}: {}", reply.text());
        harmless(reply.body().as_bytes(), "").with_context(|| name.to_owned())?;
    }
    let head = |change: fn(&mut jsonwebtoken::Header)| {
        let mut head = header();
        change(&mut head);
        head
    };
    for head in [
        head(|head| head.kid = Some(hostile("kid"))),
        head(|head| head.typ = Some(hostile("typ"))),
        head(|head| head.cty = Some(hostile("cty"))),
    ] {
        let token = second.issuer.sign(&head, &claims)?;
        answered(
            &door
                .ask(get("/v1/workspaces", &format!("Authorization: Bearer {token}\r\n")))
                .await?
                .1,
        )?;
    }
    Ok(())
}

/// An answer that fits on a terminal, and no tunnel.
fn answered(reply: &Reply) -> Result<()> {
    ensure!((200..500).contains(&reply.status()), "{}", reply.text());
    harmless(reply.body().as_bytes(), "")
}

/// A session of somebody whose name, claims and program do their worst within what is let through.
async fn by_name(second: &Second, bob: &ClientFolder) -> Result<()> {
    let mut claims = second.issuer.access_claims("bob")?;
    claims["preferred_username"] = json!(FORMULA);
    claims["name"] = json!(hostile("name"));
    let token = second.issuer.sign(&header(), &claims)?;
    let lines = format!(
        "{UPGRADE}Authorization: Bearer {token}\r\nUser-Agent: {}\r\n",
        turned("agent")
    );
    let mut stream = second.door()?.tls().await?;
    stream.write_all(get("/v1/connect/devenv-0", &lines).as_bytes()).await?;
    let mut status = [0; 12];
    timeout(PATIENCE, stream.read_exact(&mut status)).await??;
    ensure!(&status == b"HTTP/1.1 101", "{}", String::from_utf8_lossy(&status));
    drop(stream);
    // What an SSH program says that it is, before anything is agreed.
    for version in ["SSH-2.0-", ""] {
        let mut connect = bob.command(["connect", "devenv-0"]);
        let mut connect = connect
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut stdin = connect.stdin.take().context("no stdin")?;
        let said = format!("{version}{}\0\r\n{}", turned("version"), hostile("packet"));
        stdin.write_all(said.as_bytes()).await?;
        drop(stdin);
        let told = timeout(PATIENCE, connect.wait_with_output()).await??;
        harmless(&told.stderr, "").context("what doorward connect says")?;
    }
    Ok(())
}

/// Everything that OpenSSH passes on.
async fn by_ssh(stand: &Stand, bob: &ClientFolder) -> Result<()> {
    let run = async |options: &[&str], command: &str| {
        let mut ssh = ssh(bob, options);
        if !command.is_empty() {
            ssh.arg(command);
        }
        // What the terminal is called, too.
        feed(
            {
                ssh.env("TERM", turned("term"));
                ssh
            },
            b"",
        )
        .await
    };
    // With control characters ssh itself refuses a name.
    let told = run(&["-l", &turned("login")], "true").await?;
    ensure!(told.code != Some(0), "let in");
    let ours = told.said();
    let ours = ours
        .lines()
        .filter(|line| line.starts_with("doorward"))
        .collect::<Vec<_>>()
        .join("\n");
    harmless(ours.as_bytes(), "login").context("what the person is told")?;
    let set = format!("SetEnv=LC_MARK={}", turned("environment"));
    let title = format!(
        "stty -opost; printf '%s' '{}' # {}",
        hostile("title"),
        hostile("command")
    );
    let outcome = run(&["-tt", "-o", &set], &title).await?;
    ensure!(
        outcome.stdout.starts_with(hostile("title").as_bytes()),
        "{}",
        outcome.said()
    );
    run(&["-s"], &hostile("subsystem")).await?;
    run(&["-W", &format!("{}:80", turned("forward"))], "").await?;
    run(
        &[
            "-o",
            "ExitOnForwardFailure=yes",
            "-R",
            &format!("/tmp/{}:localhost:1", turned("listener")),
        ],
        "true",
    )
    .await?;
    let side = Side {
        name: "doorward",
        config: bob.ssh_config(),
        host: "devenv-0",
        remote: stand.folder().join("remote"),
        local: stand.folder().join("local"),
    };
    let mut sftp = side.raw().await?;
    let path = stand.folder().join(hostile("path"));
    let path = path.to_string_lossy();
    let to = format!("{path}{}", hostile("target"));
    // MKDIR, RENAME, SYMLINK, and a NUL within a path.
    sftp.ask(14, &[Field::Text(path.as_bytes()), Field::Int(0)]).await?;
    sftp.ask(18, &[Field::Text(path.as_bytes()), Field::Text(to.as_bytes())])
        .await?;
    sftp.ask(20, &[Field::Text(to.as_bytes()), Field::Text(path.as_bytes())])
        .await?;
    sftp.ask(14, &[Field::Text(b"/tmp/=mark-nul\0\n\x1b"), Field::Int(0)])
        .await?;
    Ok(())
}

/// What those who have rights write down.
async fn by_rights(bob: &ClientFolder, alice: &ClientFolder) -> Result<()> {
    let id = sessions_of(alice).await?;
    let id = id
        .first()
        .and_then(|entry| entry["session"].as_str())
        .context("no session")?
        .to_owned();
    let reason = hostile("reason");
    for (who, args) in [
        (alice, &["hold", &id, "--reason", &reason][..]),
        (alice, &["hold", &id, "--reason", FORMULA]),
        (alice, &["lock", "user", &hostile("locked"), "--reason", &reason]),
        (alice, &["lock", "user", FORMULA, "--reason", FORMULA]),
        (alice, &["kill", &id, "--reason", &reason]),
        (
            alice,
            &[
                "explain",
                "--user",
                &hostile("explained"),
                "--groups",
                &hostile("group"),
                "devenv-0",
            ],
        ),
        (alice, &["locks"]),
        (alice, &["holds"]),
        (bob, &["kill", &id, "--reason", &reason]),
        (bob, &["sessions", "--user", &hostile("asked")]),
        (bob, &["ls"]),
        (bob, &["explain", &hostile("workspace")]),
    ] {
        let outcome = feed(who.command(args), b"").await?;
        for said in [&outcome.stdout, &outcome.stderr] {
            harmless(said, "").with_context(|| format!("{args:?}"))?;
        }
    }
    Ok(())
}

/// The sessions, once all of them have ended.
async fn ended(alice: &ClientFolder) -> Result<Vec<String>> {
    until("all sessions have ended", async || {
        let all = sessions_of(alice).await?;
        let ended = all.iter().all(|entry| !entry["ended"].is_null());
        let ids = all
            .iter()
            .filter_map(|entry| Some(entry["session"].as_str()?.to_owned()));
        Ok(ended.then(|| ids.collect()))
    })
    .await
}

/// Whatever the client prints of all this.
async fn shown(alice: &ClientFolder, ids: &[String]) -> Result<()> {
    let asked = async |args: &[&str]| -> Result<String> {
        let outcome = feed(alice.command(args), b"").await?;
        harmless(&outcome.stdout, "").with_context(|| format!("{args:?}"))?;
        harmless(&outcome.stderr, "").with_context(|| format!("{args:?}: standard error"))?;
        Ok(String::from_utf8(outcome.stdout)?)
    };
    asked(&["sessions"]).await?;
    let table = asked(&["sessions", "--csv"]).await?;
    ensure!(table.contains(&format!("\"'{FORMULA}\"")), "no such cell:\n{table}");
    let rows = table.lines().count();
    ensure!(
        rows == ids.len() + 1,
        "{rows} rows for {} sessions:\n{table}",
        ids.len()
    );
    // None of ours has a comma in it.
    let formula = table
        .lines()
        .flat_map(|row| row.split(','))
        .find(|cell| cell.trim_start_matches('"').starts_with(['=', '+', '-', '@']));
    ensure!(formula.is_none(), "{formula:?}");
    let list: Vec<Value> = serde_json::from_str(&asked(&["sessions", "--json"]).await?)?;
    ensure!(list.iter().any(|entry| entry["user"] == FORMULA), "{list:?}");
    let mut all = String::new();
    for id in ids {
        for args in [
            &["sessions", "show", id][..],
            &["sessions", "show", id, "--json"],
            &["export", id, "--format", "jsonl"],
            &["export", id, "--format", "asciicast"],
            &["verify", id],
            &["verify", id, "--json"],
        ] {
            all += &asked(args).await?;
        }
        // What a terminal showed has lines of its own, and invisible characters that letters are joined with.
        for args in [&["export", id, "--format", "text"][..], &["replay", id]] {
            let outcome = feed(alice.command(args), b"").await?;
            still(std::str::from_utf8(&outcome.stdout)?, |_| false).with_context(|| format!("{args:?}"))?;
            harmless(&outcome.stderr, "").with_context(|| format!("{args:?}: standard error"))?;
        }
    }
    for field in [
        "command",
        "environment",
        "title",
        "path",
        "target",
        "nul",
        "term",
        "login",
        "subsystem",
        "forward",
    ] {
        ensure!(all.contains(&format!("{MARK}{field}")), "{field} is nowhere");
    }
    Ok(())
}

/// Whatever a collector is given, once the last session is there.
async fn exported(folder: &Path, ids: &[String]) -> Result<()> {
    for format in EXPORTS {
        let path = folder.join(format);
        let text = until("all is exported", async || {
            let text = fs::read_to_string(&path)?;
            let ended = ids
                .iter()
                .all(|id| text.lines().any(|line| line.contains(id) && line.contains("coverage")));
            Ok((ended && text.ends_with('\n')).then_some(text))
        });
        let text = text.await.with_context(|| format!("{format}: {ids:?}"))?;
        objects(text.as_bytes()).with_context(|| format.to_owned())?;
        for field in ["command", "environment", "path", "target", "nul", "login"] {
            ensure!(text.contains(&format!("{MARK}{field}")), "{format}: {field} is nowhere");
        }
    }
    Ok(())
}

/// A program's log: each line an event of its own, and all that was said is there.
fn logged(log: &Path, is_json: bool, fields: &[&str]) -> Result<()> {
    let bytes = fs::read(log)?;
    let check = || -> Result<()> {
        harmless(&bytes, "")?;
        if is_json {
            return objects(&bytes);
        }
        let text = std::str::from_utf8(&bytes)?;
        let odd = text.lines().find(|line| {
            let level = line.split_whitespace().nth(1);
            !line.starts_with("20") || !level.is_some_and(|level| ["DEBUG", "INFO", "WARN", "ERROR"].contains(&level))
        });
        ensure!(odd.is_none(), "this is no event: {odd:?}");
        Ok(())
    };
    check().with_context(|| log.display().to_string())?;
    let text = String::from_utf8(bytes)?;
    for field in fields {
        ensure!(
            text.contains(&format!("{MARK}{field}")),
            "{}: {field} is nowhere",
            log.display()
        );
    }
    Ok(())
}

/// Lines that are objects, none of them forged.
fn objects(bytes: &[u8]) -> Result<()> {
    harmless(bytes, "")?;
    for line in std::str::from_utf8(bytes)?.lines() {
        let value: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
        ensure!(value.is_object() && value.get("forged").is_none(), "{line}");
    }
    Ok(())
}

/// Text in which nothing moves, hides or turns anything; `field` is seen in it.
fn harmless(bytes: &[u8], field: &str) -> Result<()> {
    let text = std::str::from_utf8(bytes).context("no text")?;
    let text = text.replace("\r\n", "\n");
    still(&text, |c| matches!(c, '\u{200b}'..='\u{200d}' | '\u{feff}'))?;
    ensure!(
        field.is_empty() || text.contains(&format!("{MARK}{field}")),
        "{field} is nowhere: {text}"
    );
    let forged = text
        .lines()
        .find(|line| line.starts_with("{\"forged\"") || line.starts_with("2026-01-01T00:00:00.000000Z forged"));
    ensure!(forged.is_none(), "forged: {forged:?}");
    Ok(())
}

/// Text in which nothing moves or turns what is shown, nor is `more`.
fn still(text: &str, more: impl Fn(char) -> bool) -> Result<()> {
    let bad = |c: char| (c.is_control() && c != '\n') || doorward_audit::reorders(c) || more(c);
    if let Some((place, c)) = text.char_indices().find(|(_, c)| bad(*c)) {
        let before = text[..place].chars().count().saturating_sub(120);
        let around: String = text.chars().skip(before).take(200).collect();
        anyhow::bail!("{c:?} in {around:?}");
    }
    Ok(())
}
