//! Clients that stay with their node: one is drained, one dies, and nobody moves more often than needed.
//!
//! `cargo run --example sticky_sessions`

use std::{error::Error, time::Duration};

use buttress::{
    balance::{Balance, LeastRequest, Retry, http::RepeatHttp},
    cluster::{Admin, Cluster, Health, Node},
    sticky::{CookieKeys, Pins, Sticky, StickyCookie},
};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    Request, Response,
    header::{COOKIE, SET_COOKIE},
};
use tower::{Service, ServiceExt, service_fn};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let node = |name: &'static str| {
        let reply = move |_| async move { Ok::<_, std::io::Error>(Response::new(Full::<Bytes>::from(name))) };
        (Node::new(name), service_fn(reply))
    };
    let cluster = Cluster::new(["red", "green", "blue"].map(node))?;

    // From wherever secrets are kept: 32 random bytes, the same for all proxies. The first signs, all verify.
    let keys = CookieKeys::new([b"only for this example, use random"])?;
    let cookie = StickyCookie::builder("shop", keys).max_idle(Duration::from_secs(1800)).build()?;
    let pins = Pins::cookie(cookie, &cluster);

    let balance = Balance::http(cluster.clone(), LeastRequest::new()).sticky();
    let mut service = Sticky::new(Retry::new(balance, RepeatHttp::new()), pins.clone());

    let mut clients = vec![Client::default(); 6];
    for event in ["at first", "again", "red drains", "green dies", "green returns"] {
        match event {
            "red drains" => cluster.set_admin("red", Admin::Draining)?,
            "green dies" => cluster.set_health("green", Health::Down)?,
            "green returns" => cluster.set_health("green", Health::Up)?,
            _ => {}
        }
        print!("{event:16}");
        for client in &mut clients {
            print!("{:8}", client.visit(&mut service).await?);
        }
        println!();
    }

    let stats = pins.stats();
    println!("\n{} kept, {} assigned, {} moved", stats.kept, stats.assigned, stats.moved);
    assert_eq!(stats.kept + stats.assigned + stats.moved, 30);
    Ok(())
}

/// A client that keeps the cookie it is given.
#[derive(Clone, Default)]
struct Client {
    cookie: Option<String>,
}

impl Client {
    /// The name of the node that answers.
    async fn visit<S, B>(&mut self, service: &mut S) -> Result<String, Box<dyn Error>>
    where
        S: Service<Request<Full<Bytes>>, Response = Response<B>, Error: Error + 'static>,
        B: hyper::body::Body<Data = Bytes, Error: Error + 'static>,
    {
        let mut request = Request::new(Full::default());
        if let Some(cookie) = &self.cookie {
            request.headers_mut().insert(COOKIE, cookie.parse()?);
        }
        let response = service.ready().await?.call(request).await?;
        if let Some(set) = response.headers().get(SET_COOKIE) {
            self.cookie = set.to_str()?.split(';').next().map(str::to_owned);
        }
        let body = response.into_body().collect().await?.to_bytes();
        Ok(String::from_utf8(body.to_vec())?)
    }
}
