//! Two connections joined.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, Sleep, sleep_until},
};

use super::pump::{Fault, Pump};

/// As long as a stream of nginx may be silent.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(600);
pub(super) const HALF_CLOSE_TIMEOUT: Duration = Duration::from_secs(60);

pin_project! {
    /// Joins two connections: what comes from one goes to the other, until both have ended or one fails.
    ///
    /// When one end closes its direction, the other end is told so, and its own direction goes on: that is how a client says
    /// "that was my request" and waits for the answer. A slow receiver slows its sender down; at most 16 KiB are kept in each
    /// direction, and nothing while a receiver keeps up.
    ///
    /// Silence is bounded, and usually more narrowly once one direction has ended. Any byte that moves, either way, ends it.
    ///
    /// A future, to be awaited or spawned. Dropping it drops both connections. Needs a tokio runtime with its timer enabled,
    /// unless both timeouts are off.
    ///
    /// ```
    /// use buttress::forward::tcp::{Ending, Tunnel};
    /// use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// let ((mut alice, left), (right, mut bob)) = (duplex(64), duplex(64));
    /// let tunnel = tokio::spawn(Tunnel::new(left, right));
    ///
    /// alice.write_all(b"hello").await?;
    /// alice.shutdown().await?;
    /// let mut heard = String::new();
    /// bob.read_to_string(&mut heard).await?;
    /// assert_eq!(heard, "hello");
    ///
    /// drop(bob);
    /// let traffic = tunnel.await?;
    /// assert_eq!((traffic.up, traffic.down), (5, 0));
    /// assert!(matches!(traffic.ending, Ending::Closed));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use = "futures do nothing unless polled"]
    pub struct Tunnel<C, S> {
        #[pin]
        client: C,
        #[pin]
        server: S,
        up: Pump,
        down: Pump,
        idle_timeout: Option<Duration>,
        half_close_timeout: Option<Duration>,
        // When something last moved.
        last: Option<Instant>,
        #[pin]
        silence: Option<Sleep>,
    }
}

/// What a [`Tunnel`] has carried, and how it came to its end.
#[derive(Debug)]
#[non_exhaustive]
pub struct Traffic {
    /// Bytes that the server took from the client.
    pub up: u64,
    /// Bytes that the client took from the server.
    pub down: u64,
    /// How it ended.
    pub ending: Ending,
}

/// How a [`Tunnel`] ended.
#[derive(Debug)]
#[non_exhaustive]
pub enum Ending {
    /// Both ends closed their directions, and have got all that was sent.
    Closed,
    /// Nothing moved for so long.
    Idle(Duration),
    /// One end had closed its direction, and for so long the other neither sent anything nor closed.
    HalfClosed(Duration),
    /// The connection to the client broke.
    Client(io::Error),
    /// The connection to the server broke.
    Server(io::Error),
}

impl<C, S> Tunnel<C, S> {
    /// Joins a client to a server.
    pub fn new(client: C, server: S) -> Self {
        Self {
            client,
            server,
            up: Pump::default(),
            down: Pump::default(),
            idle_timeout: Some(IDLE_TIMEOUT),
            half_close_timeout: Some(HALF_CLOSE_TIMEOUT),
            last: None,
            silence: None,
        }
    }

    /// How long nothing may move (default: 10 minutes).
    pub fn idle_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.idle_timeout = limit.into();
        self
    }

    /// How long nothing may move once one direction has ended, if that is shorter (default: 1 minute).
    pub fn half_close_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.half_close_timeout = limit.into();
        self
    }
}

impl<C: AsyncRead + AsyncWrite, S: AsyncRead + AsyncWrite> Future for Tunnel<C, S> {
    type Output = Traffic;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Traffic> {
        let mut this = self.project();
        let mut moved = false;
        // Both, even if one fails: what has come from an end that broke is passed on before the news of it.
        let up = this.up.poll(cx, this.client.as_mut(), this.server.as_mut(), &mut moved);
        let down = this.down.poll(cx, this.server.as_mut(), this.client.as_mut(), &mut moved);
        let ending = match (up, down) {
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Ending::Closed,
            (Poll::Ready(Err(Fault::Reading(error))), _) | (_, Poll::Ready(Err(Fault::Writing(error)))) => {
                Ending::Client(error)
            }
            (Poll::Ready(Err(Fault::Writing(error))), _) | (_, Poll::Ready(Err(Fault::Reading(error)))) => {
                Ending::Server(error)
            }
            (Poll::Pending, _) | (_, Poll::Pending) => {
                if moved || this.last.is_none() {
                    *this.last = Some(Instant::now());
                }
                let is_half_closed = this.up.is_done() || this.down.is_done();
                let half_closed = this.half_close_timeout.filter(|_| is_half_closed);
                let (limit, ending): (_, fn(_) -> _) = match (*this.idle_timeout, half_closed) {
                    (idle, Some(half)) if idle.is_none_or(|idle| half < idle) => (half, Ending::HalfClosed),
                    (idle, _) => (idle.unwrap_or(Duration::MAX), Ending::Idle),
                };
                // A time that nobody lives to see is no deadline.
                let deadline = this.last.and_then(|last| last.checked_add(limit));
                ready!(poll_silence(this.silence, deadline, cx));
                ending(limit)
            }
        };
        Poll::Ready(Traffic { up: this.up.passed(), down: this.down.passed(), ending })
    }
}

/// Ready when `deadline` has passed. The timer is moved only when it has gone off or must go off earlier, not with each
/// byte that puts the deadline off.
fn poll_silence(
    mut silence: Pin<&mut Option<Sleep>>,
    deadline: Option<Instant>,
    cx: &mut Context<'_>,
) -> Poll<()> {
    let Some(deadline) = deadline else {
        silence.set(None);
        return Poll::Pending;
    };
    loop {
        match silence.as_mut().as_pin_mut() {
            None => silence.set(Some(sleep_until(deadline))),
            Some(sleep) if deadline < sleep.deadline() => sleep.reset(deadline),
            Some(mut sleep) => {
                ready!(sleep.as_mut().poll(cx));
                if deadline <= sleep.deadline() {
                    return Poll::Ready(());
                }
                sleep.reset(deadline);
            }
        }
    }
}

impl<C, S> fmt::Debug for Tunnel<C, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tunnel")
            .field("up", &self.up.passed())
            .field("down", &self.down.passed())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
