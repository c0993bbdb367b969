//! A shared HTTP cache inside an axum app: the handlers say for how long their answers are good.
//!
//! `cargo run --example cdn_axum`

use std::time::Duration;

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::Path,
    http::Request,
    response::IntoResponse,
    routing::get,
};
use buttress::cdn::{Cdn, Purge};
use tokio::time::sleep;
use tower::{BoxError, ServiceExt};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), BoxError> {
    // The application keeps the handle, to purge and to look at the statistics; the layer goes around the routes.
    let cdn = Cdn::new(64 << 20);
    let app = Router::new()
        .route("/socks/{color}", get(socks))
        .route("/account", get(|| async { "nothing is said, so nothing is stored" }))
        .layer(cdn.layer());

    for path in ["/socks/red", "/socks/red", "/socks/blue", "/account", "/account"] {
        println!("{path:12} {}", ask(app.clone(), path).await?);
    }

    // What has this tag is out of date.
    cdn.purge(&Purge::tag("socks")?);
    println!("{:12} {}", "/socks/red", ask(app.clone(), "/socks/red").await?);

    // However many ask for it at once, it is made once.
    let asked: Vec<_> = (0..1000).map(|_| tokio::spawn(ask(app.clone(), "/socks/green"))).collect();
    for answer in asked {
        answer.await??;
    }
    println!("\n{:?}", cdn.stats());
    Ok(())
}

/// Takes its time.
async fn socks(Path(color): Path<String>) -> impl IntoResponse {
    sleep(Duration::from_millis(50)).await;
    ([("cache-control", "max-age=60"), ("cache-tag", "socks")], format!("{color} socks"))
}

async fn ask(app: Router, path: &'static str) -> Result<String, BoxError> {
    let response = app.oneshot(Request::get(path).header("host", "example.com").body(Body::empty())?).await?;
    let status =
        response.headers().get("cache-status").map(|status| status.to_str().unwrap_or("-").to_owned());
    let body = to_bytes(response.into_body(), 1024).await?;
    Ok(format!("{:40} {}", String::from_utf8_lossy(&body), status.unwrap_or_default()))
}
