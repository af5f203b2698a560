//! Many workspaces on one gateway, each with its link and a session: what one takes of the gateway's memory.
//!
//! Their agents are one process that listens once for each. It needs no cluster: a link is a link.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

use crate::memory::Idle;
use crate::report::Row;
use crate::target::Target;
use crate::{Bench, proc};

/// Opens a link and a session for so many workspaces.
///
/// # Errors
/// When the stack does not come up, or a session cannot be opened.
pub fn measure(bench: &Bench<'_>) -> Result<Vec<Row>> {
    let runtime = tokio::runtime::Runtime::new()?;
    let (folder, count) = (bench.folder.join("links"), bench.args.workspaces);
    let mut stack = runtime.block_on(super::stack(&folder, None))?;
    let base = memory(super::gateway_of(&stack)?)?;
    let own = folder.join("agents");
    let agent = Agents::start(&own, folder.join("stack").as_path(), stack.account(), count)?;
    let login = stack.account().to_owned();
    let change = |config: &mut toml::Table| {
        let limits = toml::toml! {
            sessions = 4096
            sessions-per-user = 4096
        };
        config.insert("limits".to_owned(), limits.into());
        if let Some(all) = config.get_mut("workspace").and_then(toml::Value::as_array_mut) {
            all.extend((0..count).map(|index| gateway_entry(&own, index, &login).into()));
        }
    };
    runtime
        .block_on(stack.restart_gateway_with(change))
        .with_context(|| fs::read_to_string(own.join("log")).unwrap_or_default())?;
    let gateway = super::gateway_of(&stack)?;
    let linked = memory(gateway)?;
    runtime.block_on(stack.client().run(&["config", "--write", "--no-include"]))?;
    let mut idle = Idle::default();
    for index in 0..count {
        let target = Target {
            name: "doorward",
            config: stack.ssh_config(),
            host: name(index),
            daemons: Vec::new(),
        };
        idle.grow(&target, index + 1).with_context(|| {
            format!(
                "{}\n{}",
                stack.log_tail("gateway"),
                fs::read_to_string(own.join("log")).unwrap_or_default()
            )
        })?;
    }
    let open = memory(gateway)?;
    let agents = memory(agent.0.id())?;
    drop(idle);
    drop(agent);
    runtime.block_on(stack.stop());
    let each = |from: f64, to: f64| (to - from) / count.max(1) as f64;
    let row = |name: &str, unit, value| Row::new(format!("{count} workspaces: {name}"), unit, &[], &[value], None);
    Ok(vec![
        row("gateway with all links and sessions", "MiB RSS", open / 1024.0),
        row("a link", "KiB RSS", each(base, linked)),
        row("a session beside it", "KiB RSS", each(linked, open)),
        row(
            "the agents, for a workspace with a session",
            "KiB RSS",
            agents / count.max(1) as f64,
        ),
    ])
}

/// KiB.
fn memory(pid: u32) -> Result<f64> {
    let bytes = proc::rss(pid).context("a program's memory cannot be read")?;
    Ok(bytes as f64 / 1024.0)
}

/// One process with the agents of all workspaces; ended when dropped.
struct Agents(Child);

impl Agents {
    fn start(own: &Path, stack: &Path, login: &str, count: usize) -> Result<Self> {
        fs::create_dir_all(own.join("home"))?;
        let mut config = format!(
            "user-ca-file = '{0}/user-ca.pub'\nhost-ca-file = '{0}/host-ca.pub'\n[limits]\nsessions = 4096\n",
            stack.display()
        );
        for index in 0..count {
            private(
                &own.join(format!("{index}.join")),
                &uuid::Uuid::new_v4().simple().to_string(),
            )?;
            config += &format!(
                "[[workspace]]\nname = '{}'\nuid = 'bench-{index}'\nlisten = '{}'\nhost-key = '{index}.key'\n\
                 host-certificate = '{index}-cert.pub'\njoin-token-file = '{index}.join'\nlogin = '{login}'\nhome = 'home'\n",
                name(index),
                address(index)
            );
        }
        let file = own.join("agent.toml");
        private(&file, &config)?;
        let log = fs::File::create(own.join("log"))?;
        let child = Command::new(std::env::current_exe()?)
            .args(["agent", "run", "--config"])
            .arg(file)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("starting the agents")?;
        Ok(Self(child))
    }
}

impl Drop for Agents {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn gateway_entry(own: &Path, index: usize, login: &str) -> toml::Table {
    let text = |text: String| toml::Value::String(text);
    toml::Table::from_iter([
        ("name".to_owned(), text(name(index))),
        ("address".to_owned(), text(address(index))),
        ("uid".to_owned(), text(format!("bench-{index}"))),
        ("login".to_owned(), text(login.to_owned())),
        (
            "join-token-file".to_owned(),
            text(own.join(format!("{index}.join")).display().to_string()),
        ),
    ])
}

fn private(path: &Path, text: &str) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::write(path, text)?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o600))?)
}

/// One that the stack's policy lets its people into.
fn name(index: usize) -> String {
    format!("devenv-many-{index}")
}

/// Everything in 127.0.0.0/8 is loopback: an address for each, and the same port.
fn address(index: usize) -> String {
    format!("127.40.{}.{}:7022", index / 200, 1 + index % 200)
}
