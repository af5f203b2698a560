//! Bytes that came with the request: behind the upgrade they arrive once, and in order.

use tokio_tungstenite::tungstenite::{Message, protocol::Role};

use super::*;

/// A tunnel without a session: the same acceptance, then whatever arrives.
struct Accepting {
    client: tokio_rustls::client::TlsStream<TcpStream>,
    received: tokio::task::JoinHandle<Result<Vec<u8>, String>>,
}

impl Accepting {
    async fn start(bench: &Bench, first: Vec<u8>) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let files = bench.folder.path();
        let certificate = crate::listen::certificate::load(&files.join("tls.crt"), &files.join("tls.key")).unwrap();
        let config = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(certificate)));
        let tasks = bench.running.gateway().tasks.clone();
        let (done, received) = oneshot::channel();
        let done = Arc::new(Guarded::new(Some(done)));
        let spawner = tasks.clone();
        tasks.spawn(async move {
            let (tcp, peer) = listener.accept().await.unwrap();
            let stream = tokio_rustls::TlsAcceptor::from(Arc::new(config))
                .accept(tcp)
                .await
                .unwrap();
            let answer = move |mut request: Request<Incoming>| {
                let (spawner, done) = (spawner.clone(), Arc::clone(&done));
                async move {
                    let route = request::check(&request).unwrap();
                    let (tunnel, answered) = asked(&mut request, route, peer, None, Uuid::now_v7()).unwrap();
                    spawner.spawn(async move {
                        let result = read_all(tunnel).await;
                        let _ = done.with(Option::take).unwrap().send(result);
                    });
                    answered.await.unwrap()
                }
            };
            let (served, _) = serve_with(stream, Duration::from_secs(5), answer).await;
            served.unwrap();
        });
        let connector = tokio_rustls::TlsConnector::from(Arc::new(bench.client()));
        let tcp = TcpStream::connect(address).await.unwrap();
        let mut client = connector.connect("localhost".try_into().unwrap(), tcp).await.unwrap();
        client.write_all(&first).await.unwrap();
        let tracker = tokio_util::task::TaskTracker::new();
        let received = tracker.spawn(async move { received.await.unwrap() });
        Self { client, received }
    }
}

/// Accepts the tunnel and reads its bytes until the client closes it.
async fn read_all(tunnel: TunnelRequest) -> Result<Vec<u8>, String> {
    use doorward_wire::Carrier as _;
    let mut tunnel = tunnel.accept(Uuid::now_v7()).await.map_err(|gone| gone.to_string())?;
    let mut all = Vec::new();
    while let Some(bytes) = std::future::poll_fn(|cx| tunnel.poll_receive(cx))
        .await
        .map_err(|error| error.to_string())?
    {
        all.extend_from_slice(&bytes);
    }
    Ok(all)
}

/// A5: bytes in the same piece as the request arrive exactly once, in order, before those that follow.
#[tokio::test]
async fn bytes_pipelined_with_the_request_are_neither_lost_nor_doubled() {
    let bench = Bench::start().await;
    for early in [0, 1, 5, 4000, 20_000, 100_000] {
        let payload: Vec<u8> = (0..120_000_u32).flat_map(|number| number.to_be_bytes()).collect();
        let mut frames = Vec::new();
        {
            // A client's frames, written into memory.
            let mut socket = tokio_tungstenite::tungstenite::WebSocket::from_raw_socket(
                std::io::Cursor::new(&mut frames),
                Role::Client,
                None,
            );
            for part in payload.chunks(3000) {
                socket.send(Message::Binary(part.to_vec().into())).unwrap();
            }
            let _ = socket.close(None);
            let _ = socket.flush();
        }
        let mut first = format!(
            "GET /v1/connect/devenv-0 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer a.b.c\r\n{UPGRADE}\r\n"
        )
        .into_bytes();
        first.extend_from_slice(&frames[..early]);
        let Accepting { mut client, received } = Accepting::start(&bench, first).await;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(client.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        assert!(head.contains("\r\nconnection: upgrade\r\n"), "{head}");
        assert!(
            head.contains("sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
            "{head}"
        );
        client.write_all(&frames[early..]).await.unwrap();
        client.flush().await.unwrap();
        let got = tokio::time::timeout(Duration::from_secs(20), received)
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        assert!(got == payload, "{early}: {} bytes of {}", got.len(), payload.len());
    }
}
