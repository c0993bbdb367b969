//! Clients that come over TLS, and servers that are reached over it.

use std::{fmt::Write, net::SocketAddr, sync::Arc};

use hyper::{Request, Response, body::Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig,
        pki_types::{CertificateDer, ServerName},
        version::TLS12,
    },
};

use crate::{
    process::{File, Gateway, run, send, text},
    support::{BoxBody, PATIENCE, Raw, channel, data, empty, nobody, serve, serve_raw, soon},
    tls_support::{Authority, Issued, client_with, serve_tls},
};

/// A certificate and its key in files.
struct Files {
    cert: File,
    key: File,
}

impl Files {
    fn of(issued: &Issued) -> Self {
        Self { cert: File::new(&issued.certificate.pem()), key: File::new(&issued.key.serialize_pem()) }
    }

    fn table(&self, more: &str) -> String {
        let (cert, key) = (self.cert.path(), self.key.path());
        format!("[[tls.certificate]]\ncert = \"{cert}\"\nkey = \"{key}\"\n{more}\n")
    }
}

const LISTEN: &str = "[tls]\nlisten = \"127.0.0.1:0\"\n";

fn before(server: SocketAddr) -> String {
    format!("[[upstream]]\nid = \"a\"\nurl = \"http://{server}\"\n")
}

/// A server that tells how the client came and what it asked for.
async fn telling() -> SocketAddr {
    serve(|request: Request<Incoming>| async move {
        let said = |name| request.headers().get(name).map_or("", |value| value.to_str().unwrap());
        Response::new(format!("{} {} {}", said("x-forwarded-proto"), said("host"), request.uri()))
    })
    .await
}

fn client(authority: &Authority, protocols: &[&str]) -> Arc<ClientConfig> {
    let mut config = ClientConfig::clone(&authority.client());
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    Arc::new(config)
}

async fn connect(
    gateway: &Gateway,
    config: Arc<ClientConfig>,
    name: &str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(gateway.tls.unwrap()).await.unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    soon(TlsConnector::from(config).connect(name, tcp)).await
}

/// The certificate that a client gets to see.
async fn shown(gateway: &Gateway, authority: &Authority, name: &str) -> CertificateDer<'static> {
    let stream = connect(gateway, authority.client(), name).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].clone()
}

async fn http2(stream: TlsStream<TcpStream>) -> hyper::client::conn::http2::SendRequest<BoxBody> {
    let stream = TokioIo::new(stream);
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(connection);
    sender
}

async fn get2(stream: TlsStream<TcpStream>, uri: &str) -> Response<Incoming> {
    soon(http2(stream).await.send_request(Request::get(uri).body(empty()).unwrap())).await.unwrap()
}

#[tokio::test]
async fn clients_come_over_https_with_the_version_they_like() {
    let authority = Authority::new();
    let files = Files::of(&authority.issue(&["shop.example"]));
    let gateway = Gateway::with(&format!("{LISTEN}{}{}", files.table(""), before(telling().await))).await;
    for (offered, chosen) in [(&["h2", "http/1.1"][..], "h2"), (&["http/1.1", "h2"], "h2"), (&["h2"], "h2")] {
        let stream = connect(&gateway, client(&authority, offered), "shop.example").await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(chosen.as_bytes()));
        let answer = get2(stream, "https://shop.example/x").await;
        assert_eq!(text(answer).await, "https shop.example /x");
    }
    for offered in [&["http/1.1"][..], &[]] {
        let stream = connect(&gateway, client(&authority, offered), "shop.example").await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), offered.first().map(|name| name.as_bytes()));
        let mut raw = Raw::over(stream);
        for _ in 0..2 {
            raw.send("GET /y HTTP/1.1\r\nHost: shop.example\r\n\r\n").await;
            raw.until("https shop.example /y").await.unwrap();
        }
    }
    // Those who come in the clear are told apart.
    let request = Request::get("/z").header("host", "shop.example").body(empty()).unwrap();
    assert_eq!(text(send(gateway.addr, request).await).await, "http shop.example /z");
}

#[tokio::test]
async fn the_name_that_a_client_asks_for_decides_on_the_certificate() {
    let authority = Authority::new();
    let issue = |names: &[&str]| authority.issue(names);
    let exact = issue(&["shop.example", "www.shop.example"]);
    let wild = issue(&["*.shop.example", "shop.example"]);
    let default = issue(&["fallback.example", "unknown.example", "a.b.shop.example", "127.0.0.1"]);
    let (a, b, c) = (Files::of(&exact), Files::of(&wild), Files::of(&default));
    let tables = [
        a.table(""),
        b.table("names = [\"*.Shop.example\"]"),
        c.table("names = [\"fallback.example\"]\ndefault = true"),
    ];
    let gateway = Gateway::with(&format!("{LISTEN}{}{}", tables.concat(), before(nobody().await))).await;
    for (name, issued) in [
        ("shop.example", &exact),
        ("SHOP.example", &exact),
        ("www.shop.example", &exact),
        ("blog.shop.example", &wild),
        ("fallback.example", &default),
        ("unknown.example", &default),
        ("a.b.shop.example", &default),
        // An address is no name to ask for.
        ("127.0.0.1", &default),
    ] {
        assert_eq!(shown(&gateway, &authority, name).await, *issued.certificate.der(), "{name}");
    }
}

#[tokio::test]
async fn without_a_default_an_unknown_name_is_turned_away() {
    let authority = Authority::new();
    let files = Files::of(&authority.issue(&["shop.example", "other.example", "127.0.0.1"]));
    let table = files.table("names = [\"shop.example\"]");
    let gateway = Gateway::with(&format!("{LISTEN}{table}{}", before(nobody().await))).await;
    for name in ["other.example", "127.0.0.1"] {
        let error = connect(&gateway, authority.client(), name).await.unwrap_err();
        assert!(error.to_string().contains("AccessDenied"), "{error}");
    }
    shown(&gateway, &authority, "shop.example").await;
}

#[tokio::test]
async fn a_host_with_another_certificate_is_misdirected() {
    let authority = Authority::new();
    let both = Files::of(&authority.issue(&["a.example", "b.example"]));
    let other = Files::of(&authority.issue(&["*.other.example"]));
    let tables = [both.table(""), other.table("")].concat();
    let gateway = Gateway::with(&format!("{LISTEN}{tables}{}", before(telling().await))).await;
    let ask = async |host: &str| {
        let stream = connect(&gateway, client(&authority, &["h2"]), "a.example").await.unwrap();
        let over2 = get2(stream, &format!("https://{host}/")).await.status();
        let mut raw = Raw::over(connect(&gateway, authority.client(), "a.example").await.unwrap());
        raw.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        let head = raw.head().await;
        assert!(head.starts_with(&format!("http/1.1 {}", over2.as_u16())), "{host}: {over2} {head}");
        over2.as_u16()
    };
    for host in ["a.example", "A.example", "a.example:8443", "a.example.", "b.example", "unknown.example"] {
        assert_eq!(ask(host).await, 200, "{host}");
    }
    for host in ["x.other.example", "X.OTHER.example:1", "x.other.example."] {
        assert_eq!(ask(host).await, 421, "{host}");
    }
}

#[tokio::test]
async fn a_client_without_tls_gets_no_answer_and_disturbs_nobody() {
    let authority = Authority::new();
    let files = Files::of(&authority.issue(&["a.example"]));
    let gateway = Gateway::with(&format!("{LISTEN}{}{}", files.table(""), before(telling().await))).await;
    for garbage in [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".as_slice(), &[0; 99], &[22, 3, 1, 255, 255, 1]] {
        let mut stream = TcpStream::connect(gateway.tls.unwrap()).await.unwrap();
        stream.write_all(garbage).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        soon(stream.read_to_end(&mut answer)).await.ok();
        assert!(!answer.starts_with(b"HTTP") && answer.len() < 20, "an alert at most: {answer:?}");
    }
    let stream = connect(&gateway, client(&authority, &["h2"]), "a.example").await.unwrap();
    assert_eq!(get2(stream, "https://a.example/").await.status(), 200);
}

#[tokio::test]
async fn a_handshake_that_hangs_holds_up_nobody_and_ends_in_time() {
    let authority = Authority::new();
    let files = Files::of(&authority.issue(&["a.example"]));
    let config = |more: &str, server| format!("{more}\n{LISTEN}{}{}", files.table(""), before(server));
    let gateway = Gateway::with(&config("", telling().await)).await;
    let mut hanging = Vec::new();
    for _ in 0..8 {
        hanging.push(TcpStream::connect(gateway.tls.unwrap()).await.unwrap());
    }
    let stream = connect(&gateway, client(&authority, &["h2"]), "a.example").await.unwrap();
    assert_eq!(get2(stream, "https://a.example/").await.status(), 200);
    assert_eq!(gateway.get("/").await.0, 200);
    // They count as connections.
    soon(async { while gateway.status().await["connections"].as_u64() < Some(8) {} }).await;

    // With room for one only, the next one waits until the handshake has taken too long.
    let gateway =
        Gateway::with(&config("max_connections = 1\ntimeouts.handshake = \"500ms\"", telling().await)).await;
    let mut first = TcpStream::connect(gateway.tls.unwrap()).await.unwrap();
    soon(async { while gateway.status().await["connections"] != 1 {} }).await;
    let stream = connect(&gateway, client(&authority, &["h2"]), "a.example").await.unwrap();
    assert_eq!(get2(stream, "https://a.example/").await.status(), 200);
    assert_eq!(soon(first.read(&mut [0; 9])).await.unwrap_or(0), 0, "closed");
}

#[tokio::test]
async fn old_versions_of_tls_are_refused_when_told_so() {
    let authority = Authority::new();
    let files = Files::of(&authority.issue(&["a.example"]));
    let old =
        Arc::new(client_with(&[&TLS12]).with_root_certificates(authority.roots()).with_no_client_auth());
    for (setting, is_served) in [("", true), ("min_version = \"1.3\"\n", false)] {
        let config = format!("{LISTEN}{setting}{}{}", files.table(""), before(nobody().await));
        let gateway = Gateway::with(&config).await;
        assert_eq!(connect(&gateway, Arc::clone(&old), "a.example").await.is_ok(), is_served);
        shown(&gateway, &authority, "a.example").await;
    }
}

#[tokio::test]
async fn a_websocket_passes_through_tls() {
    let server = serve_raw(|mut raw| async move {
        let head = raw.head().await;
        assert!(head.contains("x-forwarded-proto: https"), "{head}");
        raw.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
            .await;
        let word = raw.until("\n").await.unwrap();
        raw.send(word).await;
        raw.rest().await;
    })
    .await;
    let authority = Authority::new();
    let files = Files::of(&authority.issue(&["a.example"]));
    let gateway = Gateway::with(&format!("{LISTEN}{}{}", files.table(""), before(server))).await;
    let stream = connect(&gateway, client(&authority, &["http/1.1"]), "a.example").await.unwrap();
    let mut raw = Raw::over(stream);
    raw.send("GET / HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n").await;
    assert!(raw.head().await.starts_with("http/1.1 101"));
    raw.send("hello\n").await;
    assert_eq!(raw.until("\n").await.unwrap(), "hello\n");
    assert_eq!(gateway.status().await["connections"], 1);
    raw.stream.shutdown().await.unwrap();
    raw.rest().await;
    drop(raw);
    soon(async { while gateway.status().await["connections"] != 0 {} }).await;
}

#[tokio::test]
async fn what_is_in_flight_is_finished_and_handshakes_are_not_waited_for() {
    let (frames, body) = channel();
    let body = std::sync::Mutex::new(Some(body));
    let body = Arc::new(body);
    let server = serve(move |_: Request<Incoming>| {
        let body = body.lock().unwrap().take().unwrap_or_else(empty);
        async move { Response::new(body) }
    })
    .await;
    let authority = Authority::new();
    let files = Files::of(&authority.issue(&["a.example"]));
    let mut gateway = Gateway::with(&format!("{LISTEN}{}{}", files.table(""), before(server))).await;
    let mut hanging = TcpStream::connect(gateway.tls.unwrap()).await.unwrap();
    let mut idle = Raw::over(connect(&gateway, authority.client(), "a.example").await.unwrap());
    let mut raw = Raw::over(connect(&gateway, authority.client(), "a.example").await.unwrap());
    frames.send(data("begin ")).unwrap();
    raw.send("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").await;
    raw.until("begin ").await.unwrap();
    soon(async { while gateway.status().await["connections"] != 3 {} }).await;
    gateway.signal("TERM").await;
    assert_eq!(soon(hanging.read(&mut [0; 9])).await.unwrap_or(0), 0, "closed");
    assert_eq!(idle.rest().await, "", "closed");
    frames.send(data("end")).unwrap();
    drop(frames);
    raw.until("end").await.unwrap();
    raw.rest().await;
    drop(raw);
    assert_eq!(gateway.exit_code().await, Some(0));
}

#[tokio::test]
async fn each_host_has_its_own_certificate_and_cluster() {
    let authority = Authority::new();
    let (shop, api) = (authority.issue(&["shop.example"]), authority.issue(&["api.example"]));
    let (a, b) = (Files::of(&shop), Files::of(&api));
    let mut config = format!("{LISTEN}{}{}", a.table(""), b.table(""));
    for name in ["shop", "api"] {
        let server = serve(move |_: Request<Incoming>| async move { Response::new(name.to_owned()) }).await;
        write!(
            config,
            "[[route]]\nhosts = [\"{name}.example\"]\ncluster = \"{name}\"\n\
             [[upstream]]\nid = \"{name}\"\ncluster = \"{name}\"\nurl = \"http://{server}\"\n"
        )
        .unwrap();
    }
    let gateway = Gateway::with(&config).await;
    for (name, issued) in [("shop", &shop), ("api", &api)] {
        let host = format!("{name}.example");
        assert_eq!(shown(&gateway, &authority, &host).await, *issued.certificate.der());
        let stream = connect(&gateway, client(&authority, &["h2"]), &host).await.unwrap();
        assert_eq!(text(get2(stream, &format!("https://{host}/")).await).await, name);
    }
    // On the connection of one host, there is no way to the other.
    let stream = connect(&gateway, client(&authority, &["h2"]), "shop.example").await.unwrap();
    assert_eq!(get2(stream, "https://api.example/").await.status(), 421);
}

#[tokio::test]
async fn a_proxy_says_whose_connection_it_is_before_tls_begins() {
    let server = serve(|request: Request<Incoming>| async move {
        Response::new(format!("{:?}", request.headers()["x-forwarded-for"]))
    })
    .await;
    let authority = Authority::new();
    let files = Files::of(&authority.issue(&["a.example"]));
    let told = "proxy_protocol = true\ntrusted_proxies = [\"127.0.0.1\"]\n";
    let gateway = Gateway::with(&format!("{told}{LISTEN}{}{}", files.table(""), before(server))).await;
    let mut tcp = TcpStream::connect(gateway.tls.unwrap()).await.unwrap();
    tcp.write_all(b"PROXY TCP6 2001:db8::7 2001:db8::1 4711 443\r\n").await.unwrap();
    let connector = TlsConnector::from(client(&authority, &["h2"]));
    let stream = soon(connector.connect("a.example".try_into().unwrap(), tcp)).await.unwrap();
    assert_eq!(text(get2(stream, "https://a.example/").await).await, "\"2001:db8::7\"");
}

#[tokio::test]
async fn servers_are_reached_over_https_if_the_system_trusts_them() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let server = authority.issue(&["127.0.0.1"]).server(&["http/1.1"]);
    let addr = serve_tls(server, |_: Request<Incoming>| async { Response::new(empty()) }).await;
    for (trusted, status) in [(&authority, 200), (&stranger, 502)] {
        let roots = File::new(&trusted.pem());
        let gateway = Gateway::start_trusting(&roots, &[&format!("--upstream=https://{addr}")]).await;
        assert_eq!(gateway.get("/").await.0, status);
        assert_eq!(gateway.node(addr).await["url"], format!("https://{addr}"));
    }
}

#[tokio::test]
async fn mistakes_are_named_with_their_line() {
    let authority = Authority::new();
    let (shop, other) = (
        Files::of(&authority.issue(&["shop.example"])),
        Files::of(&authority.issue(&["shop.example", "b.example"])),
    );
    let nameless = Files::of(&authority.issue(&["10.0.0.1"]));
    let text = File::new("this is no certificate");
    let broken = File::new("-----BEGIN CERTIFICATE-----\n%\n-----END CERTIFICATE-----\n");
    let empty = File::new("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let table = |cert: &File, key: &File| {
        format!("[[tls.certificate]]\ncert = \"{}\"\nkey = \"{}\"\n", cert.path(), key.path())
    };
    let cases = [
        (String::new(), "", " [tls] lacks a certificate: name at least one"),
        (
            "[[tls.certificate]]\ncert = \"no/such.pem\"\nkey = \"x\"\n".into(),
            "4:8:",
            " no/such.pem: cannot read it: No such file",
        ),
        (table(&text, &shop.key), "4:8:", "there is no certificate in it"),
        (table(&broken, &shop.key), "4:8:", "it is not in PEM"),
        (table(&empty, &shop.key), "4:8:", "it is no certificate of a server"),
        (table(&shop.key, &shop.key), "4:8:", "there is no certificate in it"),
        (table(&shop.cert, &shop.cert), "5:7:", "there is no private key in it"),
        (table(&shop.cert, &text), "5:7:", "there is no private key in it"),
        (table(&shop.cert, &other.key), "5:7:", "it is not the key of "),
        (nameless.table(""), "4:8:", "it is for no DNS name"),
        (
            shop.table("names = [\"b.example\"]"),
            "6:10:",
            " the certificate is not for b.example, but for [shop.example]",
        ),
        (shop.table("names = [\"shop.example\", \"a b\"]"), "6:26:", " \"a b\" is no DNS name"),
        (shop.table("") + &other.table(""), "8:8:", " the certificate of line 4 is for shop.example too"),
        (
            shop.table("default = true") + &nameless.table("default = true"),
            "8:8:",
            " a certificate is the default, but that of line 4 is already",
        ),
        (shop.table("defualt = true"), "6:1:", " unknown field `defualt`"),
        (
            "min_version = \"1.1\"\n".to_owned() + &shop.table(""),
            "3:15:",
            " \"1.1\" is no version of TLS that is safe",
        ),
    ];
    for (tables, place, what) in cases {
        let file = File::new(&format!("{LISTEN}{tables}{}", before(([127, 0, 0, 1], 1).into())));
        let output = run(&["--config", file.path()]).await;
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.starts_with(&format!("error: {}:{place}", file.path())), "{place} in {error}");
        assert!(error.lines().next().unwrap().contains(what), "{what} in {error}");
    }
}

#[tokio::test]
async fn one_of_two_certificates_for_a_name_is_chosen_with_names() {
    let authority = Authority::new();
    let (old, new) = (authority.issue(&["a.example", "b.example"]), authority.issue(&["a.example"]));
    let (first, second) = (Files::of(&old), Files::of(&new));
    let mut config = LISTEN.to_owned();
    write!(config, "{}{}", first.table("names = [\"b.example\"]"), second.table("")).unwrap();
    let gateway = Gateway::with(&(config + &before(nobody().await))).await;
    assert_eq!(shown(&gateway, &authority, "a.example").await, *new.certificate.der());
    assert_eq!(shown(&gateway, &authority, "b.example").await, *old.certificate.der());
    assert!(timeout(PATIENCE, connect(&gateway, authority.client(), "c.example")).await.unwrap().is_err());
}
