use std::collections::VecDeque;

use http_body_util::{BodyExt, Empty, Full, StreamBody};
use proptest::prelude::*;
use tokio_test::{assert_pending, assert_ready, task};

use super::*;

/// A body that does as it is told: `None` is a pending poll that wakes itself.
#[derive(Default)]
struct Script(VecDeque<Step>);

#[derive(Clone, Debug)]
enum Step {
    Data(Bytes),
    Trailers(HeaderMap),
    Fail,
    Wait,
    Panic,
}

impl Script {
    fn new(steps: impl IntoIterator<Item = Step>) -> Self {
        Self(steps.into_iter().collect())
    }
}

impl Body for Script {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Poll::Ready(match self.0.pop_front() {
            Some(Step::Data(data)) => Some(Ok(Frame::data(data))),
            Some(Step::Trailers(trailers)) => Some(Ok(Frame::trailers(trailers))),
            Some(Step::Fail) => Some(Err("the client went away".into())),
            Some(Step::Panic) => panic!("as told"),
            Some(Step::Wait) => {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            None => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        let size = self.0.iter().map(|step| if let Step::Data(data) = step { data.len() as u64 } else { 0 });
        SizeHint::with_exact(size.sum())
    }
}

fn data(text: &'static str) -> Step {
    Step::Data(Bytes::from_static(text.as_bytes()))
}

fn trailers() -> HeaderMap {
    [(http::HeaderName::from_static("x-sum"), "1".parse().unwrap())].into_iter().collect()
}

async fn read<B: Body<Data = Bytes, Error = BoxError>>(
    body: B,
) -> Result<(Bytes, Option<HeaderMap>), BoxError> {
    let all = body.collect().await?;
    let trailers = all.trailers().cloned();
    Ok((all.to_bytes(), trailers))
}

async fn next<B>(body: &mut ReplayBody<B>) -> Option<Result<Bytes, BoxError>>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let frame = body.frame().await?;
    Some(frame.map(|frame| frame.into_data().expect("a data frame")))
}

#[tokio::test]
async fn each_attempt_sends_the_whole_body_and_its_trailers() {
    let replay =
        Replay::new(Script::new([data("ab"), Step::Wait, data("cd"), Step::Trailers(trailers())]), 64);
    for _ in 0..3 {
        let (bytes, fields) = read(replay.attempt().unwrap()).await.unwrap();
        assert_eq!((bytes.as_ref(), fields), (b"abcd".as_slice(), Some(trailers())));
    }
}

#[tokio::test]
async fn an_attempt_goes_on_where_the_recording_ends() {
    let replay = Replay::new(Script::new([data("ab"), data("cd"), data("ef")]), 64);
    let mut first = replay.attempt().unwrap();
    assert_eq!(next(&mut first).await.unwrap().unwrap(), "ab");
    drop(first);
    let mut second = replay.attempt().unwrap();
    assert_eq!(second.size_hint().exact(), Some(6));
    assert_eq!(next(&mut second).await.unwrap().unwrap(), "ab");
    assert_eq!(next(&mut second).await.unwrap().unwrap(), "cd");
    assert_eq!(second.size_hint().exact(), Some(2));
    assert_eq!(read(replay.attempt().unwrap()).await.unwrap().0, "abcdef");
}

#[tokio::test]
async fn more_than_the_limit_can_be_sent_but_not_sent_again() {
    let replay = Replay::new(Script::new([data("abc"), data("de")]), 4);
    let mut first = replay.attempt().unwrap();
    next(&mut first).await.unwrap().unwrap();
    assert!(replay.can_replay());
    assert_eq!(next(&mut first).await.unwrap().unwrap(), "de");
    assert!(!replay.can_replay());
    assert!(replay.attempt().is_none());
    assert!(next(&mut first).await.is_none());
}

#[tokio::test]
async fn exactly_the_limit_can_be_sent_again() {
    let replay = Replay::new(Full::new(Bytes::from_static(b"abcd")), 4);
    assert_eq!(read(replay.attempt().unwrap()).await.unwrap().0, "abcd");
    assert_eq!(read(replay.attempt().unwrap()).await.unwrap().0, "abcd");
}

#[tokio::test]
async fn an_attempt_that_took_nothing_can_be_repeated_whatever_the_size() {
    let replay = Replay::new(Full::new(Bytes::from(vec![7; 1 << 20])), 0);
    for _ in 0..3 {
        drop(replay.attempt().unwrap());
    }
    assert_eq!(read(replay.attempt().unwrap()).await.unwrap().0.len(), 1 << 20);
    assert!(!replay.can_replay());
}

#[tokio::test]
async fn trailers_count_towards_the_limit() {
    let replay = Replay::new(Script::new([data("ab"), Step::Trailers(trailers())]), 7);
    assert_eq!(read(replay.attempt().unwrap()).await.unwrap().1, Some(trailers()));
    assert!(!replay.can_replay());
}

#[tokio::test]
async fn an_older_attempt_fails_and_takes_nothing_from_the_newer() {
    let replay = Replay::new(Script::new([data("ab"), data("cd"), data("ef")]), 64);
    let mut first = replay.attempt().unwrap();
    next(&mut first).await.unwrap().unwrap();
    let mut second = replay.attempt().unwrap();
    assert!(!first.is_end_stream());
    assert_eq!(first.size_hint().exact(), None);
    assert!(next(&mut first).await.unwrap().unwrap_err().is::<Superseded>());
    assert!(next(&mut first).await.is_none());
    next(&mut second).await.unwrap().unwrap();
    assert_eq!(read(second).await.unwrap().0, "cdef");
}

#[test]
fn an_older_attempt_that_waits_is_woken() {
    let (sender, receiver) = tokio::sync::mpsc::channel::<Result<Frame<Bytes>, BoxError>>(1);
    let mut receiver = receiver;
    let stream = futures(move |cx| receiver.poll_recv(cx));
    let replay = Replay::new(StreamBody::new(stream), 64);
    let mut first = replay.attempt().unwrap();
    let mut first = task::spawn(async move { next(&mut first).await });
    assert_pending!(first.poll());
    let mut second = replay.attempt().unwrap();
    assert!(first.is_woken());
    assert!(assert_ready!(first.poll()).unwrap().unwrap_err().is::<Superseded>());
    let mut second = task::spawn(async move { next(&mut second).await });
    assert_pending!(second.poll());
    sender.try_send(Ok(Frame::data(Bytes::from_static(b"x")))).unwrap();
    assert!(second.is_woken());
    assert_eq!(assert_ready!(second.poll()).unwrap().unwrap(), "x");
}

struct PollFn<F>(F);

fn futures<T, F: FnMut(&mut Context<'_>) -> Poll<Option<T>> + Unpin>(poll: F) -> PollFn<F> {
    PollFn(poll)
}

impl<T, F: FnMut(&mut Context<'_>) -> Poll<Option<T>> + Unpin> futures_core::Stream for PollFn<F> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        (self.0)(cx)
    }
}

#[tokio::test]
async fn an_error_of_the_body_is_passed_on_and_ends_all_attempts() {
    let replay = Replay::new(Script::new([data("ab"), Step::Fail, data("cd")]), 64);
    let mut first = replay.attempt().unwrap();
    next(&mut first).await.unwrap().unwrap();
    assert_eq!(next(&mut first).await.unwrap().unwrap_err().to_string(), "the client went away");
    assert!(next(&mut first).await.is_none());
    assert!(!replay.can_replay() && replay.attempt().is_none());
}

#[test]
fn a_body_that_panics_is_gone_and_poisons_nothing() {
    let replay = Replay::new(Script::new([Step::Panic, data("x")]), 64);
    let mut first = replay.attempt().unwrap();
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _ = task::spawn(next(&mut first)).poll();
    }));
    assert!(panic.is_err());
    assert!(!replay.can_replay());
    assert!(assert_ready!(task::spawn(next(&mut first)).poll()).unwrap().is_err());
}

#[tokio::test]
async fn a_dropped_handle_remembers_nothing_more_and_its_attempt_reads_on() {
    let replay = Replay::new(Script::new([data("ab"), data("cd")]), 64);
    drop(next(&mut replay.attempt().unwrap()).await);
    let second = replay.attempt().unwrap();
    drop(replay);
    assert!(lock(&second.shared).record.is_none());
    assert_eq!(read(second).await.unwrap().0, "abcd");
}

#[tokio::test]
async fn an_empty_body_is_known_to_be_empty() {
    let replay = Replay::new(Empty::<Bytes>::new(), 0);
    for _ in 0..2 {
        let body = replay.attempt().unwrap();
        assert!(body.is_end_stream());
        assert_eq!(body.size_hint().exact(), Some(0));
        assert_eq!(body.collect().await.unwrap().to_bytes(), "");
    }
}

#[test]
fn small_slices_do_not_keep_their_buffers_alive() {
    let big = Bytes::from(vec![0; 1 << 20]);
    let replay = Replay::new(Script::new([Step::Data(big.slice(..1))]), 64);
    let mut first = replay.attempt().unwrap();
    drop(assert_ready!(task::spawn(next(&mut first)).poll()));
    assert!(big.is_unique());
}

#[test]
fn bodies_and_handles_are_send() {
    fn send<T: Send + 'static>() {}
    send::<Replay<Script>>();
    send::<ReplayBody<http_body_util::combinators::UnsyncBoxBody<Bytes, BoxError>>>();
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let chunk = prop::collection::vec(any::<u8>(), 0..9).prop_map(|bytes| Step::Data(bytes.into()));
    prop::collection::vec(prop_oneof![4 => chunk, 1 => Just(Step::Wait)], 0..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn every_attempt_is_byte_exact_wherever_the_earlier_ones_broke_off(
        steps in steps(), aborts in prop::collection::vec((0usize..12, any::<bool>()), 0..5), limit in 0usize..48, ends: bool,
    ) {
        let mut steps = steps;
        let whole: Vec<u8> =
            steps.iter().flat_map(|step| if let Step::Data(data) = step { data.to_vec() } else { vec![] }).collect();
        if ends {
            steps.push(Step::Trailers(trailers()));
        }
        let replay = Replay::new(Script::new(steps), limit);
        let mut alive = Vec::new();
        let mut most = 0;
        for (polls, keep) in aborts {
            let is_whole = replay.is_whole();
            let Some(mut body) = replay.attempt() else { break };
            let mut read = Vec::new();
            for _ in 0..polls {
                prop_assert_eq!(body.size_hint().exact(), Some((whole.len() - read.len()) as u64));
                let mut frame = task::spawn(body.frame());
                let Poll::Ready(frame) = frame.poll() else { continue };
                let Some(frame) = frame else { break };
                if let Ok(data) = frame.unwrap().into_data() {
                    read.extend_from_slice(&data);
                }
                prop_assert!(whole.starts_with(&read));
            }
            most = most.max(read.len());
            if keep {
                alive.push((body, is_whole, read));
            }
        }
        let can = replay.can_replay();
        prop_assert!(can || most > limit || ends, "{} bytes were taken, {} are allowed", most, limit);
        prop_assert!(!can || most <= limit);
        let Some(last) = replay.attempt() else { return Ok(()) };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (bytes, fields) = runtime.block_on(read(last)).unwrap();
        prop_assert_eq!(bytes.as_ref(), whole.as_slice());
        prop_assert_eq!(fields, ends.then(trailers));
        for (mut older, is_whole, mut taken) in alive {
            if is_whole {
                // It shares nothing with the others.
                taken.extend_from_slice(&runtime.block_on(read(older)).unwrap().0);
                prop_assert_eq!(&taken, &whole);
            } else {
                let stolen = runtime.block_on(next(&mut older));
                prop_assert!(!matches!(stolen, Some(Ok(_))));
            }
        }
    }
}
