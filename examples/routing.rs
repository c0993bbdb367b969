//! Three services behind one door: which one a request is for is told by its host, its path and its headers.
//!
//! `cargo run --example routing`

use std::{convert::Infallible, error::Error};

use buttress::route::{Matched, Route, Routes, Rule};
use http_body_util::Empty;
use hyper::{Request, Response, body::Bytes};
use tower::{Service, ServiceExt, service_fn, util::BoxCloneSyncService};

type Body = Empty<Bytes>;
/// One type for all targets. Where they are all balancers over clusters, no box is needed.
type Target = BoxCloneSyncService<Request<Body>, Response<String>, Infallible>;

/// A service that says what it is asked for. A real one would be a `Balance` over a cluster, or an axum router.
fn target(name: &'static str) -> Target {
    BoxCloneSyncService::new(service_fn(move |request: Request<Body>| async move {
        let matched = request.extensions().get::<Matched>().expect("put there by the route");
        let params: Vec<_> = matched.params().collect();
        Ok(Response::new(format!("{name:8} by {:22} {params:?}", matched.rule().pattern())))
    }))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let (website, api, canary) = (target("website"), target("api"), target("canary"));
    let routes = Routes::new([
        // All hosts that have no rules of their own.
        (Rule::prefix("/"), website.clone()),
        (Rule::prefix("/").host("*.shop.example"), website),
        // Below `/v1` the API knows nothing of `/v1`.
        (Rule::prefix("/v1").host("api.shop.example").rewrite("/"), api.clone()),
        (Rule::path("/v1/users/{id}/orders").host("api.shop.example"), api.clone()),
        (Rule::path("/v1/users/{id}/orders").host("api.shop.example").header("x-canary", "yes"), canary),
    ])?;
    let mut route = Route::new(routes);

    for (uri, canary) in [
        ("http://shop.example/", "no"),
        ("http://www.shop.example/cart", "no"),
        ("http://api.shop.example/v1/health", "no"),
        ("http://api.shop.example/v1/users/7/orders?page=2", "no"),
        ("http://api.shop.example/v1/users/7/orders?page=2", "yes"),
        ("http://api.shop.example/", "no"),
        ("http://api.shop.example/public/../v1/users", "no"),
    ] {
        let request = Request::get(uri).header("x-canary", canary).body(Body::new())?;
        let answer = match route.ready().await?.call(request).await {
            Ok(response) => response.into_body(),
            Err(error) => format!("refused: {error}"),
        };
        println!("{uri:50} {answer}");
    }

    // Rules that could both be meant are no table at all.
    let rules = [Rule::path("/users/{id}"), Rule::path("/users/{name}")];
    if let Err(error) = Routes::new(rules.map(|rule| (rule, api.clone()))) {
        println!("\n{error}");
    }
    Ok(())
}
