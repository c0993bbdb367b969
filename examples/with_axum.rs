//! axum on both sides: routers in this process as nodes, and the balancer as a service of a router.
//!
//! `cargo run --example with_axum`

use std::{convert::Infallible, error::Error};

use axum::{
    Router,
    body::{Body, to_bytes},
    error_handling::HandleError,
    extract::Path,
    http::{Request, StatusCode},
    routing::get,
};
use buttress::{
    balance,
    balance::{Balance, RoundRobin},
    cluster::{Admin, Cluster, Node},
};
use tower::ServiceExt;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    // The nodes: any axum router is one.
    let node = |name: &'static str| {
        let hello = move |Path(who): Path<String>| async move { format!("{name} greets {who}") };
        (Node::new(name), Router::new().route("/hello/{who}", get(hello)))
    };
    let cluster = Cluster::new(["red", "green", "blue"].map(node))?;

    // The balancer: its errors become answers, as axum demands of every service.
    let balance = Balance::http(cluster.clone(), RoundRobin);
    let app = Router::new()
        .route("/about", get(|| async { "not balanced" }))
        .fallback_service(HandleError::new(balance, unavailable));

    for path in ["/hello/ann", "/hello/bob", "/hello/cid", "/about", "/nowhere"] {
        println!("{path:12} {}", ask(&app, path).await?);
    }

    // Nodes that drain get nothing new.
    cluster.set_admin("red", Admin::Draining)?;
    cluster.set_admin("green", Admin::Draining)?;
    println!("{:12} {}", "/hello/dan", ask(&app, "/hello/dan").await?);
    cluster.set_admin("blue", Admin::Draining)?;
    println!("{:12} {}", "/hello/eve", ask(&app, "/hello/eve").await?);
    Ok(())
}

async fn unavailable(error: balance::Error<Infallible>) -> (StatusCode, &'static str) {
    // For the log alone: how many nodes there are, and how they are, is nothing that clients need to know.
    eprintln!("{error}");
    (StatusCode::SERVICE_UNAVAILABLE, "come back soon")
}

async fn ask(app: &Router, path: &str) -> Result<String, Box<dyn Error>> {
    let response = app.clone().oneshot(Request::get(path).body(Body::empty())?).await?;
    let status = response.status();
    let body = to_bytes(response.into_body(), 1024).await?;
    Ok(format!("{status}: {}", String::from_utf8_lossy(&body)))
}
