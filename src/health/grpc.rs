//! Whether a node's gRPC service says that it is serving.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::{BufMut, Bytes, BytesMut};
use http::{
    HeaderMap, HeaderValue, Method, Request, StatusCode, Uri,
    header::{CONTENT_TYPE, TE},
    uri::{Authority, PathAndQuery},
};
use http_body_util::{BodyExt, Full};

use super::{Answer, CheckResult, HealthCheck, Unhealthy};
use crate::{
    cluster::Endpoint,
    forward::{Upstream, UpstreamBody},
};

const CHECK: &str = "/grpc.health.v1.Health/Check";
/// An answer is a handful of bytes.
const LIMIT: usize = 4096;

/// Finds a node healthy whose gRPC health service says `SERVING`.
///
/// Calls `grpc.health.v1.Health/Check`, as the [gRPC health checking protocol] has it. For clusters of [`Upstream`]s with
/// [`http2`](crate::forward::UpstreamBuilder::http2), and of services that give theirs by `AsRef<Upstream>`.
///
/// ```
/// use buttress::{cluster::{Cluster, Node}, forward::Upstream, health::{GrpcCheck, Monitor}};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let upstream = Upstream::builder().http2(true).build("http://10.0.0.7:50051")?;
/// let cluster = Cluster::new([(Node::new("greeter-1"), upstream)])?;
/// let monitor = Monitor::start(&cluster, GrpcCheck::new().service("helloworld.Greeter"))?;
/// # Ok(())
/// # }
/// ```
///
/// [gRPC health checking protocol]: https://github.com/grpc/grpc/blob/master/doc/health-checking.md
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct GrpcCheck {
    service: String,
    host: Option<Authority>,
    reuse: bool,
}

impl GrpcCheck {
    /// Asks about the server as a whole.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks about this service.
    pub fn service(mut self, name: impl Into<String>) -> Self {
        self.service = name.into();
        self
    }

    /// Sets the host that is asked for (default: the server's own).
    pub fn host(mut self, host: Authority) -> Self {
        self.host = Some(host);
        self
    }

    /// Whether to check over the connection that carries the traffic, instead of a new one each time (default: off).
    pub fn reuse_connections(mut self, on: bool) -> Self {
        self.reuse = on;
        self
    }

    async fn ask(&self, upstream: &Upstream) -> CheckResult {
        let mut request = Request::new(Full::new(question(&self.service)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = Uri::from(PathAndQuery::from_static(CHECK));
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(TE, HeaderValue::from_static("trailers"));
        let (head, body) = upstream.probe(self.host.as_ref(), !self.reuse).ask(request).await?.into_parts();
        let is_grpc = |kind: &HeaderValue| kind.as_bytes().starts_with(b"application/grpc");
        if head.status != StatusCode::OK || !head.headers.get(CONTENT_TYPE).is_some_and(is_grpc) {
            return Err(Unhealthy::new(format_args!("status {}, and no gRPC", head.status)));
        }
        let (bytes, trailers) = read(body).await?;
        // An answer without a message may have its status in the head.
        let trailers = trailers.unwrap_or(head.headers);
        judge(&bytes, &trailers)
    }
}

#[async_trait]
impl<S: AsRef<Upstream> + Send + Sync + 'static> HealthCheck<S> for GrpcCheck {
    async fn check(&self, endpoint: Arc<Endpoint<S>>) -> CheckResult {
        self.ask((*endpoint.service).as_ref()).await
    }
}

async fn read(mut body: UpstreamBody) -> Result<(Vec<u8>, Option<HeaderMap>), Unhealthy> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await.transpose()? {
        match frame.into_data() {
            Ok(data) if bytes.len() + data.len() > LIMIT => {
                return Err(Unhealthy::new("the answer is too long"));
            }
            Ok(data) => bytes.extend_from_slice(&data),
            Err(frame) => return Ok((bytes, frame.into_trailers().ok())),
        }
    }
    Ok((bytes, None))
}

/// `HealthCheckRequest { string service = 1; }`, as gRPC frames it: a flag for compression, the length, the message.
fn question(service: &str) -> Bytes {
    let mut message = BytesMut::new();
    if !service.is_empty() {
        message.put_u8(1 << 3 | 2);
        put_varint(&mut message, service.len() as u64);
        message.put_slice(service.as_bytes());
    }
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    // A name of 4 GiB is refused by any server, however long it is said to be.
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.unsplit(message);
    frame.freeze()
}

fn judge(bytes: &[u8], trailers: &HeaderMap) -> CheckResult {
    let code = trailers.get("grpc-status").and_then(|code| code.to_str().ok()?.parse().ok());
    match code {
        Some(0) => {}
        Some(5) => return Err(Unhealthy::new("the server does not know the service")),
        Some(12) => return Err(Unhealthy::new("the server has no health service: grpc-status 12")),
        Some(code @ 1_u32..) => return Err(Unhealthy::new(format_args!("grpc-status {code}"))),
        None => return Err(Unhealthy::new("the answer has no grpc-status")),
    }
    match serving_status(bytes) {
        Some(1) => Ok(Answer::Healthy),
        Some(0) => Err(Unhealthy::new("the service says UNKNOWN")),
        Some(2) => Err(Unhealthy::new("the service says NOT_SERVING")),
        Some(3) => Err(Unhealthy::new("the service says SERVICE_UNKNOWN")),
        Some(other) => Err(Unhealthy::new(format_args!("the service says {other}, whatever that is"))),
        None => Err(Unhealthy::new("the answer is no HealthCheckResponse")),
    }
}

/// The status in a framed `HealthCheckResponse { ServingStatus status = 1; }`. The last one counts, 0 is left out.
fn serving_status(frame: &[u8]) -> Option<u64> {
    let (head, mut message) = frame.split_at_checked(5)?;
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
    if head[0] != 0 || usize::try_from(length) != Ok(message.len()) {
        return None;
    }
    let mut status = 0;
    while !message.is_empty() {
        let tag = take_varint(&mut message)?;
        match (tag >> 3, tag & 7) {
            (1, 0) => status = take_varint(&mut message)?,
            (0, _) => return None,
            // Fields of a later version.
            (_, 0) => drop(take_varint(&mut message)?),
            (_, 1) => drop(take(&mut message, 8)?),
            (_, 2) => {
                let length = take_varint(&mut message)?;
                take(&mut message, usize::try_from(length).ok()?)?;
            }
            (_, 5) => drop(take(&mut message, 4)?),
            _ => return None,
        }
    }
    Some(status)
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = u64::from(take(bytes, 1)?[0]);
        value |= (byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[allow(clippy::cast_possible_truncation, reason = "seven bits at a time")]
fn put_varint(bytes: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        bytes.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.put_u8(value as u8);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn framed(message: &[u8]) -> Vec<u8> {
        let length = u32::try_from(message.len()).expect("it is short");
        [&[0], &length.to_be_bytes()[..], message].concat()
    }

    #[test]
    fn a_question_names_the_service() {
        assert_eq!(question("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(question("a.B")[..], [0, 0, 0, 0, 5, 0x0a, 3, b'a', b'.', b'B']);
        let long = "x".repeat(300);
        assert_eq!(question(&long)[..8], [0, 0, 0, 1, 47, 0x0a, 0xac, 0x02]);
    }

    #[test]
    fn an_answer_says_how_it_serves() {
        assert_eq!(serving_status(&framed(&[8, 1])), Some(1));
        assert_eq!(serving_status(&framed(&[])), Some(0), "zero is left out");
        assert_eq!(
            serving_status(&framed(&[0x12, 1, 7, 0x1d, 1, 2, 3, 4, 8, 2])),
            Some(2),
            "with other fields"
        );
        assert_eq!(serving_status(&framed(&[8, 2, 8, 1])), Some(1), "the last one counts");
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        for message in [&[8][..], &[8, 0x80], &[0x12, 9, 1], &[0, 1], &[0x0b], &[0xff; 12], &[0x11, 1]] {
            assert_eq!(serving_status(&framed(message)), None, "{message:?}");
        }
        assert_eq!(serving_status(&[]), None);
        assert_eq!(serving_status(&[1, 0, 0, 0, 2, 8, 1]), None, "compressed, which nobody asked for");
        assert_eq!(serving_status(&[0, 0, 0, 0, 9, 8, 1]), None, "cut off");
    }

    proptest! {
        #[test]
        fn no_bytes_break_it(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = serving_status(&bytes);
            let _ = serving_status(&framed(&bytes));
        }

        #[test]
        fn varints_come_back(value in any::<u64>()) {
            let mut bytes = BytesMut::new();
            put_varint(&mut bytes, value);
            prop_assert_eq!(take_varint(&mut &bytes[..]), Some(value));
        }
    }
}
