//! A limit around HTTP.

use std::{convert::Infallible, time::Duration};

use buttress::{
    balance::{Balance, RoundRobin},
    cluster::{Cluster, FailureKind, Node, Verdict},
    forward::UpgradeLease,
    overload::{
        Aimd, Bounds, Error, Fixed, Limit, LimitLayer, Limiter, Priority, Queue, Reason, Terms, TermsOf,
        http::{AnswerLayer, FromExtensions},
    },
    time::{Clock, Deadline, TokioClock},
};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full};
use hyper::{Request, Response, StatusCode};
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};

type Reply = Result<Response<Full<Bytes>>, Infallible>;

fn request() -> Request<Empty<Bytes>> {
    Request::new(Empty::new())
}

async fn hello(_: Request<Empty<Bytes>>) -> Reply {
    Ok(Response::new(Full::from("hello")))
}

fn limiter() -> Limiter {
    Limiter::new(Fixed::new(1).unwrap(), Queue::none())
}

#[tokio::test(start_paused = true)]
async fn a_permit_is_kept_until_the_end_of_the_body() {
    let mut service = Limit::http(service_fn(hello), limiter());
    let response = service.call(request()).await.unwrap();
    assert_eq!(service.limiter().status().in_flight, 1);
    assert!(matches!(service.call(request()).await, Err(Error::Overloaded(_))));
    response.into_body().collect().await.unwrap();
    assert_eq!(service.limiter().status().in_flight, 0);
    drop(service.call(request()).await.unwrap());
    assert_eq!(service.limiter().status().in_flight, 0, "a body that nobody reads");
}

#[tokio::test(start_paused = true)]
async fn a_permit_is_kept_as_long_as_an_upgraded_connection() {
    let upgrade = service_fn(|_: Request<Empty<Bytes>>| async {
        let mut response = Response::new(Full::<Bytes>::default());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        Ok::<_, Infallible>(response)
    });
    let mut service = Limit::http(upgrade, limiter());
    let mut response = service.call(request()).await.unwrap();
    let lease: UpgradeLease = response.extensions_mut().remove().unwrap();
    drop(response);
    assert_eq!(service.limiter().status().in_flight, 1);
    drop(lease);
    assert_eq!(service.limiter().status().in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_turned_away_gets_503_and_when_to_come_back() {
    let service = ServiceBuilder::new()
        .layer(AnswerLayer)
        .layer(LimitLayer::http(limiter()))
        .service(service_fn(hello));
    let first = service.clone().oneshot(request()).await.unwrap();
    let second = service.clone().oneshot(request()).await.unwrap();
    assert_eq!((first.status(), second.status()), (StatusCode::OK, StatusCode::SERVICE_UNAVAILABLE));
    assert_eq!(second.headers()["retry-after"], "1");
    drop(first);
    assert_eq!(service.oneshot(request()).await.unwrap().status(), StatusCode::OK);
}

#[test]
fn terms_are_what_the_application_says_and_not_the_client() {
    let mut request = request();
    request.headers_mut().insert("priority", "u=0".parse().unwrap());
    assert_eq!(FromExtensions.terms(&request), Terms::default());
    let at = TokioClock.now();
    request.extensions_mut().insert(Priority::Sheddable);
    request.extensions_mut().insert(Deadline(at));
    let terms = FromExtensions.terms(&request);
    assert_eq!((terms.priority, terms.deadline), (Priority::Sheddable, Some(at)));
}

#[tokio::test(start_paused = true)]
async fn refusals_of_a_service_lower_its_limit() {
    let busy = service_fn(|_: Request<Empty<Bytes>>| async {
        tokio::time::sleep(Duration::from_millis(1)).await;
        let mut response = Response::new(Full::<Bytes>::default());
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        Ok::<_, Infallible>(response)
    });
    let limiter = Limiter::new(Aimd::new(Bounds::default(), Duration::from_secs(1)), Queue::none());
    let mut service = Limit::http(busy, limiter);
    for _ in 0..10 {
        service.call(request()).await.unwrap();
    }
    assert!(service.limiter().status().limit < 10);
}

/// A balancer knows what a limit around one of its nodes says.
#[tokio::test(start_paused = true)]
async fn a_node_behind_a_full_limit_is_overloaded() {
    use buttress::balance::{Classify, http::ClassifyHttp};
    let node = Limit::http(service_fn(hello), limiter());
    let cluster = Cluster::new([(Node::new("a"), node)]).unwrap();
    let mut balance = Balance::http(cluster, RoundRobin);
    let _held = balance.call(request()).await.unwrap();
    let error = balance.call(request()).await.unwrap_err().into_node_error().unwrap();
    assert!(matches!(&error, Error::Overloaded(overloaded) if overloaded.reason == Reason::Full));
    let verdict = Classify::<Response<Full<Bytes>>, _>::classify(&ClassifyHttp, Err(&error));
    assert_eq!(verdict, Verdict::Failure(FailureKind::Overloaded));
}
