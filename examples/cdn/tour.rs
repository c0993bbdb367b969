//! An origin that stands in for yours, and what the cache makes of it.

use std::{error::Error, io, net::SocketAddr, time::Duration};

use axum::{
    Router,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::get,
};
use buttress::cdn::Cdn;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{Instant, sleep},
};

use crate::config::Origin;

/// How long the origin works on each answer.
const WORK: Duration = Duration::from_millis(100);

/// Starts an origin, which runs as long as the program.
pub(crate) async fn origin() -> io::Result<Origin> {
    let router = Router::new()
        .route("/news", get(|| answer("max-age=1, stale-while-revalidate=60", "what happened today")))
        .route("/page", get(page))
        .route("/language", get(language))
        .route("/account", get(|| answer("private", "what is yours alone")));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(Origin { url, priority: 0 })
}

async fn answer(cache_control: &'static str, text: &'static str) -> impl IntoResponse {
    sleep(WORK).await;
    ([("cache-control", cache_control)], text)
}

/// Stale at once, but it says so quickly when nothing has changed.
async fn page(headers: HeaderMap) -> Response {
    let told = [("cache-control", "no-cache"), ("etag", "\"1\"")];
    if headers.get("if-none-match").is_some_and(|tag| tag == "\"1\"") {
        return (StatusCode::NOT_MODIFIED, told).into_response();
    }
    sleep(WORK).await;
    (told, "a page that changes at any time").into_response()
}

async fn language(headers: HeaderMap) -> impl IntoResponse {
    sleep(WORK).await;
    let german =
        headers.get("accept-language").is_some_and(|language| language.as_bytes().starts_with(b"de"));
    let told = [("cache-control", "max-age=60"), ("vary", "accept-language")];
    (told, if german { "guten Tag" } else { "good day" })
}

/// Asks for this and that, and prints what came of it.
pub(crate) async fn run(gateway: SocketAddr, cdn: &Cdn) -> Result<(), Box<dyn Error>> {
    println!("\nan origin that takes {WORK:?} for each answer:\n");
    for (what, path, field) in [
        ("the first time", "/news", ""),
        ("again", "/news", ""),
        ("in English", "/language", "accept-language: en\r\n"),
        ("in German", "/language", "accept-language: de\r\n"),
        ("in German again", "/language", "accept-language: de\r\n"),
        ("must be validated", "/page", ""),
        ("has been", "/page", ""),
        ("for one only", "/account", ""),
        ("for one only", "/account", ""),
    ] {
        ask(gateway, what, path, field).await?;
    }
    println!("\na hundred at once for what nobody has:");
    let began = Instant::now();
    let asked: Vec<_> = (0..100).map(|_| tokio::spawn(get_status(gateway, "/language?all", ""))).collect();
    for answer in asked {
        answer.await??;
    }
    println!("    {:?} for all of them\n", began.elapsed());
    sleep(Duration::from_millis(1100)).await;
    ask(gateway, "old, for now", "/news", "").await?;
    sleep(2 * WORK).await;
    ask(gateway, "fetched meanwhile", "/news", "").await?;
    println!("\n{:?}\n\nCtrl-C ends it; ask it yourself: curl -i http://{gateway}/news", cdn.stats());
    Ok(())
}

async fn ask(gateway: SocketAddr, what: &str, path: &'static str, field: &'static str) -> io::Result<()> {
    let began = Instant::now();
    let status = get_status(gateway, path, field).await?;
    println!("{what:20}{path:12}{:>8.1?}  {status}", began.elapsed());
    Ok(())
}

/// Asks on a connection of its own: what `Cache-Status` says.
async fn get_status(gateway: SocketAddr, path: &'static str, field: &'static str) -> io::Result<String> {
    let mut stream = TcpStream::connect(gateway).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: example.com\r\n{field}connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let field = answer.lines().find_map(|line| line.strip_prefix("cache-status: "));
    Ok(field.unwrap_or("-").to_owned())
}
