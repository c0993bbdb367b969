//! Servers behind TLS.

use std::{
    error::Error,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use buttress::balance::http::NodeError;
use buttress::forward::{
    Proxy, Upstream, UpstreamBody, UpstreamBuilder, UpstreamError, UpstreamErrorKind, UpstreamUrlError,
};
use http_body_util::BodyExt;
use hyper::{Request, Response, Version, body::Incoming};
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_rustls::{
    rustls::{
        self, AlertDescription, CertificateError, ServerConfig,
        version::{TLS12, TLS13},
    },
    server::TlsStream,
};
use tower::ServiceExt;

use crate::{
    support::{Raw, empty, full, proxy, serve, serve_raw, soon},
    tls_support::{Authority, serve_raw_tls, serve_tls},
};

type Tls = Raw<TlsStream<TcpStream>>;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

async fn ask(upstream: &Upstream) -> Result<Response<UpstreamBody>, UpstreamError> {
    let request = Request::post("/x").header("host", "shop.example").body(full("pay")).unwrap();
    soon(upstream.clone().oneshot(request)).await
}

async fn text(answer: Response<UpstreamBody>) -> String {
    String::from_utf8(soon(answer.collect()).await.unwrap().to_bytes().to_vec()).unwrap()
}

/// The reason at the end of the sources, if TLS gave one.
fn reason(error: &UpstreamError) -> Option<&rustls::Error> {
    let mut source: &(dyn Error + 'static) = error;
    while let Some(next) = source.source() {
        source = next;
    }
    source.downcast_ref()
}

fn trusting(authority: &Authority) -> UpstreamBuilder {
    Upstream::builder().tls(authority.client())
}

/// What the server makes of a request: its version, target and host.
async fn tell(request: Request<Incoming>) -> Response<String> {
    let host = request.headers().get("host").map(|host| host.to_str().unwrap().to_owned());
    let told = format!("{:?} {} {host:?}", request.version(), request.uri());
    request.into_body().collect().await.unwrap();
    Response::new(told)
}

#[tokio::test]
async fn a_certificate_of_a_trusted_authority_for_the_right_name_is_accepted() {
    let authority = Authority::new();
    let server = authority.issue(&["localhost", "127.0.0.1", "other.example"]).server(&[]);
    let addr = serve_tls(server, tell).await;
    for (url, name) in [
        (format!("https://{addr}"), None),
        (format!("https://localhost:{}", addr.port()), None),
        (format!("https://{addr}"), Some("other.example")),
    ] {
        let mut settings = trusting(&authority);
        if let Some(name) = name {
            settings = settings.server_name(name);
        }
        let upstream = settings.build(&url).unwrap();
        assert_eq!(upstream.to_string(), url);
        assert_eq!(text(ask(&upstream).await.unwrap()).await, "HTTP/1.1 /x Some(\"shop.example\")");
    }
}

#[tokio::test]
async fn the_name_that_is_asked_for_is_that_of_the_url_or_the_one_given() {
    let authority = Authority::new();
    let server = authority.issue(&["localhost", "a.example"]).server(&[]);
    let answer_name = |mut raw: Tls| async move {
        raw.head().await;
        let name = raw.stream.get_ref().1.server_name().unwrap_or("none").to_owned();
        raw.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len())).await;
    };
    let addr = serve_raw_tls(move || Arc::clone(&server), answer_name).await;
    let url = format!("https://localhost:{}", addr.port());
    let plain = trusting(&authority).build(&url).unwrap();
    assert_eq!(text(ask(&plain).await.unwrap()).await, "localhost");
    let named = trusting(&authority).server_name("a.example").build(&url).unwrap();
    assert_eq!(text(ask(&named).await.unwrap()).await, "a.example");
}

#[tokio::test]
async fn a_certificate_that_is_not_good_is_a_failed_connection_with_the_reason() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let cases = [
        (authority.issue(&["other.example"]), "not valid for name"),
        (stranger.issue(&["127.0.0.1"]), "UnknownIssuer"),
        (authority.issue_expired(&["127.0.0.1"]), "certificate expired"),
    ];
    for (issued, why) in cases {
        for http2 in [false, true] {
            let addr = serve_tls(issued.server(&["h2", "http/1.1"]), tell).await;
            let upstream = trusting(&authority).http2(http2).build(&format!("https://{addr}")).unwrap();
            let error = ask(&upstream).await.unwrap_err();
            assert_eq!(error.kind(), UpstreamErrorKind::Connect);
            assert!(error.is_retryable());
            assert!(error.source().unwrap().to_string().contains("handshake with \"127.0.0.1\" failed"));
            let reason = reason(&error).unwrap();
            assert!(reason.to_string().contains(why), "{reason}");
            assert!(matches!(
                reason,
                rustls::Error::InvalidCertificate(
                    CertificateError::NotValidForNameContext { .. }
                        | CertificateError::UnknownIssuer
                        | CertificateError::ExpiredContext { .. }
                )
            ));
        }
    }
}

#[tokio::test]
async fn a_handshake_takes_no_longer_than_a_connection_may() {
    let silent = serve_raw(|mut raw| async move { drop(raw.rest().await) }).await;
    let authority = Authority::new();
    for http2 in [false, true] {
        let settings = trusting(&authority).http2(http2).connect_timeout(Duration::from_millis(50));
        let upstream = settings.response_timeout(None).build(&format!("https://{silent}")).unwrap();
        let error = ask(&upstream).await.unwrap_err();
        assert!(error.is_connect(), "{error:?}");
        assert_eq!(error.source().unwrap().to_string(), "it took longer than 50ms");
    }
}

#[tokio::test]
async fn a_server_without_tls_is_a_failed_connection() {
    let plain = serve(|_: Request<Incoming>| async { Response::new(empty()) }).await;
    for http2 in [false, true] {
        let upstream = trusting(&Authority::new()).http2(http2).build(&format!("https://{plain}")).unwrap();
        let error = ask(&upstream).await.unwrap_err();
        assert!(error.is_connect(), "{error:?}");
        assert!(matches!(reason(&error), Some(rustls::Error::InvalidMessage(_))), "{error:?}");
    }
}

#[tokio::test]
async fn the_server_chooses_among_the_versions_that_it_is_offered() {
    let authority = Authority::new();
    let issued = authority.issue(&["127.0.0.1"]);
    let http2 = "HTTP/2.0 https://shop.example/base/x None";
    let http1 = "HTTP/1.1 /base/x Some(\"shop.example\")";
    let cases: [(bool, &[&str], &str); 6] = [
        (false, &[], http1),
        (false, &["h2", "http/1.1"], http1),
        (true, &["h2", "http/1.1"], http2),
        (true, &["h2"], http2),
        (true, &["http/1.1"], http1),
        (true, &[], http1),
    ];
    for (offered, spoken, told) in cases {
        let addr = serve_tls(issued.server(spoken), tell).await;
        let upstream = trusting(&authority).http2(offered).build(&format!("https://{addr}/base")).unwrap();
        for _ in 0..3 {
            assert_eq!(text(ask(&upstream).await.unwrap()).await, told, "{offered} {spoken:?}");
        }
    }
    let addr = serve_tls(issued.server(&["h2"]), tell).await;
    let upstream = trusting(&authority).build(&format!("https://{addr}")).unwrap();
    let error = ask(&upstream).await.unwrap_err();
    assert!(error.is_connect());
    let alert = rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol);
    assert_eq!(reason(&error), Some(&alert));
}

/// A server that gives these answers on each connection and then closes it. It counts connections, and tells of their
/// end.
async fn counting(
    config: Arc<ServerConfig>,
    answers: &'static [&'static str],
) -> (String, Arc<AtomicUsize>, mpsc::UnboundedReceiver<()>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let (sender, closed) = mpsc::unbounded_channel();
    let handler = move |mut raw: Tls| {
        counted.fetch_add(1, Relaxed);
        let sender = sender.clone();
        async move {
            for answer in answers {
                if raw.until("pay").await.is_err() {
                    break;
                }
                raw.send(answer).await;
            }
            drop(raw);
            sender.send(()).ok();
        }
    };
    let addr = serve_raw_tls(move || Arc::clone(&config), handler).await;
    (format!("https://{addr}"), count, closed)
}

#[tokio::test]
async fn a_connection_is_used_again() {
    let authority = Authority::new();
    let server = authority.issue(&["127.0.0.1"]).server(&["http/1.1"]);
    for http2 in [false, true] {
        let (url, count, _) = counting(Arc::clone(&server), &[OK; 9]).await;
        let upstream = trusting(&authority).http2(http2).build(&url).unwrap();
        for _ in 0..9 {
            assert_eq!(text(ask(&upstream).await.unwrap()).await, "ok");
        }
        // The one on which the version was agreed upon carries requests too.
        assert_eq!(count.load(Relaxed), 1, "{http2}");
    }
}

#[tokio::test]
async fn requests_over_http2_share_a_connection() {
    let authority = Authority::new();
    let addr = serve_tls(authority.issue(&["127.0.0.1"]).server(&["h2"]), tell).await;
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let relay = serve_raw(move |mut raw| {
        counted.fetch_add(1, Relaxed);
        async move {
            let mut server = TcpStream::connect(addr).await.unwrap();
            tokio::io::copy_bidirectional(&mut raw.stream, &mut server).await.ok();
        }
    })
    .await;
    let upstream = trusting(&authority).http2(true).build(&format!("https://{relay}")).unwrap();
    let request = || Request::get("/").header("host", "a").body(empty()).unwrap();
    let asks: Vec<_> = (0..20).map(|_| tokio::spawn(upstream.clone().oneshot(request()))).collect();
    for ask in asks {
        assert_eq!(soon(ask).await.unwrap().unwrap().version(), Version::HTTP_2);
    }
    assert_eq!(count.load(Relaxed), 1);
}

#[tokio::test]
async fn a_connection_that_the_server_closed_is_noticed_before_it_is_used() {
    let authority = Authority::new();
    let server = authority.issue(&["127.0.0.1"]).server(&[]);
    let (url, count, mut closed) = counting(server, &[OK]).await;
    let upstream = trusting(&authority).build(&url).unwrap();
    for connections in 1..5 {
        assert_eq!(text(ask(&upstream).await.unwrap()).await, "ok");
        assert_eq!(count.load(Relaxed), connections);
        soon(closed.recv()).await.unwrap();
        // Our side of the runtime has yet to hear of it.
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_server_that_changes_its_protocol_is_followed() {
    let authority = Authority::new();
    let issued = authority.issue(&["127.0.0.1"]);
    let newest = Arc::new(Mutex::new(issued.server(&["http/1.1"])));
    let config = Arc::clone(&newest);
    let handler = |mut raw: Tls| async move {
        if raw.stream.get_ref().1.alpn_protocol() == Some(b"h2") {
            let peer = raw.stream.get_ref().0.peer_addr().unwrap();
            return crate::support::answer(raw.stream, peer, tell).await;
        }
        raw.until("pay").await.unwrap();
        raw.send(OK).await;
    };
    let addr = serve_raw_tls(move || config.lock().unwrap().clone(), handler).await;
    let upstream = trusting(&authority).http2(true).build(&format!("https://{addr}")).unwrap();
    assert_eq!(ask(&upstream).await.unwrap().version(), Version::HTTP_11);
    *newest.lock().unwrap() = issued.server(&["h2"]);
    // The one that finds out fails, with an error that lets any request be tried again.
    assert!(ask(&upstream).await.unwrap_err().is_retryable());
    assert_eq!(ask(&upstream).await.unwrap().version(), Version::HTTP_2);
}

#[tokio::test]
async fn a_server_may_ask_who_we_are() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let us = authority.issue(&["proxy.example"]);
    let identity = || (vec![us.certificate.der().clone()], us.key_der());
    for version in [&TLS12, &TLS13] {
        let issued = authority.issue(&["127.0.0.1"]);
        let addr = serve_tls(issued.shown_by(authority.wanted(version), &["h2", "http/1.1"]), tell).await;
        let url = format!("https://{addr}");
        for http2 in [false, true] {
            let (chain, key) = identity();
            let known = authority.trust().with_client_auth_cert(chain, key).unwrap();
            let upstream = Upstream::builder().tls(Arc::new(known)).http2(http2).build(&url).unwrap();
            assert_eq!(ask(&upstream).await.unwrap().status(), 200);

            let nobody = trusting(&authority).http2(http2).build(&url).unwrap();
            let error = ask(&nobody).await.unwrap_err();
            // With TLS 1.3 the server looks at the certificate when we have already begun to send.
            let wanted = [UpstreamErrorKind::Connect, UpstreamErrorKind::Transport];
            assert!(wanted[..if *version == TLS12 { 1 } else { 2 }].contains(&error.kind()), "{error:?}");
        }
        let strange = stranger.issue(&["proxy.example"]);
        let chain = vec![strange.certificate.der().clone()];
        let config = authority.trust().with_client_auth_cert(chain, strange.key_der()).unwrap();
        let upstream = Upstream::builder().tls(Arc::new(config)).build(&url).unwrap();
        assert!(ask(&upstream).await.is_err());
    }
}

#[tokio::test]
async fn an_upgrade_joins_the_two_ends_whatever_the_version_of_other_requests() {
    let authority = Authority::new();
    let server = authority.issue(&["127.0.0.1"]).server(&["h2", "http/1.1"]);
    let handler = |mut raw: Tls| async move {
        let head = raw.head().await;
        assert!(head.contains("\r\nupgrade: websocket\r\n"), "{head}");
        raw.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
            .await;
        let word = raw.until("\n").await.unwrap();
        raw.send(format!("you said {word}")).await;
        assert_eq!(raw.rest().await, "bye");
        raw.send("closed").await;
        raw.stream.shutdown().await.ok();
    };
    let addr = serve_raw_tls(move || Arc::clone(&server), handler).await;
    for http2 in [false, true] {
        let upstream = trusting(&authority).http2(http2).build(&format!("https://{addr}")).unwrap();
        let mut client = Raw::connect(proxy(Proxy::new(upstream)).await).await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n").await;
        assert!(client.head().await.starts_with("http/1.1 101"));
        client.send("word\n").await;
        assert_eq!(client.until("\n").await.unwrap(), "you said word\n");
        client.send("bye").await;
        client.stream.shutdown().await.unwrap();
        assert_eq!(client.rest().await, "closed");
    }
}

/// Clients ask for upgrades as they like: that must not look like a server that is down.
#[tokio::test]
async fn an_upgrade_that_an_http2_server_cannot_make_is_not_held_against_it() {
    let authority = Authority::new();
    let addr = serve_tls(authority.issue(&["127.0.0.1"]).server(&["h2"]), tell).await;
    let upstream = trusting(&authority).http2(true).build(&format!("https://{addr}")).unwrap();
    let upgrade = Request::get("/").header("host", "shop.example").header("connection", "upgrade");
    let upgrade = upgrade.header("upgrade", "websocket").body(empty()).unwrap();
    let error = soon(upstream.clone().oneshot(upgrade)).await.unwrap_err();
    assert_eq!((error.kind(), error.failure()), (UpstreamErrorKind::Request, None));
    assert_eq!(ask(&upstream).await.unwrap().status(), 200);
}

#[tokio::test]
async fn an_answer_up_to_the_close_is_whole_only_if_tls_says_so() {
    let authority = Authority::new();
    for is_closed_well in [true, false] {
        let server = authority.issue(&["127.0.0.1"]).server(&[]);
        let handler = move |mut raw: Tls| async move {
            raw.until("pay").await.unwrap();
            raw.send("HTTP/1.0 200 OK\r\n\r\nhalf a").await;
            if is_closed_well {
                raw.stream.shutdown().await.unwrap();
            }
        };
        let addr = serve_raw_tls(move || Arc::clone(&server), handler).await;
        let upstream = trusting(&authority).build(&format!("https://{addr}")).unwrap();
        let answer = soon(ask(&upstream).await.unwrap().collect()).await;
        assert_eq!(answer.is_ok(), is_closed_well);
    }
}

#[tokio::test]
async fn a_request_given_up_in_the_handshake_leaves_the_next_one_its_chance() {
    let authority = Authority::new();
    let server = authority.issue(&["127.0.0.1"]).server(&["h2", "http/1.1"]);
    let addr = serve_tls(server, tell).await;
    for http2 in [false, true] {
        let upstream = trusting(&authority).http2(http2).build(&format!("https://{addr}")).unwrap();
        assert!(timeout(Duration::ZERO, ask(&upstream)).await.is_err());
        assert_eq!(ask(&upstream).await.unwrap().status(), 200);
    }
}

#[test]
fn a_name_that_no_certificate_can_have_is_refused() {
    let authority = Authority::new();
    assert!(trusting(&authority).build("https://[::1]:1").is_ok());
    let refused = |name: &str| trusting(&authority).server_name(name).build("https://10.0.0.7").err();
    for name in ["", "a b", "-", "a..b", "https://a"] {
        assert_eq!(refused(name), Some(UpstreamUrlError::ServerName(name.to_owned())));
    }
}
