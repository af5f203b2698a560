//! What answers at an address that is not the gateway's, or does so badly: a sentence that a person understands, and what to do.

use std::sync::Arc;

use futures_util::FutureExt as _;
use rcgen::{BasicConstraints, CertificateParams, IsCa, SanType};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::gateway::{Gateway, problem};
use crate::issuer::Issuer;
use crate::run::{Folder, Said, finish};
use crate::server::Reply;

type Change = fn(&mut CertificateParams);

const KNOWN: &str = "/.well-known/doorward";

/// What `login` says on standard error, at this gateway and with its CA or without one.
async fn login(gateway: &Gateway) -> String {
    let folder = Folder::new();
    let ca = gateway.ca_file(&folder);
    let ran = folder
        .run(&["login", &gateway.url(), "--device", "--ca", ca.to_str().unwrap()])
        .await
        .expect(255);
    assert_eq!(ran.out, "");
    ran.err
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_no_good_is_explained() {
    let issuer = Issuer::start().await;
    let cases: [(Change, &str, &str); 4] = [
        (
            |params| params.not_after = rcgen::date_time_ymd(2021, 3, 4),
            "its certificate was good until 2021-03-04, and today is ",
            "clock",
        ),
        (
            |params| params.not_before = rcgen::date_time_ymd(2999, 3, 4),
            "its certificate is good from 2999-03-04 on, and today is ",
            "clock",
        ),
        (
            |params| params.subject_alt_names = vec![SanType::DnsName("gw.example".try_into().unwrap())],
            "its certificate is for gw.example, and not for 127.0.0.1",
            "which name",
        ),
        (
            |params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained),
            "it shows the certificate of a CA as its own",
            "CA:FALSE",
        ),
    ];
    for (change, what, hint) in cases {
        let gateway = Gateway::start_with(&issuer, change).await;
        let said = login(&gateway).await;
        let expected = format!("doorward: {} is not to be trusted: {what}", gateway.server.address);
        assert!(said.starts_with(&expected), "{said}");
        assert!(said.contains("\nhint: ") && said.contains(hint), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_the_network_is_not_taken_for_the_gateway() {
    let issuer = Issuer::start().await;
    let gateway = Gateway::start(&issuer).await;
    let page = |asked: &crate::server::Asked| {
        let _ = asked;
        Reply::Body(200, "text/html; charset=utf-8", b"<html>Welcome to the hotel".to_vec())
    };
    let redirect = |_: &crate::server::Asked| {
        Reply::Take(Box::new(|mut pipe| {
            async move {
                let head = "HTTP/1.1 302 Found\r\nLocation: https://hotel.example/start?x\r\nContent-Length: 0\r\n\r\n";
                let _ = pipe.write_all(head.as_bytes()).await;
                let _ = pipe.shutdown().await;
            }
            .boxed()
        }))
    };
    let address = gateway.server.address;
    gateway.on(KNOWN, page);
    let said = login(&gateway).await;
    assert!(
        said.starts_with(&format!(
            "doorward: {address} answered with a page for browsers\nhint: "
        )),
        "{said}"
    );
    assert!(said.contains("login page of its own"), "{said}");
    gateway.on(KNOWN, redirect);
    let said = login(&gateway).await;
    let expected = format!("doorward: {address} answered with a redirect to https://hotel.example/start?x\nhint: ");
    assert!(said.starts_with(&expected), "{said}");

    // The same where somebody is logged in, and in place of a tunnel.
    let folder = gateway.logged_in(&issuer, 300);
    for path in ["/v1/workspaces", "/v1/connect/devenv-0"] {
        gateway.on(path, redirect);
    }
    for args in [&["ls"][..], &["connect", "devenv-0"]] {
        let ran = folder.run(args).await.expect(255);
        assert!(
            ran.err.contains("answered with a redirect to https://hotel.example/"),
            "{}",
            ran.err
        );
    }
    // A proxy's 403 is no denial of the gateway's.
    gateway.on("/v1/workspaces", |_| {
        Reply::Body(403, "text/html", b"<html>policy".to_vec())
    });
    let ran = folder.run(&["ls"]).await.expect(255);
    assert_eq!(
        ran.err,
        "doorward: something in front of the gateway answered 403 Forbidden\n"
    );
    gateway.on("/v1/workspaces", |_| problem(403, "denied", "no", ""));
    folder.run(&["ls"]).await.expect(77);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_without_tls_is_named_and_a_silent_one_is_waited_for_aloud() {
    let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", plain.local_addr().unwrap());
    let serve = async {
        let (mut tcp, _) = plain.accept().await.unwrap();
        let _ = tcp.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        // Read to its end, or what is left would take the answer with it.
        let _ = tokio::io::copy(&mut tcp, &mut tokio::io::sink()).await;
    };
    let folder = Folder::new();
    let args = ["login", &url, "--device"];
    let (ran, ()) = tokio::join!(folder.run(&args), serve);
    let ran = ran.expect(255);
    assert!(
        ran.err
            .contains("what answers there does not speak TLS\nhint: is the port"),
        "{}",
        ran.err
    );

    let issuer = Issuer::start().await;
    let gateway = Gateway::start(&issuer).await;
    let go = Arc::new(Semaphore::new(0));
    let gate = go.clone();
    gateway.on(KNOWN, move |_| {
        let gate = gate.clone();
        Reply::Take(Box::new(move |mut pipe| {
            async move {
                let _ = gate.acquire().await;
                let _ = pipe.shutdown().await;
            }
            .boxed()
        }))
    });
    let folder = Folder::new();
    let ca = gateway.ca_file(&folder);
    let mut child = folder
        .command(&["login", &gateway.url(), "--device", "--ca", ca.to_str().unwrap()])
        .spawn()
        .unwrap();
    let mut said = Said::of(&mut child);
    said.after(&format!(
        "doorward: still waiting for {} to answer",
        gateway.server.address
    ))
    .await;
    go.add_permits(1);
    finish(child).await.expect(255);
}
