//! The whole stack over real sockets: proxy, pins, retries, balancer, upstreams.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use buttress::{
    balance::{Balance, Retry, RoundRobin, http::RepeatHttp},
    cluster::{Admin, Cluster, Node},
    forward::{Proxy, Upstream},
    sticky::{Pins, Sticky},
};
use http_body_util::BodyExt;
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{CACHE_CONTROL, COOKIE, RETRY_AFTER, SET_COOKIE},
};

use crate::{
    sockets::{BoxBody, Raw, empty, http1, http2, nobody, proxy, serve, serve_raw, soon, upstream},
    support::shop,
};

/// A server that answers with its name, and with the cookies that it sees.
async fn server(name: String) -> Upstream {
    let addr = serve(move |request: Request<Incoming>| {
        let name = name.clone();
        async move {
            let mut response = Response::new(http_body_util::Full::<bytes::Bytes>::from(name));
            response.headers_mut().insert(CACHE_CONTROL, "public, max-age=60".parse().unwrap());
            if let Some(cookies) = request.headers().get(COOKIE) {
                response.headers_mut().insert("x-cookies", cookies.clone());
            }
            response
        }
    })
    .await;
    upstream(addr)
}

async fn cluster(names: &[&str]) -> Cluster<Upstream> {
    let mut nodes = Vec::new();
    for name in names {
        nodes.push((Node::new(*name), server((*name).to_owned()).await));
    }
    Cluster::new(nodes).unwrap()
}

fn pins(cluster: &Cluster<Upstream>) -> Pins {
    Pins::cookie(shop(&[1]).build().unwrap(), cluster)
}

/// A gateway in front of the cluster.
async fn gateway(cluster: &Cluster<Upstream>, pins: &Pins) -> SocketAddr {
    let balance = Balance::http(cluster.clone(), RoundRobin).sticky();
    proxy(Proxy::new(Sticky::new(Retry::new(balance, RepeatHttp::new()), pins.clone()))).await
}

fn request(method: Method, cookies: &[&str]) -> Request<BoxBody> {
    let mut request = Request::builder().method(method).uri("/").header("host", "a.example");
    for line in cookies {
        request = request.header(COOKIE, *line);
    }
    request.body(empty()).unwrap()
}

/// The first cookie that a response sets, as it is sent back.
fn cookie_of<B>(response: &Response<B>) -> Option<String> {
    let line = response.headers().get(SET_COOKIE)?.to_str().unwrap();
    line.split(';').next().map(str::to_owned)
}

async fn name_in(response: Response<Incoming>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

#[tokio::test]
async fn a_browser_keeps_its_server_until_that_dies_and_then_moves_once() {
    let cluster = cluster(&["a", "b", "c"]).await;
    let pins = pins(&cluster);
    let mut client = http1(gateway(&cluster, &pins).await).await;

    let first = soon(client.send_request(request(Method::GET, &["theme=dark"]))).await.unwrap();
    assert_eq!(first.headers()[CACHE_CONTROL], "private, max-age=60");
    let cookie = cookie_of(&first).unwrap();
    let node = name_in(first).await;

    for admin in [Admin::Active, Admin::Draining] {
        cluster.set_admin(&*node, admin).unwrap();
        for method in [Method::GET, Method::POST, Method::GET] {
            let lines = format!("theme=dark; {cookie}");
            let response = soon(client.send_request(request(method, &[&lines]))).await.unwrap();
            assert_eq!(cookie_of(&response), None);
            assert_eq!(response.headers()[CACHE_CONTROL], "public, max-age=60");
            assert_eq!(response.headers()["x-cookies"], "theme=dark", "the server sees only its own");
            assert_eq!(name_in(response).await, node);
        }
    }

    // Nobody listens there any more: found out by trying, so even a POST may go on.
    let dead = upstream(nobody().await);
    cluster.insert(Node::new(&*node), dead).unwrap();
    let response = soon(client.send_request(request(Method::POST, &[&cookie]))).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let next = cookie_of(&response).unwrap();
    let moved = name_in(response).await;
    assert_ne!(moved, node);
    for _ in 0..5 {
        let response = soon(client.send_request(request(Method::GET, &[&next]))).await.unwrap();
        assert_eq!(cookie_of(&response), None);
        assert_eq!(name_in(response).await, moved);
    }
    assert_eq!((pins.stats().assigned, pins.stats().moved), (1, 1));
}

#[tokio::test]
async fn a_strict_client_is_told_503_while_its_server_is_away() {
    let cluster = cluster(&["a", "b"]).await;
    let mut client = http1(gateway(&cluster, &pins(&cluster).strict()).await).await;
    let first = soon(client.send_request(request(Method::GET, &[]))).await.unwrap();
    let cookie = cookie_of(&first).unwrap();
    let node = name_in(first).await;
    cluster.set_admin(&*node, Admin::Down).unwrap();
    let refused = soon(client.send_request(request(Method::GET, &[&cookie]))).await.unwrap();
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(refused.headers().contains_key(RETRY_AFTER) && cookie_of(&refused).is_none());
    drop(refused.into_body().collect().await);
    let last = if cookie.ends_with('A') { 'B' } else { 'A' };
    let forged = format!("{}{last}", &cookie[..cookie.len() - 1]);
    let response = soon(client.send_request(request(Method::GET, &[&forged]))).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK, "a forged cookie is as none");
    cluster.set_admin(&*node, Admin::Active).unwrap();
}

#[tokio::test]
async fn cookies_in_many_fields_of_http2_are_found() {
    let cluster = cluster(&["a", "b", "c"]).await;
    let mut client = http2(gateway(&cluster, &pins(&cluster)).await).await;
    let over_http2 = |cookies: &[&str]| {
        let mut request = request(Method::GET, cookies);
        request.headers_mut().remove("host");
        *request.uri_mut() = "http://a.example/".parse().unwrap();
        request
    };
    let first = soon(client.send_request(over_http2(&[]))).await.unwrap();
    let cookie = cookie_of(&first).unwrap();
    let node = name_in(first).await;
    for _ in 0..6 {
        let crumbs = ["theme=dark", &cookie, "lang=en"];
        let response = soon(client.send_request(over_http2(&crumbs))).await.unwrap();
        assert_eq!(response.headers()["x-cookies"], "theme=dark; lang=en");
        assert_eq!(name_in(response).await, node);
    }
}

#[tokio::test]
async fn a_websocket_is_pinned_like_anything_else() {
    const SWITCH: &str =
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let mut nodes = Vec::new();
    for name in ["a", "b", "c"] {
        let addr = serve_raw(move |mut connection| async move {
            connection.head().await;
            connection.send(format!("{SWITCH}{name}\n")).await;
            connection.rest().await;
        });
        nodes.push((Node::new(name), upstream(addr.await)));
    }
    let cluster = Cluster::new(nodes).unwrap();
    let addr = gateway(&cluster, &pins(&cluster)).await;
    let (mut cookie, mut names) = (String::new(), Vec::new());
    for _ in 0..4 {
        let mut client = Raw::connect(addr).await;
        let ask = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n";
        client.send(format!("{ask}{cookie}\r\n")).await;
        let head = client.until("\r\n\r\n").await.unwrap();
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        let line = head.lines().find_map(|line| line.strip_prefix("set-cookie: "));
        assert_eq!(line.is_some(), cookie.is_empty(), "{head}");
        if let Some(line) = line {
            cookie = format!("Cookie: {}\r\n", line.split(';').next().unwrap());
        }
        names.push(client.until("\n").await.unwrap());
    }
    assert!(names.windows(2).all(|pair| pair[0] == pair[1]), "{names:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_moves_while_other_servers_come_and_go() {
    let cluster = cluster(&["a", "b", "c", "d"]).await;
    let pins = pins(&cluster);
    let addr = gateway(&cluster, &pins).await;
    let mut clients = Vec::new();
    for _ in 0..12 {
        let mut client = http1(addr).await;
        let first = soon(client.send_request(request(Method::GET, &[]))).await.unwrap();
        let cookie = cookie_of(&first).unwrap();
        clients.push((client, cookie, name_in(first).await));
    }
    let is_over = Arc::new(AtomicBool::new(false));
    let churn = {
        let (cluster, is_over) = (cluster.clone(), Arc::clone(&is_over));
        let newcomer = server("e".into()).await;
        tokio::spawn(async move {
            while !is_over.load(SeqCst) {
                cluster.insert(Node::new("e"), newcomer.clone()).unwrap();
                cluster.set_weight("a", 3).unwrap();
                tokio::time::sleep(Duration::from_micros(300)).await;
                cluster.remove("e");
                cluster.set_weight("a", 1).unwrap();
                tokio::time::sleep(Duration::from_micros(300)).await;
            }
        })
    };
    let visits = clients.into_iter().map(|(mut client, cookie, node)| {
        tokio::spawn(async move {
            for _ in 0..40 {
                // The other thread may not have noticed yet that the last answer is over.
                soon(client.ready()).await.unwrap();
                let response = soon(client.send_request(request(Method::GET, &[&cookie]))).await.unwrap();
                assert_eq!(cookie_of(&response), None);
                assert_eq!(name_in(response).await, node);
            }
        })
    });
    for visit in visits.collect::<Vec<_>>() {
        visit.await.unwrap();
    }
    is_over.store(true, SeqCst);
    churn.await.unwrap();
    let stats = pins.stats();
    assert_eq!((stats.assigned, stats.kept, stats.moved, stats.lost, stats.unmarked), (12, 480, 0, 0, 0));
}
