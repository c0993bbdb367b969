//! The web servers behind the gateway when it is given none: of different speed, on free loopback ports.

use std::{io, sync::Arc, time::Duration};

use axum::{Router, http::Uri};
use tokio::{net::TcpListener, sync::Semaphore, time::sleep};

use crate::config::{Upstream, Url};

/// Name, and how long it works on a request.
const SERVERS: [(&str, Duration); 3] = [
    ("fast", Duration::from_millis(2)),
    ("medium", Duration::from_millis(6)),
    ("slow", Duration::from_millis(20)),
];

/// How many requests each works on at once. More of them wait, as they do where there are so many cores.
const WORKERS: usize = 8;

/// Starts the servers, which run as long as the program.
pub(crate) async fn start() -> io::Result<Vec<Upstream>> {
    let mut upstreams = Vec::new();
    for (name, work) in SERVERS {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url: Url = format!("http://{}", listener.local_addr()?).parse().map_err(io::Error::other)?;
        upstreams.push(Upstream::named(name, url));
        let server = axum::serve(listener, server(name, work));
        tokio::spawn(async move { server.await });
    }
    Ok(upstreams)
}

fn server(name: &'static str, work: Duration) -> Router {
    let workers = Arc::new(Semaphore::new(WORKERS));
    Router::new().fallback(move |uri: Uri| async move {
        let _worker = workers.acquire().await;
        sleep(work).await;
        ([("x-served-by", name)], format!("{name} says hello from {}\n", uri.path()))
    })
}
