//! Servers on real sockets that can be slowed, broken and killed, and load on them.

use std::{
    collections::BTreeMap,
    error::Error as _,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use buttress::{
    balance::{
        Balance, NoKey, Policy, Retry,
        http::{ClassifyHttp, OnBody, RepeatHttp},
    },
    cluster::{Cluster, Node},
    forward::Upstream,
};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, Response, StatusCode, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, task::JoinSet};
use tower::{Service, ServiceExt};

/// The header that carries the number of a request.
const NUMBER: &str = "x-number";

pub(crate) type Direct = Balance<Upstream, NoKey, ClassifyHttp, OnBody>;
pub(crate) type Retried = Retry<Direct, RepeatHttp>;

/// How a server behaves when it is not well.
#[derive(Clone, Copy, PartialEq)]
#[repr(u8)]
pub(crate) enum Mood {
    /// Answers at once, with a 500.
    Failing = 1,
    /// Takes the request and hangs up.
    Breaking,
}

/// What a server does and has done.
#[derive(Default)]
pub(crate) struct Switch {
    /// In microseconds.
    latency: AtomicU64,
    /// A `Mood`, or 0.
    mood: AtomicU8,
    pub(crate) served: AtomicU64,
    pub(crate) most_at_once: AtomicU32,
    at_once: AtomicU32,
    /// How often each request that is not idempotent has come in.
    seen: Mutex<BTreeMap<String, u32>>,
}

impl Switch {
    pub(crate) fn slow_down(&self, to: Duration) {
        self.latency.store(u64::try_from(to.as_micros()).unwrap(), SeqCst);
    }

    pub(crate) fn turn(&self, mood: Mood) {
        self.mood.store(mood as u8, SeqCst);
    }

    async fn answer(&self, request: Request<Incoming>) -> io::Result<Response<Full<Bytes>>> {
        let (head, body) = request.into_parts();
        let mut body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        if head.method == Method::POST {
            let number = head.headers[NUMBER].to_str().unwrap().to_owned();
            *self.seen.lock().unwrap().entry(number).or_default() += 1;
        }
        self.served.fetch_add(1, SeqCst);
        match self.mood.load(SeqCst) {
            mood if mood == Mood::Failing as u8 => {
                let mut response = Response::new(Full::default());
                *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
                return Ok(response);
            }
            mood if mood == Mood::Breaking as u8 => return Err(io::Error::other("hangs up")),
            _ => {}
        }
        let now = self.at_once.fetch_add(1, SeqCst) + 1;
        self.most_at_once.fetch_max(now, SeqCst);
        tokio::time::sleep(Duration::from_micros(self.latency.load(SeqCst))).await;
        self.at_once.fetch_sub(1, SeqCst);
        if body.is_empty() {
            body = Bytes::from_static(b"well");
        }
        Ok(Response::new(Full::new(body)))
    }
}

/// A server that echoes. It dies, with all its connections, when dropped.
pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    pub(crate) switch: Arc<Switch>,
    _tasks: JoinSet<()>,
}

impl Server {
    pub(crate) async fn start(latency: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let switch = Arc::new(Switch::default());
        switch.slow_down(latency);
        let mut tasks = JoinSet::new();
        let shared = Arc::clone(&switch);
        tasks.spawn(async move {
            // Connections end with the task that accepts them.
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let switch = Arc::clone(&shared);
                let service = service_fn(move |request| {
                    let switch = Arc::clone(&switch);
                    async move { switch.answer(request).await }
                });
                connections.spawn(async move {
                    let server = hyper::server::conn::http1::Builder::new();
                    let _ = server.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { addr, switch, _tasks: tasks }
    }

    pub(crate) fn upstream(&self) -> Upstream {
        Upstream::new(&format!("http://{}", self.addr)).unwrap()
    }

    pub(crate) fn served(&self) -> u64 {
        self.switch.served.load(SeqCst)
    }
}

pub(crate) async fn servers(count: usize, latency: Duration) -> Vec<Server> {
    let mut servers = Vec::new();
    for _ in 0..count {
        servers.push(Server::start(latency).await);
    }
    servers
}

/// The nodes "0", "1" and so on.
pub(crate) fn cluster(servers: &[Server]) -> Cluster<Upstream> {
    let nodes =
        servers.iter().enumerate().map(|(index, server)| (Node::new(index.to_string()), server.upstream()));
    Cluster::new(nodes).unwrap()
}

pub(crate) fn retried(cluster: &Cluster<Upstream>, policy: impl Policy) -> Retried {
    Retry::new(Balance::http(cluster.clone(), policy), RepeatHttp::new())
}

/// No request of one that is not idempotent may come in twice, at whichever servers.
pub(crate) fn assert_none_seen_twice<'a>(servers: impl IntoIterator<Item = &'a Switch>) {
    let mut all = BTreeMap::<String, u32>::new();
    for server in servers {
        for (number, times) in &*server.seen.lock().unwrap() {
            *all.entry(number.clone()).or_default() += times;
        }
    }
    let twice: Vec<_> = all.into_iter().filter(|(_, times)| *times > 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
}

pub(crate) fn request(method: Method, number: u64) -> Request<Full<Bytes>> {
    let body = if method == Method::GET { Bytes::new() } else { Bytes::from(format!("body {number}")) };
    let request = Request::builder().method(method).uri("/x").header("host", "a.example");
    request.header(NUMBER, number).body(Full::new(body)).unwrap()
}

/// What came of a request.
#[derive(Debug, PartialEq)]
pub(crate) enum Outcome {
    Fine,
    Status(u16),
    Error(String),
}

pub(crate) async fn send<S, B>(service: S, method: Method, number: u64) -> Outcome
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>>,
    S::Error: std::error::Error,
    B: hyper::body::Body<Data = Bytes>,
    B::Error: std::fmt::Debug,
{
    let expected = request(method.clone(), number).into_body().collect().await.unwrap().to_bytes();
    match service.oneshot(request(method, number)).await {
        Ok(response) if response.status() == StatusCode::OK => match response.into_body().collect().await {
            Ok(body) => {
                let body = body.to_bytes();
                assert!(body == expected || (expected.is_empty() && body == "well"), "{body:?}");
                Outcome::Fine
            }
            Err(error) => Outcome::Error(format!("{error:?}")),
        },
        Ok(response) => Outcome::Status(response.status().as_u16()),
        Err(error) => Outcome::Error(format!("{error}: {:?}", error.source().map(ToString::to_string))),
    }
}

/// Requests from so many callers, each after the last, until they are stopped or have sent so many.
pub(crate) struct Load {
    callers: JoinSet<Vec<(Method, Outcome)>>,
    sent: Arc<AtomicU64>,
    limit: Arc<AtomicU64>,
}

impl Load {
    /// `methods` take turns.
    pub(crate) fn start<S, B>(service: &S, callers: usize, limit: u64, methods: &'static [Method]) -> Self
    where
        S: Service<Request<Full<Bytes>>, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Error: std::error::Error + Send,
        S::Future: Send,
        B: hyper::body::Body<Data = Bytes> + Send,
        B::Error: std::fmt::Debug,
    {
        let (sent, limit) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(limit)));
        let mut tasks = JoinSet::new();
        for _ in 0..callers {
            let (service, sent, limit) = (service.clone(), Arc::clone(&sent), Arc::clone(&limit));
            tasks.spawn(async move {
                let mut outcomes = Vec::new();
                loop {
                    let number = sent.fetch_add(1, SeqCst);
                    if number >= limit.load(SeqCst) {
                        return outcomes;
                    }
                    let method = methods[usize::try_from(number).unwrap() % methods.len()].clone();
                    outcomes.push((method.clone(), send(service.clone(), method, number).await));
                }
            });
        }
        Self { callers: tasks, sent, limit }
    }

    /// Waits until so many have been sent.
    pub(crate) async fn reach(&self, number: u64) {
        while self.sent.load(SeqCst) < number {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Everything that came of it, once no request is on its way any more.
    pub(crate) async fn finish(self) -> Vec<(Method, Outcome)> {
        self.callers.join_all().await.into_iter().flatten().collect()
    }

    pub(crate) async fn stop(self) -> Vec<(Method, Outcome)> {
        self.limit.store(0, SeqCst);
        self.finish().await
    }
}
