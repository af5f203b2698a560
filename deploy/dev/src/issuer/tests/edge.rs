//! The listener, the keys and the outages.

use super::*;

#[tokio::test]
async fn refuses_every_address_but_loopback() {
    for listen in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0", "[::ffff:127.0.0.1]:0"] {
        let settings = Settings {
            listen: listen.parse().unwrap(),
            ..Settings::default()
        };
        assert!(
            matches!(Issuer::start(settings).await, Err(Error::NotLoopback(_))),
            "{listen}"
        );
    }
}

#[tokio::test]
async fn discovery_names_endpoints_that_exist() {
    let bench = Bench::new().await;
    let document: Value = bench
        .http
        .get(bench.at("/.well-known/openid-configuration"))
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(document["issuer"], bench.issuer.url());
    for (name, value) in document.as_object().unwrap() {
        if name.ends_with("_endpoint") || name == "jwks_uri" {
            let answer = bench.http.get(value.as_str().unwrap()).send().await.unwrap();
            assert_ne!(answer.status(), StatusCode::NOT_FOUND, "{name}");
        }
    }
}

#[tokio::test]
async fn rotated_keys_are_published_for_as_long_as_wanted() {
    let bench = Bench::new().await;
    let old = json!(bench.issuer.access_token("bob").unwrap());
    let kid = bench.issuer.rotate_keys(Overlap::Keep).unwrap();
    let new = bench.issuer.access_token("bob").unwrap();
    assert_eq!(decode_header(&new).unwrap().kid, Some(kid));
    assert!(bench.read(&old, "doorward-gateway").await.is_ok());
    assert!(bench.read(&json!(new), "doorward-gateway").await.is_ok());
    bench.issuer.rotate_keys(Overlap::Drop).unwrap();
    assert!(bench.read(&json!(new), "doorward-gateway").await.is_err());
}

#[tokio::test]
async fn foreign_names_other_types_and_great_bodies_are_refused() {
    let bench = Bench::new().await;
    let rebound = bench
        .http
        .get(bench.at("/jwks"))
        .header("host", "evil.example")
        .send()
        .await
        .unwrap();
    assert_eq!(rebound.status(), StatusCode::MISDIRECTED_REQUEST);
    let great = bench
        .http
        .post(bench.at("/token"))
        .body(vec![b'a'; 20_000])
        .send()
        .await
        .unwrap();
    assert_eq!(great.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let json = bench
        .http
        .post(bench.at("/token"))
        .json(&json!({"client_id": "doorward"}))
        .send()
        .await
        .unwrap();
    assert_eq!(json.json::<Value>().await.unwrap()["error"], "invalid_request");
    assert_eq!(
        bench.http.get(bench.at("/token")).send().await.unwrap().status(),
        StatusCode::METHOD_NOT_ALLOWED
    );
    assert_eq!(
        bench.http.get(bench.at("/else")).send().await.unwrap().status(),
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn a_great_head_is_cut() {
    let bench = Bench::new().await;
    let mut socket = tokio::net::TcpStream::connect(bench.issuer.address()).await.unwrap();
    let head = format!(
        "GET /jwks HTTP/1.1\r\nHost: {}\r\nX: {}\r\n\r\n",
        bench.issuer.address(),
        "x".repeat(64 * 1024)
    );
    let _ = socket.write_all(head.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer).await;
    assert!(
        !answer.starts_with(b"HTTP/1.1 200"),
        "{}",
        String::from_utf8_lossy(&answer)
    );
}

#[tokio::test]
async fn outages_are_seen_by_everybody_and_end() {
    let bench = Bench::new().await;
    bench.issuer.set_outage(Outage::Errors);
    assert_eq!(
        bench.http.get(bench.at("/jwks")).send().await.unwrap().status(),
        StatusCode::SERVICE_UNAVAILABLE
    );
    bench.issuer.set_outage(Outage::Silence);
    let waiting = bench
        .http
        .get(bench.at("/jwks"))
        .timeout(Duration::from_millis(200))
        .send()
        .await;
    assert!(waiting.unwrap_err().is_timeout());
    bench.issuer.set_outage(Outage::None);
    assert_eq!(
        bench.http.get(bench.at("/jwks")).send().await.unwrap().status(),
        StatusCode::OK
    );
    assert_eq!(bench.issuer.served("/jwks"), 3);
}

#[tokio::test]
async fn stopping_ends_the_listener() {
    let bench = Bench::new().await;
    let address = bench.issuer.address();
    bench.issuer.stop().await;
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}
