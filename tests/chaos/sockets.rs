//! One schedule over real sockets: clients, a gateway, ten servers.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use buttress::{
    balance::{Balance, Budget, Retry, RoundRobin, http::RepeatHttp},
    cluster::{Cluster, Node},
    forward::{Proxy, Upstream},
    health::{HttpCheck, Monitor, OutlierDetection},
    rng::Rng,
};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, Response, StatusCode, body::Incoming, service::service_fn};
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioIo},
};
use tokio::{
    net::TcpListener,
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

use crate::{
    report::{Figures, publish},
    schedule::{Condition, Event, NODES, schedule},
    support::sockets::proxy,
};

/// Any other will do as well.
const SEED: u64 = 3;
const SPAN: Duration = Duration::from_secs(20);
const CLIENTS: u64 = 8;
/// What a healthy server takes for a request.
const WORK: Duration = Duration::from_millis(2);
/// Far more than a busy machine takes for a request to a slow server.
const TRY_TIMEOUT: Duration = Duration::from_secs(1);
const IDEMPOTENT: [Method; 3] = [Method::GET, Method::PUT, Method::DELETE];

/// A server that does what its condition allows.
struct Server {
    addr: SocketAddr,
    condition: watch::Sender<Condition>,
    /// What listens, with its connections; nothing while the server is dead.
    life: Option<JoinSet<()>>,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let condition = watch::Sender::new(Condition::Well);
        let life = Some(serve(listener, condition.subscribe()));
        Self { addr, condition, life }
    }

    async fn turn(&mut self, condition: Condition) {
        self.condition.send_replace(condition);
        if condition == Condition::Killed {
            // Connections end with the task that accepts them.
            if let Some(mut life) = self.life.take() {
                life.shutdown().await;
            }
        } else if self.life.is_none() {
            let listener = TcpListener::bind(self.addr).await.unwrap();
            self.life = Some(serve(listener, self.condition.subscribe()));
        }
    }

    fn upstream(&self) -> Upstream {
        Upstream::new(&format!("http://{}", self.addr)).unwrap()
    }
}

fn serve(listener: TcpListener, condition: watch::Receiver<Condition>) -> JoinSet<()> {
    let mut life = JoinSet::new();
    life.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let condition = condition.clone();
            let service = service_fn(move |request| answer(condition.clone(), request));
            let server = hyper::server::conn::http1::Builder::new();
            let connection = server.serve_connection(TokioIo::new(stream), service);
            connections.spawn(async move { drop(connection.await) });
        }
    });
    life
}

/// Echoes the body.
async fn answer(
    mut condition: watch::Receiver<Condition>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let body = request.into_body().collect().await?.to_bytes();
    let slowness = match *condition.borrow_and_update() {
        Condition::Failing => {
            let mut response = Response::new(Full::default());
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            return Ok(response);
        }
        Condition::Slow => 20,
        _ => 1,
    };
    // Who hangs goes on once revived.
    let _ = condition.wait_for(|condition| *condition != Condition::Hung).await;
    sleep(WORK * slowness).await;
    Ok(Response::new(Full::new(body)))
}

/// Sends requests one after the other until `stop`, and judges the answers.
async fn client(number: u64, gateway: SocketAddr, stop: watch::Receiver<bool>, figures: Arc<Mutex<Figures>>) {
    let http = Client::builder(TokioExecutor::new()).build_http();
    let mut rng = Rng::seeded(number);
    while !*stop.borrow() {
        let method = IDEMPOTENT[rng.below(3)].clone();
        let body = Bytes::from(format!("{number} {}", rng.next_u64()));
        let request = Request::builder().method(method.clone()).uri(format!("http://{gateway}/"));
        let sent = Instant::now();
        let answer = async {
            let response = http.request(request.body(Full::new(body.clone())).unwrap()).await?;
            let status = response.status();
            let echo = response.into_body().collect().await?.to_bytes();
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>((status, echo))
        };
        let answer = answer.await;
        let is_good = matches!(&answer, Ok((StatusCode::OK, echo)) if *echo == body);
        if !is_good {
            println!("{method} got {answer:?}");
        }
        figures.lock().unwrap().answered(sent.elapsed(), is_good);
        sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_idempotent_request_fails_over_real_sockets() {
    let mut servers = Vec::new();
    for _ in 0..NODES {
        servers.push(Server::start().await);
    }
    let nodes = servers.iter().enumerate();
    let nodes = nodes.map(|(index, server)| (Node::new(index.to_string()), server.upstream()));
    let cluster = Cluster::new(nodes).unwrap();
    let ejections = OutlierDetection::new().watch(&cluster).unwrap();
    let _monitor = Monitor::builder()
        .interval(Duration::from_secs(2))
        .fast_interval(Duration::from_millis(500))
        .timeout(Duration::from_millis(1900))
        .start(&cluster, HttpCheck::new("/").unwrap())
        .unwrap();
    let balance = Balance::http(cluster.clone(), RoundRobin);
    // Turns go round whether nodes are well or not: until the broken ones are ejected, three of ten have a second try.
    let budget = Budget::new(1.0, 100).unwrap();
    let retry = Retry::new(balance, RepeatHttp::new()).tries(6).try_timeout(TRY_TIMEOUT).budget(budget);
    let gateway = proxy(Proxy::new(retry)).await;

    let figures = Arc::new(Mutex::new(Figures::default()));
    let (stop, stopped) = watch::channel(false);
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        clients.spawn(client(number, gateway, stopped.clone(), Arc::clone(&figures)));
    }
    let began = Instant::now();
    let (looks, mut look) = (Arc::clone(&figures), tokio::time::interval(Duration::from_millis(10)));
    let seen = ejections.clone();
    let watching = tokio::spawn(async move {
        loop {
            look.tick().await;
            looks.lock().unwrap().look_at(&seen);
        }
    });
    for Event { at, node, condition } in schedule(SEED, SPAN) {
        sleep_until(began + at).await;
        servers[node].turn(condition).await;
    }
    sleep(Duration::from_secs(1)).await;
    stop.send_replace(true);
    clients.join_all().await;
    watching.abort();

    let mut figures = std::mem::take(&mut *figures.lock().unwrap());
    figures.finish(&cluster, &ejections);
    publish("over real sockets", &figures);
    figures.check();
    assert!(began.elapsed() < Duration::from_secs(60));
}
