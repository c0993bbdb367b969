//! Several clusters behind one gateway: which requests and connections go where.

use std::{fmt::Write, io::ErrorKind, net::SocketAddr};

use http_body_util::Full;
use hyper::{Request, Response, body::Incoming};
use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::{
    process::{Gateway, run, send, text},
    support::{Raw, empty, nobody, serve, serve_raw, soon},
};

/// A server that tells its name and what it is asked for.
pub(crate) async fn named(name: &'static str) -> SocketAddr {
    serve(move |request: Request<Incoming>| async move {
        Response::new(Full::<bytes::Bytes>::from(format!("{name} {}", request.uri())))
    })
    .await
}

pub(crate) fn upstream(id: &str, cluster: &str, url: &str) -> String {
    format!("[[upstream]]\nid = \"{id}\"\ncluster = \"{cluster}\"\nurl = \"{url}\"\n")
}

#[tokio::test]
async fn requests_go_where_the_most_specific_route_leads() {
    let mut config = r#"
        [cluster.api.policy]
        name = "round_robin"
        [[route]]
        hosts = ["api.example"]
        cluster = "api"
        [[route]]
        hosts = ["api.example"]
        prefix = "/v1"
        methods = ["GET", "HEAD"]
        headers = { x-canary = "*", x-user = "beta-*" }
        rewrite = "/"
        cluster = "next"
    "#
    .to_owned();
    for name in ["default", "api", "next"] {
        write!(config, "{}", upstream(name, name, &format!("http://{}", named(name).await))).unwrap();
    }
    let gateway = Gateway::with(&config).await;
    let ask = async |method: &str, host: &str, path: &str, user: &str| {
        let request = Request::builder().method(method).uri(path).header("host", host);
        let request = request.header("x-canary", "1").header("x-user", user).body(empty()).unwrap();
        text(send(gateway.addr, request).await).await
    };
    assert_eq!(ask("GET", "api.example", "/v1/users?page=2", "beta-7").await, "next /users?page=2");
    assert_eq!(ask("GET", "api.example:8080", "/v1/users", "7").await, "api /v1/users");
    assert_eq!(ask("POST", "API.example", "/v1/users", "beta-7").await, "api /v1/users");
    assert_eq!(ask("GET", "example", "/v1", "beta-7").await, "default /v1");
    // A path that servers read in different ways is none that a rule can be got around by.
    assert!(ask("GET", "api.example", "/x/../v1", "beta-7").await.starts_with("400"));

    let status = gateway.status().await;
    let policies: Vec<_> = status["clusters"].as_array().unwrap().iter().map(|c| &c["policy"]).collect();
    assert_eq!(policies, ["least_response_time", "round_robin", "least_response_time"]);
    assert_eq!(
        (&gateway.node("api").await["cluster"], &gateway.node("api").await["requests"]),
        (&"api".into(), &2.into())
    );
}

#[tokio::test]
async fn without_a_default_cluster_what_no_route_is_for_is_not_found() {
    let server = named("api").await;
    let route = "[[route]]\nprefix = \"/api\"\ncluster = \"api\"\n";
    let gateway =
        Gateway::with(&format!("{route}{}", upstream("a", "api", &format!("http://{server}")))).await;
    assert_eq!(gateway.get("/api/x").await, (200, "api /api/x".to_owned()));
    assert_eq!(gateway.get("/apis").await.0, 404);

    // Nodes are added to a cluster by name, and belong to one only.
    let body = |cluster: &str| -> &'static str {
        format!("{{\"url\": \"http://{server}\", \"cluster\": \"{cluster}\"}}").leak()
    };
    assert_eq!(gateway.command("PUT", "/nodes/b", body("shop")).await, 404);
    assert_eq!(gateway.command("PUT", "/nodes/b", body("default")).await, 404);
    assert_eq!(gateway.command("PUT", "/nodes/b", body("api")).await, 201);
    assert_eq!(gateway.command("PUT", "/nodes/b", body("shop")).await, 409);
    assert_eq!(gateway.command("PUT", "/nodes/b", "{\"url\": \"tcp://127.0.0.1:1\"}").await, 400);
    assert_eq!(gateway.node("b").await["cluster"], "api");
}

#[tokio::test]
async fn tcp_is_passed_on_as_it_is() {
    let server = serve_raw(|mut raw| async move {
        // Whose connection it is, and what the client says.
        let (header, word) = (raw.until("\r\n").await.unwrap(), raw.until("\n").await.unwrap());
        raw.send(format!("{header}{word}")).await;
        raw.rest().await;
    })
    .await;
    let config = format!(
        "[[tcp]]\nlisten = \"127.0.0.1:0\"\ncluster = \"db\"\n{}proxy_protocol = \"v1\"\n{}{}",
        upstream("db-1", "db", &format!("tcp://{server}")),
        upstream("db-2", "db", &format!("tcp://{}", nobody().await)),
        upstream("web", "default", &format!("http://{}", named("web").await)),
    );
    let mut gateway = Gateway::with(&config).await;
    for _ in 0..4 {
        let mut client = Raw::connect(gateway.tcp[0]).await;
        client.send("hello\n").await;
        let header = client.until("\r\n").await.unwrap();
        let own = client.stream.local_addr().unwrap();
        assert!(header.starts_with("PROXY TCP4 127.0.0.1 127.0.0.1 "), "{header}");
        assert!(header.contains(&format!(" {} {}\r\n", own.port(), gateway.tcp[0].port())), "{header}");
        assert_eq!(client.until("\n").await.unwrap(), "hello\n");
    }
    let node = gateway.node("db-1").await;
    assert_eq!((&node["cluster"], &node["url"]), (&"db".into(), &format!("tcp://{server}").into()));
    assert_eq!(gateway.get("/").await.1, "web /");
    // Wherever a node moves, it is told as before.
    let here: &'static str = format!("{{\"url\": \"tcp://localhost:{}\"}}", server.port()).leak();
    assert_eq!(gateway.command("PUT", "/nodes/db-1", here).await, 204);

    // Open connections are finished at the end.
    let mut client = Raw::connect(gateway.tcp[0]).await;
    client.send("first\n").await;
    client.until("first\n").await.unwrap();
    gateway.signal("TERM").await;
    soon(async { while tokio::net::TcpStream::connect(gateway.tcp[0]).await.is_ok() {} }).await;
    client.stream.shutdown().await.unwrap();
    assert_eq!(client.rest().await, "");
    assert_eq!(gateway.exit_code().await, Some(0));
}

const TRUSTED: &str = "trusted_proxies = [\"127.0.0.1\"]\n";
const ASK: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

#[tokio::test]
async fn trusted_proxies_say_whose_connections_they_pass_on() {
    let server = serve(|request: Request<Incoming>| async move {
        Response::new(format!("{:?}.", request.headers()["x-forwarded-for"]))
    })
    .await;
    let told = "listen = \"127.0.0.1:0\"\nproxy_protocol = true\n";
    let echo = serve_raw(|mut raw| async move {
        let word = raw.until("\n").await.unwrap();
        raw.send(word).await;
    })
    .await;
    let config = format!(
        "proxy_protocol = true\n{TRUSTED}[[tcp]]\n{told}cluster = \"db\"\n{}{}",
        upstream("db", "db", &format!("tcp://{echo}")),
        upstream("web", "default", &format!("http://{server}")),
    );
    let gateway = Gateway::with(&config).await;
    let header = "PROXY TCP4 203.0.113.9 198.51.100.1 4711 80\r\n";
    let mut client = Raw::connect(gateway.addr).await;
    client.send(format!("{header}{ASK}")).await;
    assert!(client.until("\".").await.unwrap().ends_with("\"203.0.113.9\"."));
    let mut client = Raw::connect(gateway.tcp[0]).await;
    client.send(format!("{header}hello\n")).await;
    assert_eq!(client.until("\n").await.unwrap(), "hello\n");
    // Who says nothing of the kind is not heard.
    for addr in [gateway.addr, gateway.tcp[0]] {
        let mut client = Raw::connect(addr).await;
        client.send(ASK).await;
        assert_eq!(client.rest().await, "");
    }

    // Neither is a stranger.
    let strangers = config.replace("127.0.0.1\"]", "10.0.0.0/8\"]");
    let gateway = Gateway::with(&strangers).await;
    for addr in [gateway.addr, gateway.tcp[0]] {
        // A stranger may be turned away before it knows that it is connected, or before all is said.
        let stream = match TcpStream::connect(addr).await {
            Err(error) if error.kind() == ErrorKind::ConnectionReset => continue,
            connected => connected.unwrap(),
        };
        let mut client = Raw::over(stream);
        let _ = client.stream.write_all(format!("{header}{ASK}").as_bytes()).await;
        assert_eq!(client.rest().await, "");
    }
}

#[tokio::test]
async fn a_cluster_that_cannot_be_as_told_is_named() {
    let outlier = "[cluster.api.outlier]\nmax_ejection = \"1s\"\n[[route]]\ncluster = \"api\"\n";
    let file = crate::process::File::new(&format!("{outlier}{}", upstream("a", "api", "http://127.0.0.1:1")));
    let output = run(&["--config", file.path()]).await;
    assert_eq!(output.status.code(), Some(2));
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(error, "error: cluster \"api\": [outlier] max_ejection must be at least `base_ejection`\n");
}
