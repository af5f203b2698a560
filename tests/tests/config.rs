//! Configurations that are no good: every fault at once, with its place, before anything is bound.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use doorward_certs::{HostKey, Local, key};

/// Both programs say that a configuration is no good with this exit code.
const CONFIG: i32 = 78;

fn run(program: &str, args: &[&str], config: &Path) -> Result<Output> {
    let all = env!("CARGO_BIN_EXE_doorward-all");
    Ok(Command::new(all)
        .arg(program)
        .args(args)
        .arg("--config")
        .arg(config)
        .output()?)
}

/// The faults that `check-config` and `run` print. The port is taken: whoever binds it first would say so instead.
fn faults(program: &str, config: &Path) -> Result<Vec<String>> {
    let announced = config.with_extension("announced");
    let announce = ["run", "--announce", announced.to_str().context("a path")?];
    let (checked, ran) = (
        run(program, &["check-config"], config)?,
        run(program, &announce, config)?,
    );
    let said = String::from_utf8(ran.stderr)?;
    ensure!(
        checked.status.code() == Some(CONFIG),
        "check-config: {}",
        checked.status
    );
    ensure!(ran.status.code() == Some(CONFIG), "run: {} {said}", ran.status);
    ensure!(!announced.exists(), "run announced itself");
    ensure!(
        said == String::from_utf8(checked.stderr)?,
        "the two do not say the same: {said}"
    );
    Ok(said.lines().map(str::to_owned).collect())
}

/// Each of these lines, and no other, has a fault, whose text holds the second part.
fn are_at(config: &Path, faults: &[String], expected: &[(&str, &str)]) -> Result<()> {
    let text = fs::read_to_string(config)?;
    for (line, part) in expected {
        let number = text.lines().position(|one| one == *line).context("no such line")? + 1;
        let place = format!("{}:{number}: ", config.display());
        let found = faults
            .iter()
            .any(|fault| fault.starts_with(&place) && fault.contains(part));
        ensure!(found, "no {part:?} at {place}in {faults:#?}");
    }
    ensure!(
        faults.len() == expected.len(),
        "not {} faults: {faults:#?}",
        expected.len()
    );
    Ok(())
}

fn readable_by_all(path: &Path) -> Result<()> {
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o644))?)
}

#[test]
fn a_gateway_names_every_fault_and_binds_nothing() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name);
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
    fs::write(path("tls.crt"), made.cert.pem())?;
    fs::write(path("tls.key"), made.signing_key.serialize_pem())?;
    fs::set_permissions(path("tls.key"), fs::Permissions::from_mode(0o600))?;
    fs::write(
        path("policy.toml"),
        "[[role]]\nname = 'r'\ngroups = ['g']\nworkspaces = ['*']\nallow = ['shell']\n",
    )?;
    Local::create_files(&path("user-ca"), &path("host-ca"))?;
    key::load_or_create(&path("gateway.key"))?;
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let good = format!(
        "state-directory = 'state'\n[listen]\naddress = '{}'\ncertificate = 'tls.crt'\nkey = 'tls.key'\n[oidc]\n\
         issuer = 'https://idp.example'\nclient-id = 'doorward'\naudience = 'doorward-gateway'\n[authority.local]\n\
         user-ca = 'user-ca'\nhost-ca = 'host-ca'\n[link]\nkey = 'gateway.key'\n[records]\ndirectory = 'records'\n\
         [policy]\nfile = 'policy.toml'\n[limits]\nsessions = 100\n",
        taken.local_addr()?
    );
    let config = path("gateway.toml");
    fs::write(&config, &good)?;
    let checked = run("gateway", &["check-config"], &config)?;
    ensure!(
        checked.status.success(),
        "the good one: {}",
        String::from_utf8_lossy(&checked.stderr)
    );

    readable_by_all(&path("user-ca"))?;
    readable_by_all(&path("gateway.key"))?;
    let bad = good
        .replace("audience =", "audiance =")
        .replace("sessions = 100", "sessions = 'many'");
    fs::write(&config, bad)?;
    let expected = [
        ("[oidc]", "`audience` is missing"),
        ("audiance = 'doorward-gateway'", "unknown key `audiance`"),
        ("user-ca = 'user-ca'", "user-ca"),
        ("key = 'gateway.key'", "gateway.key"),
        ("sessions = 'many'", "expected an integer"),
    ];
    are_at(&config, &faults("gateway", &config)?, &expected)?;
    ensure!(!path("state").exists(), "it made its state folder");
    Ok(())
}

#[test]
fn an_agent_names_every_fault_and_binds_nothing() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name);
    for name in ["user-ca", "host-ca"] {
        fs::write(path(name), HostKey::generate()?.public_key().to_openssh()?)?;
    }
    key::load_or_create(&path("host.key"))?;
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let good = format!(
        "user-ca-file = 'user-ca'\nhost-ca-file = 'host-ca'\n[limits]\nsessions = 9\n[[workspace]]\nname = 'devenv-0'\n\
         uid = 'u-0'\nlisten = '{}'\nhost-key = 'host.key'\nhost-certificate = 'host-cert.pub'\n",
        taken.local_addr()?
    );
    let config = path("agent.toml");
    fs::write(&config, &good)?;
    let checked = run("agent", &["check-config"], &config)?;
    ensure!(
        checked.status.success(),
        "the good one: {}",
        String::from_utf8_lossy(&checked.stderr)
    );

    readable_by_all(&path("host.key"))?;
    let bad = good
        .replace("sessions = 9", "sessions = 'many'\nseconds = 4")
        .replace("'host-ca'", "7");
    fs::write(&config, bad.replace("devenv-0", "Not A Name"))?;
    let expected = [
        ("host-ca-file = 7", "must be a string"),
        ("sessions = 'many'", "must be a whole number"),
        ("seconds = 4", "unknown key"),
        ("name = 'Not A Name'", "workspace name"),
        ("host-key = 'host.key'", "chmod 600"),
    ];
    are_at(&config, &faults("agent", &config)?, &expected)?;
    ensure!(!path("host-cert.pub").exists());
    Ok(())
}
