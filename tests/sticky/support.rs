//! Nodes that note what they see, and clients that keep cookies.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use buttress::{
    balance::{
        Balance, NoKey, Retry, RoundRobin,
        http::{ClassifyHttp, OnBody, RepeatHttp, Reported, ServedBy, Steered},
    },
    cluster::{Cluster, Node},
    forward::ProxyError,
    sticky::{CookieBuilder, CookieKeys, Pins, Sticky, StickyCookie},
    time::ManualClock,
};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    HeaderMap, Request, Response, StatusCode,
    header::{CACHE_CONTROL, COOKIE, HeaderName, SET_COOKIE},
};
use tower::{Service, ServiceExt};

/// What a node does with a request.
#[derive(Clone, Default)]
pub(crate) enum Mood {
    #[default]
    Fine,
    Answers(StatusCode),
    Breaks,
}

/// What a node says that breaks.
#[derive(Debug)]
pub(crate) struct Broken;

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("broken on stage")
    }
}

impl std::error::Error for Broken {}

impl ProxyError for Broken {
    fn status(&self) -> StatusCode {
        StatusCode::BAD_GATEWAY
    }
}

/// A node that answers with its name.
#[derive(Clone, Default)]
pub(crate) struct Fake {
    name: String,
    stage: Arc<Mutex<Stage>>,
}

#[derive(Default)]
struct Stage {
    mood: Mood,
    says: HeaderMap,
    seen: Vec<HeaderMap>,
}

impl Fake {
    pub(crate) fn new(name: &str) -> Self {
        Self { name: name.into(), stage: Arc::default() }
    }

    pub(crate) fn turn(&self, mood: Mood) {
        self.stage.lock().unwrap().mood = mood;
    }

    /// Adds a field to every answer.
    pub(crate) fn says(&self, name: HeaderName, value: &str) {
        self.stage.lock().unwrap().says.append(name, value.parse().unwrap());
    }

    pub(crate) fn falls_silent(&self) {
        self.stage.lock().unwrap().says.clear();
    }

    /// The cookies of the last request.
    pub(crate) fn cookies(&self) -> Vec<String> {
        let stage = self.stage.lock().unwrap();
        let Some(headers) = stage.seen.last() else { return Vec::new() };
        headers.get_all(COOKIE).iter().map(|line| line.to_str().unwrap().to_owned()).collect()
    }

    pub(crate) fn served(&self) -> usize {
        self.stage.lock().unwrap().seen.len()
    }
}

impl<B> Service<Request<B>> for Fake {
    type Response = Response<Full<Bytes>>;
    type Error = Broken;
    type Future = std::future::Ready<Result<Response<Full<Bytes>>, Broken>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let mut stage = self.stage.lock().unwrap();
        stage.seen.push(request.headers().clone());
        let mut response = Response::new(Full::from(self.name.clone()));
        *response.headers_mut() = stage.says.clone();
        response.headers_mut().insert("x-node", self.name.parse().unwrap());
        std::future::ready(match stage.mood {
            Mood::Fine => Ok(response),
            Mood::Answers(status) => {
                *response.status_mut() = status;
                Ok(response)
            }
            Mood::Breaks => Err(Broken),
        })
    }
}

pub(crate) type Stack =
    Sticky<Retry<Balance<Fake, Steered<NoKey>, ClassifyHttp, Reported<OnBody>>, RepeatHttp>>;

/// Some nodes, a cluster of them, and its clock.
pub(crate) struct World {
    pub(crate) nodes: BTreeMap<String, Fake>,
    pub(crate) cluster: Cluster<Fake>,
    pub(crate) clock: ManualClock,
}

impl World {
    pub(crate) fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let clock = ManualClock::new();
        let nodes: BTreeMap<_, _> =
            names.into_iter().map(|name| (name.to_owned(), Fake::new(name))).collect();
        let described = nodes.iter().map(|(name, node)| (Node::new(name.as_str()), node.clone()));
        let cluster = Cluster::builder().clock(clock.clone()).build(described).unwrap();
        Self { nodes, cluster, clock }
    }

    pub(crate) fn node(&self, name: &str) -> &Fake {
        &self.nodes[name]
    }

    /// All nodes but this.
    pub(crate) fn others(&self, name: &str) -> impl Iterator<Item = &Fake> {
        self.nodes.values().filter(move |node| node.name != name)
    }

    pub(crate) fn advance(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    pub(crate) fn stack(&self, pins: &Pins) -> Stack {
        let balance = Balance::http(self.cluster.clone(), RoundRobin).sticky();
        Sticky::new(Retry::new(balance, RepeatHttp::new()), pins.clone())
    }

    pub(crate) fn pins(&self) -> Pins {
        Pins::cookie(shop(&[1]).build().unwrap(), &self.cluster)
    }
}

/// A cookie for the pool "shop", signed with keys of these bytes.
pub(crate) fn shop(secrets: &[u8]) -> CookieBuilder {
    StickyCookie::builder("shop", keys(secrets))
}

pub(crate) fn keys(secrets: &[u8]) -> CookieKeys {
    CookieKeys::new(secrets.iter().map(|secret| [*secret; 32])).unwrap()
}

/// What came of a visit.
#[derive(Debug)]
pub(crate) struct Visit {
    pub(crate) status: StatusCode,
    /// The node that answered, or nothing.
    pub(crate) node: String,
    pub(crate) headers: HeaderMap,
    pub(crate) response: Option<Response<()>>,
}

impl Visit {
    pub(crate) fn sets(&self) -> Vec<&str> {
        self.headers.get_all(SET_COOKIE).iter().map(|line| line.to_str().unwrap()).collect()
    }

    pub(crate) fn cache_control(&self) -> Option<&str> {
        self.headers.get(CACHE_CONTROL).map(|line| line.to_str().unwrap())
    }
}

/// A client that keeps cookies.
#[derive(Clone, Debug, Default)]
pub(crate) struct Client {
    pub(crate) jar: BTreeMap<String, String>,
}

impl Client {
    pub(crate) async fn visit(&mut self, stack: &Stack) -> Visit {
        let pairs: Vec<_> = self.jar.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let visit = send(stack, if pairs.is_empty() { vec![] } else { vec![pairs.join("; ")] }).await;
        for set in visit.sets() {
            let (name, value) = set.split(';').next().unwrap().split_once('=').unwrap();
            self.jar.insert(name.to_owned(), value.to_owned());
        }
        visit
    }

    /// The node that answers.
    pub(crate) async fn node(&mut self, stack: &Stack) -> String {
        self.visit(stack).await.node
    }
}

/// Sends a request with these lines of cookies.
pub(crate) async fn send(stack: &Stack, cookies: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Visit {
    let mut request = Request::new(Full::<Bytes>::default());
    for line in cookies {
        request.headers_mut().append(COOKIE, line.as_ref().try_into().unwrap());
    }
    match stack.clone().oneshot(request).await {
        Ok(response) => {
            let (head, _) = response.into_parts();
            assert!(head.extensions.get::<ServedBy>().is_none(), "what is inside stays inside");
            Visit {
                status: head.status,
                node: head.headers["x-node"].to_str().unwrap().to_owned(),
                headers: head.headers.clone(),
                response: Some(Response::from_parts(head, ())),
            }
        }
        Err(error) => {
            Visit { status: error.status(), node: String::new(), headers: HeaderMap::new(), response: None }
        }
    }
}
