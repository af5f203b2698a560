//! The first words on a link: the gateway proves itself, then we do.

use std::time::{Duration, SystemTime};

use doorward_certs::verify_link;
use doorward_wire::LINK_VERSION;
use doorward_wire::link::{MuxStream, read_message, write_message};
use doorward_wire::message::{AgentHello, GatewayHello, Message, Refused, StreamOpen};

use super::chain;
use crate::enrol;
use crate::workspace::Workspace;

/// Greets on the control stream; gives it back once the link may be used, with how often at most the gateway wants to hear
/// of use, if it wants to.
pub(super) async fn exchange(
    workspace: &Workspace,
    mut control: MuxStream,
    gateway: &[u8; 32],
) -> Result<(MuxStream, Option<Duration>), String> {
    match receive(&mut control).await? {
        Message::StreamOpen(StreamOpen::Control) => {}
        _ => return Err("the first stream is not the control stream".to_owned()),
    }
    let Message::GatewayHello(hello) = receive(&mut control).await? else {
        return Err("the gateway did not say who it is".to_owned());
    };
    if let Err(refused) = judge(workspace, &hello, gateway) {
        let text = format!("the gateway is refused: {}", refused.text);
        // The reason is all that a stranger hears.
        let _ = send(&mut control, Message::LinkRefused(refused)).await;
        return Err(text);
    }
    let use_every = hello.use_every_s.map(|seconds| Duration::from_secs(seconds.into()));
    if let Some(keeper) = &workspace.keeper
        && let Err(why) = keeper.ready(workspace).await
    {
        let refused = Refused {
            code: "no-host-certificate".into(),
            text: why.clone(),
        };
        let _ = send(&mut control, Message::LinkRefused(refused)).await;
        return Err(format!("there is no host certificate yet: {why}"));
    }
    let hello = ours(workspace)?;
    send(&mut control, hello).await?;
    loop {
        match tokio::time::timeout(SIGN_WITHIN, read_message(&mut control, SIGN_WITHIN)).await {
            Ok(Ok(Message::Enrolled(enrolled))) if workspace.keeper.is_none() => {
                workspace
                    .identity
                    .take(&enrolled.host_certificate, &workspace.shared.host_ca)
                    .map_err(|error| format!("the host certificate that was given is not taken: {error}"))?;
                tracing::info!(workspace = %workspace.config.name, "host certificate taken");
            }
            Ok(Ok(Message::LinkReady(_))) => break,
            Ok(Ok(Message::LinkRefused(refused))) => {
                let text: String = refused.text.escape_debug().take(512).collect();
                return Err(format!("the gateway refused us: {text}"));
            }
            Ok(Ok(_)) => return Err("the gateway sent a message that is not due".to_owned()),
            Ok(Err(error)) => return Err(chain(&error)),
            Err(_) => return Err("the gateway did not answer in time".to_owned()),
        }
    }
    if workspace.identity.current().certificate.is_none() {
        return Err("the gateway gave no host certificate".to_owned());
    }
    Ok((control, use_every))
}

fn judge(workspace: &Workspace, hello: &GatewayHello, gateway: &[u8; 32]) -> Result<(), Refused> {
    if hello.version != LINK_VERSION {
        let text = format!(
            "this agent speaks version {LINK_VERSION} of the link, not {}",
            hello.version
        );
        return Err(Refused {
            code: "version".into(),
            text,
        });
    }
    verify_link(
        &hello.link_certificate,
        &workspace.shared.user_ca,
        gateway,
        SystemTime::now(),
    )
    .map(drop)
    .map_err(|refusal| Refused {
        code: refusal.code().into(),
        text: refusal.to_string(),
    })
}

/// Our hello: with the certificate, or with what proves that one is due to us.
fn ours(workspace: &Workspace) -> Result<Message, String> {
    let current = workspace.identity.current();
    let shown = current.certificate.as_ref().filter(|shown| shown.is_good());
    let host_certificate = shown.map(|shown| shown.blob.clone());
    let enrol = match &host_certificate {
        Some(_) => None,
        None => Some(enrol::first(workspace)?),
    };
    Ok(Message::AgentHello(AgentHello {
        version: LINK_VERSION,
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        workspace: workspace.config.name.to_string(),
        workspace_uid: workspace.config.uid.to_string(),
        host_certificate,
        enrol,
    }))
}

async fn receive(control: &mut MuxStream) -> Result<Message, String> {
    read_message(control, MESSAGE_WITHIN)
        .await
        .map_err(|error| chain(&error))
}

async fn send(control: &mut MuxStream, message: Message) -> Result<(), String> {
    write_message(control, &message, MESSAGE_WITHIN)
        .await
        .map_err(|error| chain(&error))
}

const MESSAGE_WITHIN: Duration = Duration::from_secs(5);
/// The authority may take a while.
const SIGN_WITHIN: Duration = Duration::from_secs(20);
