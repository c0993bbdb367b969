//! A client, the cache behind a server, and an origin that waits to be told what to answer: all on sockets of their own.

use std::{net::SocketAddr, time::Duration};

use buttress::{
    cdn::Cdn,
    forward::{PeerAddr, Proxy, ProxyError},
    time::ManualClock,
};
use bytes::Bytes;
use http_body_util::{BodyExt, combinators::UnsyncBoxBody};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot},
    time::timeout,
};
use tower::{Layer, Service};

use crate::message::{Fields, Message, read_body, read_head};

/// Longer than anything here takes, so that a hang is a failure with a name.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// The host that clients ask for.
pub(crate) const HOST: &str = "example.test";

pub(crate) struct Stage {
    pub(crate) clock: ManualClock,
    pub(crate) cdn: Cdn,
    gateway: SocketAddr,
    asked: mpsc::UnboundedReceiver<Asked>,
}

/// A request that came to the origin, and where to put the answer.
pub(crate) struct Asked {
    pub(crate) request: Message,
    reply: oneshot::Sender<Reply>,
}

/// What the origin puts on the wire, and whether it closes the connection then.
struct Reply {
    bytes: Vec<u8>,
    end: End,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Stay,
    Close,
    Reset,
}

impl Asked {
    pub(crate) fn reply(self, bytes: Vec<u8>, end: End) {
        // Whoever asked may have gone away.
        let _ = self.reply.send(Reply { bytes, end });
    }
}

impl Stage {
    pub(crate) async fn set(cdn: Cdn, clock: ManualClock) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let (ask, asked) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(attend(stream, ask.clone()));
            }
        });
        let upstream = buttress::forward::Upstream::new(&origin).unwrap();
        let gateway = serve(cdn.layer().layer(upstream)).await;
        Self { clock, cdn, gateway, asked }
    }

    /// The next request that comes to the origin.
    pub(crate) async fn asked(&mut self) -> Asked {
        self.asked.recv().await.expect("the origin listens for ever")
    }

    /// A request that came to the origin and that nobody has looked at.
    pub(crate) fn unseen(&mut self) -> Option<Asked> {
        self.asked.try_recv().ok()
    }

    /// Sends a request on a connection of its own and reads the answer.
    pub(crate) fn ask(
        &self,
        request: Vec<u8>,
    ) -> impl Future<Output = Result<Message, String>> + Send + 'static {
        let (gateway, head) = (self.gateway, request.starts_with(b"HEAD "));
        async move {
            let asking = async {
                let mut stream = BufReader::new(TcpStream::connect(gateway).await?);
                stream.write_all(&request).await?;
                read_answer(&mut stream, head).await
            };
            match timeout(PATIENCE, asking).await {
                Ok(Ok(answer)) => Ok(answer),
                Ok(Err(error)) => Err(format!("no answer: {error}")),
                Err(_) => Err("no answer: it hangs".to_owned()),
            }
        }
    }
}

/// A request as a client writes it.
pub(crate) fn request(method: &str, target: &str, fields: &Fields, body: Option<&str>) -> Vec<u8> {
    let mut bytes = format!("{method} {target} HTTP/1.1\r\n").into_bytes();
    if !fields.has("host") {
        bytes.extend(format!("host: {HOST}\r\n").as_bytes());
    }
    fields.write(&mut bytes);
    if let Some(body) = body {
        bytes.extend(format!("content-length: {}\r\n\r\n{body}", body.len()).as_bytes());
    } else {
        bytes.extend(b"\r\n");
    }
    bytes
}

async fn read_answer(stream: &mut BufReader<TcpStream>, head: bool) -> std::io::Result<Message> {
    loop {
        let Some(mut answer) = read_head(stream).await? else {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        };
        match answer.status() {
            100..200 => {}
            204 | 304 => return Ok(answer),
            _ if head => return Ok(answer),
            _ => {
                read_body(stream, &mut answer, true).await;
                return Ok(answer);
            }
        }
    }
}

/// Of a client, or none: the cache asks on its own account too.
type RequestBody = UnsyncBoxBody<Bytes, hyper::Error>;

/// A server that answers with this service.
async fn serve<S, R>(service: S) -> SocketAddr
where
    S: Service<Request<RequestBody>, Response = Response<R>, Future: Send> + Clone + Send + Sync + 'static,
    S::Error: ProxyError,
    R: hyper::body::Body<Data = Bytes, Error: Into<tower::BoxError>> + Send + 'static,
{
    let proxy = Proxy::new(service);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, peer)) = listener.accept().await {
            let proxy = proxy.clone();
            let service = service_fn(move |mut request: Request<Incoming>| {
                request.extensions_mut().insert(PeerAddr(peer));
                proxy.clone().call(request.map(BodyExt::boxed_unsync))
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    addr
}

/// Serves one connection to the origin.
async fn attend(stream: TcpStream, ask: mpsc::UnboundedSender<Asked>) {
    let mut stream = BufReader::new(stream);
    while let Ok(Some(mut request)) = read_head(&mut stream).await {
        read_body(&mut stream, &mut request, false).await;
        let (reply, answer) = oneshot::channel();
        if ask.send(Asked { request, reply }).is_err() {
            return;
        }
        let Ok(Reply { bytes, end }) = answer.await else { return };
        if stream.write_all(&bytes).await.is_err() {
            return;
        }
        match end {
            End::Stay => {}
            End::Close => return,
            End::Reset => {
                // Whatever the system has not sent yet goes too.
                stream.get_ref().set_zero_linger().ok();
                return;
            }
        }
    }
}
