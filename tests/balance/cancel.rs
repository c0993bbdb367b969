//! Counts are right wherever a request is given up.

use std::{
    cell::Cell,
    convert::Infallible,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use buttress::{
    balance::{
        Balance, Classify, Cloned, LeastRequest, Queue, Retry,
        http::{ClassifyHttp, OnBody},
    },
    cluster::{Cluster, FailureKind, Node, Verdict},
    forward::UpgradeLease,
    rng::Rng,
};
use bytes::Bytes;
use hyper::body::{Body, Frame};
use hyper::{Response, StatusCode};
use tokio_test::task;
use tower::Service;

use crate::support::in_flight;

/// What the node does with a request, and what it does it with.
#[derive(Clone, Copy, Debug)]
struct Script {
    /// Wake-ups until it is ready, until the head, and between frames.
    unready: u8,
    head: u8,
    frame: u8,
    frames: u8,
    ending: Ending,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Ending {
    Whole,
    BrokenBody,
    Failure,
    Upgrade,
    PanicInCall,
    PanicInFuture,
    PanicInClassifier,
}

thread_local! {
    /// What the next node to be asked does.
    static UNREADY: Cell<u8> = const { Cell::new(0) };
}

impl Script {
    fn random(rng: &mut Rng) -> Self {
        let ending = match rng.below(40) {
            0..24 => Ending::Whole,
            24..27 => Ending::BrokenBody,
            27..31 => Ending::Failure,
            31..34 => Ending::Upgrade,
            34..36 => Ending::PanicInCall,
            36..38 => Ending::PanicInFuture,
            _ => Ending::PanicInClassifier,
        };
        let mut few = |bound| u8::try_from(rng.below(bound)).unwrap();
        Self { unready: few(3), head: few(3), frame: few(2), frames: few(4), ending }
    }
}

/// Plays scripts. Each clone becomes ready for itself.
#[derive(Debug, Default)]
struct Actor {
    asked: u8,
}

impl Clone for Actor {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Service<Script> for Actor {
    type Response = Response<Play>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Response<Play>>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.asked >= UNREADY.get() {
            return Poll::Ready(Ok(()));
        }
        self.asked += 1;
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn call(&mut self, script: Script) -> Self::Future {
        assert!(script.ending != Ending::PanicInCall, "as the script says");
        Box::pin(async move {
            for _ in 0..script.head {
                tokio::task::yield_now().await;
            }
            let mut response = Response::new(Play(script));
            match script.ending {
                Ending::Failure => return Err(io::Error::other("as the script says")),
                Ending::PanicInFuture => panic!("as the script says"),
                Ending::Upgrade => *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS,
                _ => {}
            }
            Ok(response)
        })
    }
}

/// The body that a script has.
#[derive(Debug)]
struct Play(Script);

impl Body for Play {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.0.frame > 0 {
            self.0.frame -= 1;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let Some(left) = self.0.frames.checked_sub(1) else {
            let broken = self.0.ending == Ending::BrokenBody;
            return Poll::Ready(broken.then(|| Err(io::Error::other("broken"))));
        };
        self.0.frames = left;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"x")))))
    }
}

#[derive(Clone, Copy)]
struct Critic;

impl Classify<Response<Play>, io::Error> for Critic {
    fn classify(&self, answer: Result<&Response<Play>, &io::Error>) -> Verdict {
        let panics = answer.is_ok_and(|response| response.body().0.ending == Ending::PanicInClassifier);
        assert!(!panics, "as the script says");
        ClassifyHttp.classify(answer)
    }
}

/// A request on its way: each step does one thing more, and says whether there is more to do.
type Steps = Box<dyn FnMut() -> bool>;

/// Walks a request through head, body and what is left of an upgrade, one poll at a time.
fn steps<F, B, E>(call: F) -> Steps
where
    F: Future<Output = Result<Response<B>, E>> + 'static,
    B: Body + Unpin + 'static,
{
    let mut call = Some(task::spawn(Box::pin(call)));
    let mut body = None;
    let mut lease: Option<UpgradeLease> = None;
    Box::new(move || {
        if let Some(waiting) = &mut call {
            let Poll::Ready(answer) = waiting.poll() else { return true };
            call = None;
            let Ok(mut response) = answer else { return false };
            lease = response.extensions_mut().remove();
            body = Some(response.into_body());
            return true;
        }
        let Some(reading) = &mut body else { return false };
        let frame = task::spawn(()).enter(|cx, _| Pin::new(reading).poll_frame(cx));
        match frame {
            Poll::Ready(Some(Ok(_))) | Poll::Pending => true,
            Poll::Ready(_) => lease.take().is_some(),
        }
    })
}

#[tokio::test(start_paused = true)]
async fn nothing_stays_in_flight_after_100_000_requests_cut_off_anywhere() {
    let quiet = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if panic.payload_as_str() != Some("as the script says") {
            quiet(panic);
        }
    }));
    let mut rng = Rng::seeded(42);
    let nodes = ('a'..='e').map(|name| (Node::new(name.to_string()).max_in_flight(5), Actor::default()));
    let cluster = Cluster::new(nodes).unwrap();
    let balance = Balance::new(cluster.clone(), LeastRequest::new()).classify(Critic).complete(OnBody);
    let mut queued = balance.clone().queue(Queue::new(20, Duration::from_secs(3600)));
    let mut retry = Retry::new(balance, Cloned::new(|_: &Script| true));

    let (mut started, mut finished, mut panics) = (0, 0, 0);
    let mut running: Vec<Steps> = Vec::new();
    while started < 100_000 {
        let script = Script::random(&mut rng);
        UNREADY.set(script.unready);
        let step = if running.len() < 50 && rng.below(3) == 0 {
            started += 1;
            let start =
                || if rng.below(2) == 0 { steps(queued.call(script)) } else { steps(retry.call(script)) };
            catch_unwind(AssertUnwindSafe(start)).map(|request| running.push(request))
        } else if running.is_empty() {
            continue;
        } else {
            let which = rng.below(running.len());
            // One step in ten is the last, whatever comes next.
            let cut = rng.below(10) == 0;
            let step = catch_unwind(AssertUnwindSafe(|| cut || running[which]()));
            if cut || !matches!(step, Ok(true)) {
                drop(running.swap_remove(which));
                finished += usize::from(!cut && step.is_ok());
            }
            step.map(drop)
        };
        panics += usize::from(step.is_err());
    }
    assert!(finished > 10_000 && panics > 1_000, "{finished} finished, {panics} panicked");
    drop(running);
    let _ = std::panic::take_hook();
    assert_eq!(in_flight(&cluster), 0);
    let states = cluster.load();
    assert!(states.iter().all(|member| member.state.cancelled() > 1_000 && member.state.failures() > 100));

    // Nobody is left in the queue either, and there is room.
    let calm = Script { unready: 0, head: 0, frame: 0, frames: 0, ending: Ending::Whole };
    UNREADY.set(0);
    let answers: Vec<_> = (0..25).map(|_| task::spawn(queued.call(calm)).poll()).collect();
    assert!(answers.iter().all(|answer| matches!(answer, Poll::Ready(Ok(_)))));
    assert_eq!(in_flight(&cluster), 25);
}

#[tokio::test]
async fn a_verdict_is_given_once_and_a_cancelled_request_is_no_failure() {
    let service = tower::service_fn(|()| std::future::pending::<Result<(), Infallible>>());
    let cluster = Cluster::new([(Node::new("a"), service)]).unwrap();
    let judge = |_: Result<&(), &Infallible>| Verdict::Failure(FailureKind::Response);
    let mut balance = Balance::new(cluster.clone(), LeastRequest::new()).classify(judge);
    let mut call = task::spawn(balance.call(()));
    assert!(call.poll().is_pending());
    drop(call);
    let state = &cluster.get("a").unwrap().member.state;
    assert_eq!((state.requests(), state.failures(), state.cancelled(), state.in_flight()), (1, 0, 1, 0));
}
