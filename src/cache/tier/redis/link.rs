//! The connection: made when it is needed, given up when it is dead, and never waited for beyond the deadline.

use std::{
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ::redis::{
    AsyncConnectionConfig, Client, ErrorKind, RedisError, RedisResult, ServerErrorKind,
    aio::MultiplexedConnection,
};
use tokio::time::timeout;

use crate::{
    cache::tier::{TierError, breaker::Breaker},
    time::Clock,
};

/// How long an attempt to connect may take: longer than most deadlines, as it goes on when the caller has left.
const CONNECT: Duration = Duration::from_secs(5);
/// How many commands may be on their way to the connection's task, where the crate's default of 50 makes callers wait.
const PIPELINE: usize = 1024;

pub(super) struct Link {
    client: Client,
    deadline: Duration,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    /// Held by whoever connects.
    turn: Arc<tokio::sync::Mutex<()>>,
}

struct State {
    breaker: Breaker,
    connection: Option<MultiplexedConnection>,
    /// How many connections were made.
    made: u64,
    failures: u64,
}

impl Link {
    pub(super) fn new(client: Client, deadline: Duration, pause: Duration, clock: Arc<dyn Clock>) -> Self {
        let state = State { breaker: Breaker::new(pause), connection: None, made: 0, failures: 0 };
        Self { client, deadline, clock, state: Mutex::new(state), turn: Arc::default() }
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn failures(&self) -> u64 {
        self.state().failures
    }

    pub(super) fn is_paused(&self) -> bool {
        self.state().breaker.is_open()
    }

    /// Lets `work` use the connection, all of it within the deadline.
    pub(super) async fn run<T, F>(
        self: &Arc<Self>,
        work: impl FnOnce(MultiplexedConnection) -> F,
    ) -> Result<T, TierError>
    where
        F: Future<Output = RedisResult<T>>,
    {
        if !self.state().breaker.admit(self.clock.now()) {
            return Err(TierError::Paused);
        }
        let outcome = timeout(self.deadline, async {
            let (connection, made) = self.connection().await.map_err(|error| (error, None))?;
            work(connection).await.map_err(|error| (error, Some(made)))
        });
        match outcome.await {
            Ok(Ok(answer)) => {
                self.state().breaker.succeed();
                Ok(answer)
            }
            Ok(Err((error, made))) => {
                if is_outage(&error) {
                    // One that broke is of no use to anybody.
                    self.fail(|state| made == Some(state.made));
                } else {
                    self.state().breaker.succeed();
                }
                Err(TierError::failed(error))
            }
            Err(_) => {
                // One slow answer condemns no connection, as a new one loses the order of what was sent. Several do.
                self.fail(|state| state.breaker.is_open());
                Err(TierError::Timeout(self.deadline))
            }
        }
    }

    fn fail(&self, is_dead: impl FnOnce(&State) -> bool) {
        let now = self.clock.now();
        let mut state = self.state();
        state.failures += 1;
        state.breaker.fail(now);
        if is_dead(&state) {
            let dead = state.connection.take();
            drop(state);
            drop(dead);
        }
    }

    /// The connection, and which one it is.
    async fn connection(self: &Arc<Self>) -> RedisResult<(MultiplexedConnection, u64)> {
        if let Some(connection) = self.current() {
            return Ok(connection);
        }
        let turn = Arc::clone(&self.turn).lock_owned().await;
        if let Some(connection) = self.current() {
            return Ok(connection);
        }
        let this = Arc::clone(self);
        // A task, so that it goes on when the caller's deadline is over: the next caller finds it made.
        let connect = tokio::spawn(async move {
            let _turn = turn;
            let config = AsyncConnectionConfig::new()
                .set_connection_timeout(Some(CONNECT))
                .set_response_timeout(None)
                .set_pipeline_buffer_size(PIPELINE);
            let connection = this.client.get_multiplexed_async_connection_with_config(&config).await?;
            let mut state = this.state();
            state.made += 1;
            state.connection = Some(connection.clone());
            Ok((connection, state.made))
        });
        connect.await.unwrap_or_else(|_| Err((ErrorKind::Io, "the runtime shuts down").into()))
    }

    fn current(&self) -> Option<(MultiplexedConnection, u64)> {
        let state = self.state();
        Some((state.connection.clone()?, state.made))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the server cannot be used, rather than does not like what it was asked.
fn is_outage(error: &RedisError) -> bool {
    match error.kind() {
        ErrorKind::Server(kind) => matches!(kind, ServerErrorKind::BusyLoading | ServerErrorKind::MasterDown),
        ErrorKind::Extension | ErrorKind::UnexpectedReturnType => false,
        _ => true,
    }
}
