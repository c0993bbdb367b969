//! The service: whom it calls, when, and with what.

use std::convert::Infallible;
use std::error::Error as _;
use std::io;
use std::task::{Context, Poll};

use buttress::balance::http::NodeError;
use buttress::cluster::FailureKind;
use buttress::forward::ProxyError;
use buttress::route::{BadPath, Error, Matched, Route, Routes, Rule, Unmatched};
use http::{Request, StatusCode};
use tokio_test::{assert_pending, assert_ready, task};
use tower::util::BoxCloneSyncService;
use tower::{BoxError, Service, ServiceExt, service_fn};

use super::get;

type Reply = BoxCloneSyncService<Request<()>, String, Infallible>;

/// Says its name, the path it is asked for, and what matched.
fn reply(name: &'static str) -> Reply {
    BoxCloneSyncService::new(service_fn(move |request: Request<()>| async move {
        let matched = request.extensions().get::<Matched>();
        let matched = matched.map(|matched| {
            let params: Vec<_> = matched.params().map(|(name, value)| format!("{name}={value}")).collect();
            format!(" by {} {}", matched.rule(), params.join(","))
        });
        Ok(format!("{name}: {}{}", request.uri(), matched.unwrap_or_default()))
    }))
}

fn route(rules: impl IntoIterator<Item = (Rule, &'static str)>) -> Route<Reply> {
    Route::new(Routes::new(rules.into_iter().map(|(rule, name)| (rule, reply(name)))).unwrap())
}

async fn ask(route: &Route<Reply>, uri: &str) -> Result<String, Error<Infallible>> {
    route.clone().oneshot(get(uri)).await
}

#[tokio::test]
async fn the_request_tells_what_matched() {
    let route = route([(Rule::prefix("/"), "web"), (Rule::path("/users/{id}/{*rest}").host("a"), "users")]);
    assert_eq!(ask(&route, "/x?y").await.unwrap(), "web: /x?y by /* ");
    let answer = ask(&route, "http://a/users/%37/b/c").await.unwrap();
    assert_eq!(answer, "users: http://a/users/%37/b/c by a/users/{id}/{*rest} id=7,rest=b/c");
    let error = ask(&route, "http://a/").await.unwrap_err();
    assert!(matches!(error, Error::Unmatched(Unmatched::NoRoute)), "{error}");
    assert_eq!(error.status(), StatusCode::NOT_FOUND);
    let error = ask(&route, "http://a/x/../users").await.unwrap_err();
    assert!(matches!(error, Error::Unmatched(Unmatched::BadPath(BadPath::DotSegment))), "{error}");
    assert_eq!(error.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn the_fallback_gets_what_matches_nothing() {
    let routes = Routes::new([(Rule::path("/a"), reply("a"))]).unwrap().fallback(reply("fallback"));
    let route = Route::new(routes);
    assert_eq!(ask(&route, "/b?c").await.unwrap(), "fallback: /b?c");
    assert!(ask(&route, "/b//c").await.is_err());
}

#[tokio::test]
async fn a_prefix_is_rewritten() {
    let route = route([
        (Rule::prefix("/api").rewrite("/"), "strip"),
        (Rule::prefix("/old/{id}").rewrite("/new/v2"), "move"),
        (Rule::prefix("/").host("a").rewrite("/a/"), "below"),
        (Rule::prefix("/").host("b").rewrite("/"), "same"),
    ]);
    for (uri, expected) in [
        ("/api", "strip: /"),
        ("/api/", "strip: /"),
        ("/api/users/7?x=/y", "strip: /users/7?x=/y"),
        ("/api?x", "strip: /?x"),
        ("/%61pi/%7euser/", "strip: /%7euser/"),
        ("http://h:80/api/users", "strip: http://h:80/users"),
        ("/old/7", "move: /new/v2"),
        ("/old/7/", "move: /new/v2/"),
        ("/old/7/x%20y", "move: /new/v2/x%20y"),
        ("http://a/x", "below: http://a/a/x"),
        ("http://a", "below: http://a/a/"),
        ("http://b/x/y?z", "same: http://b/x/y?z"),
    ] {
        let answer = ask(&route, uri).await.unwrap();
        assert_eq!(answer.split(" by ").next(), Some(expected), "{uri}");
    }
    // Nothing that is let in becomes the target of another host.
    assert!(ask(&route, "/api//evil.example/x").await.is_err());
}

#[tokio::test]
async fn a_path_that_grows_too_long_is_refused() {
    let route = route([(Rule::prefix("/").rewrite("/a/long/way/down"), "x")]);
    let long = "/".to_owned() + &"a".repeat(65_530);
    let error = ask(&route, &long).await.unwrap_err();
    assert!(matches!(error, Error::Unmatched(Unmatched::BadPath(BadPath::TooLong))), "{error}");
}

#[tokio::test]
async fn a_new_table_counts_from_the_next_request_on() {
    let route = route([(Rule::prefix("/"), "old")]);
    let (clone, mut early) = (route.clone(), route.clone());
    let in_flight = early.ready().await.unwrap().call(get("/"));
    route.replace(Routes::new([(Rule::path("/{x}"), reply("new"))]).unwrap());
    assert_eq!(in_flight.await.unwrap(), "old: / by /* ");
    assert_eq!(ask(&clone, "/a").await.unwrap(), "new: /a by /{x} x=a");
    assert!(ask(&clone, "/").await.is_err());
    assert_eq!(clone.routes().iter().count(), 1);
    assert_eq!(format!("{clone:?}"), r#"Route { rules: ["/{x}"], .. }"#);
}

/// Ready or never ready.
#[derive(Clone)]
struct Node {
    ready: bool,
}

impl Service<Request<()>> for Node {
    type Response = ();
    type Error = Infallible;
    type Future = std::future::Ready<Result<(), Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        if self.ready { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn call(&mut self, _: Request<()>) -> Self::Future {
        std::future::ready(Ok(()))
    }
}

#[test]
fn a_service_that_is_not_ready_keeps_nobody_else_waiting() {
    let node = |ready| Node { ready };
    let routes = Routes::new([(Rule::path("/busy"), node(false)), (Rule::path("/idle"), node(true))]);
    let mut route = Route::new(routes.unwrap());
    let poll_ready = |route: &mut Route<Node>| {
        task::spawn(()).enter(|cx, _| Service::<Request<()>>::poll_ready(route, cx))
    };
    assert!(poll_ready(&mut route).is_ready());
    let mut busy = task::spawn(route.call(get("/busy")));
    assert_pending!(busy.poll());
    assert!(poll_ready(&mut route).is_ready());
    assert_ready!(task::spawn(route.call(get("/idle"))).poll()).unwrap();
    assert_pending!(busy.poll());
}

/// Where layers have put errors into boxes, and balancers judge nodes by them, causes are looked for by their type.
#[tokio::test]
async fn an_error_is_judged_by_what_the_service_said() {
    let slow = service_fn(|_: Request<()>| {
        std::future::ready(Err::<(), _>(io::Error::from(io::ErrorKind::TimedOut)))
    });
    let route = Route::new(Routes::new([(Rule::path("/slow"), slow)]).unwrap());
    let failed = route.clone().oneshot(get("/slow")).await.unwrap_err();
    assert!(failed.source().is_some_and(<dyn std::error::Error>::is::<io::Error>), "{failed:?}");
    assert_eq!(failed.failure(), Some(FailureKind::Timeout));

    for (uri, status) in [("/", StatusCode::NOT_FOUND), ("//", StatusCode::BAD_REQUEST)] {
        let unmatched = route.clone().oneshot(get(uri)).await.unwrap_err();
        assert_eq!(BoxError::from(unmatched).status(), status, "{uri}");
    }
}
