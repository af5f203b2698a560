//! A real toxiproxy on loopback: what stands between the gateway and a server, and spoils it on command.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::{Client, Method};
use serde_json::{Value, json};

use super::server::{Launch, Server, make_dir};
use super::{Error, TOXIPROXY, port};

/// A running toxiproxy with one proxy. It ends when this is dropped, or with the process.
#[derive(Debug)]
pub struct Toxiproxy {
    client: Client,
    api: String,
    address: SocketAddr,
    _server: Server,
}

impl Toxiproxy {
    /// Starts it in a folder of its own, with a proxy in front of `upstream`. `program` is the executable that acts as our
    /// programs ([`crate::act_as_program`]).
    ///
    /// # Errors
    /// The part cannot be had; the server does not come up.
    pub async fn start(folder: PathBuf, program: PathBuf, upstream: SocketAddr) -> Result<Self, Error> {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let found = TOXIPROXY.have().await?;
        let folder = make_dir(&folder)?;
        let (control, address) = (port::free()?, port::free()?);
        let mut server = Server::start(Launch {
            keeper: &program,
            name: "toxiproxy",
            folder: &folder,
            command: vec![
                found.path.into(),
                "-host".into(),
                "127.0.0.1".into(),
                "-port".into(),
                control.port().to_string().into(),
            ],
        })
        .await?;
        let client = Client::builder().no_proxy().timeout(PATIENCE).build();
        let client = client.map_err(|source| Error::Unanswered {
            what: "the client".to_owned(),
            source,
        })?;
        let api = format!("http://{control}");
        let answers = async || client.get(format!("{api}/version")).send().await.ok().map(drop);
        server.until(PATIENCE, "toxiproxy", answers).await?;
        let proxy = Self {
            client,
            api,
            address,
            _server: server,
        };
        let made = json!({"name": NAME, "listen": address.to_string(), "upstream": upstream.to_string()});
        proxy.call(Method::POST, "proxies", &made).await?;
        Ok(proxy)
    }

    /// Where the proxy listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether connections are taken at all; those that stand are cut.
    ///
    /// # Errors
    /// toxiproxy does not answer.
    pub async fn set_open(&self, open: bool) -> Result<(), Error> {
        let state = json!({"enabled": open});
        self.call(Method::POST, &format!("proxies/{NAME}"), &state).await
    }

    /// Spoils what goes `upstream` or `downstream`: `latency`, `bandwidth`, `timeout`, `reset_peer`, `limit_data`, with the
    /// attributes that toxiproxy gives them.
    ///
    /// # Errors
    /// toxiproxy does not answer, or does not know it.
    pub async fn add(&self, kind: &str, stream: &str, attributes: Value) -> Result<(), Error> {
        let toxic = json!({"name": kind, "type": kind, "stream": stream, "attributes": attributes});
        self.call(Method::POST, &format!("proxies/{NAME}/toxics"), &toxic).await
    }

    /// Takes that away.
    ///
    /// # Errors
    /// toxiproxy does not answer, or has no such toxic.
    pub async fn remove(&self, kind: &str) -> Result<(), Error> {
        self.call(Method::DELETE, &format!("proxies/{NAME}/toxics/{kind}"), &Value::Null)
            .await
    }

    async fn call(&self, method: Method, path: &str, body: &Value) -> Result<(), Error> {
        let what = format!("{method} {path}");
        let unanswered = |source| Error::Unanswered {
            what: what.clone(),
            source,
        };
        let request = self.client.request(method, format!("{}/{path}", self.api)).json(body);
        let response = request.send().await.map_err(unanswered)?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let said = response.text().await.map_err(unanswered)?;
        Err(Error::Refused {
            what,
            status: status.as_u16(),
            said,
        })
    }
}

const NAME: &str = "one";
const PATIENCE: Duration = Duration::from_secs(30);
