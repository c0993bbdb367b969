//! A tier in memory that does what it is told: slow, failing, shared.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use async_trait::async_trait;
use buttress::cache::tier::{Lookup, Notice, Ticket, Tier, TierError};
use tokio::{
    sync::broadcast,
    time::{Instant, sleep},
};

pub(crate) type Key = u32;

#[derive(Clone, Debug)]
pub(crate) struct Shelf(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    is_shared: bool,
    state: Mutex<State>,
    notices: broadcast::Sender<Notice<Key>>,
    fails: AtomicBool,
    gets: AtomicU64,
    /// How long an answer takes, before and after what it says is so, in milliseconds; random up to that if `dice`.
    delay: AtomicU64,
    dice: Mutex<Option<buttress::rng::Rng>>,
}

#[derive(Debug, Default)]
struct State {
    values: HashMap<Key, (u64, Option<Instant>)>,
    changes: HashMap<Key, u64>,
    clears: u64,
}

impl Shelf {
    pub(crate) fn new(is_shared: bool) -> Self {
        Self(Arc::new(Inner {
            is_shared,
            state: Mutex::default(),
            notices: broadcast::channel(16).0,
            fails: AtomicBool::new(false),
            gets: AtomicU64::new(0),
            delay: AtomicU64::new(0),
            dice: Mutex::new(None),
        }))
    }

    /// With delays and failures by chance.
    pub(crate) fn random(is_shared: bool, delay: Duration, seed: u64) -> Self {
        let shelf = Self::new(is_shared).slow(delay);
        *shelf.0.dice.lock().unwrap() = Some(buttress::rng::Rng::seeded(seed));
        shelf
    }

    pub(crate) fn slow(self, delay: Duration) -> Self {
        self.0.delay.store(u64::try_from(delay.as_millis()).unwrap(), SeqCst);
        self
    }

    pub(crate) fn fail(&self, fails: bool) {
        self.0.fails.store(fails, SeqCst);
    }

    pub(crate) fn gets(&self) -> u64 {
        self.0.gets.load(SeqCst)
    }

    /// What it holds and for how long still.
    pub(crate) fn peek(&self, key: Key) -> Option<(u64, Option<Duration>)> {
        let state = self.0.state.lock().unwrap();
        let (value, until) = *state.values.get(&key)?;
        let now = Instant::now();
        until.is_none_or(|until| until > now).then(|| (value, until.map(|until| until - now)))
    }

    pub(crate) fn tell(&self, notice: Notice<Key>) {
        let _ = self.0.notices.send(notice);
    }

    async fn act<T>(&self, act: impl FnOnce(&mut State) -> T) -> Result<T, TierError> {
        self.pause().await;
        // A command may fail before it has happened, and after.
        let (fails_before, fails_after) = self.chance();
        if self.0.fails.load(SeqCst) || fails_before {
            return Err(TierError::Timeout(Duration::from_secs(1)));
        }
        let outcome = act(&mut self.0.state.lock().unwrap());
        self.pause().await;
        if fails_after { Err(TierError::Paused) } else { Ok(outcome) }
    }

    fn chance(&self) -> (bool, bool) {
        match &mut *self.0.dice.lock().unwrap() {
            Some(rng) => (rng.below(10) == 0, rng.below(10) == 0),
            None => (false, false),
        }
    }

    async fn pause(&self) {
        let delay = self.0.delay.load(SeqCst);
        let delay = match &mut *self.0.dice.lock().unwrap() {
            Some(rng) => rng.below(usize::try_from(delay).unwrap() + 1) as u64,
            None => delay,
        };
        if delay > 0 {
            sleep(Duration::from_millis(delay)).await;
        }
    }
}

impl State {
    fn ticket(&self, key: Key) -> Ticket {
        let changes = self.changes.get(&key).copied().unwrap_or(0);
        Ticket(format!("{changes} {}", self.clears).into_bytes().into())
    }

    fn keep(&mut self, key: Key, value: u64, ttl: Option<Duration>) {
        self.values.insert(key, (value, ttl.map(|ttl| Instant::now() + ttl)));
    }
}

#[async_trait]
impl Tier<Key, u64> for Shelf {
    fn name(&self) -> &'static str {
        if self.0.is_shared { "shared" } else { "local" }
    }

    fn is_shared(&self) -> bool {
        self.0.is_shared
    }

    async fn get(&self, key: &Key) -> Result<Lookup<u64>, TierError> {
        self.0.gets.fetch_add(1, SeqCst);
        self.act(|state| {
            let now = Instant::now();
            match state.values.get(key) {
                Some((value, until)) if until.is_none_or(|until| until > now) => {
                    Lookup::Hit { value: *value, ttl: until.map(|until| until - now) }
                }
                _ => Lookup::Miss(state.ticket(*key)),
            }
        })
        .await
    }

    async fn fill(
        &self,
        key: &Key,
        value: &u64,
        ttl: Option<Duration>,
        ticket: Ticket,
    ) -> Result<bool, TierError> {
        self.act(|state| {
            let is_valid = ticket == state.ticket(*key);
            if is_valid {
                state.keep(*key, *value, ttl);
            }
            is_valid
        })
        .await
    }

    async fn put(&self, key: &Key, value: &u64, ttl: Option<Duration>) -> Result<(), TierError> {
        self.act(|state| {
            *state.changes.entry(*key).or_default() += 1;
            state.keep(*key, *value, ttl);
        })
        .await
    }

    async fn remove(&self, key: &Key) -> Result<(), TierError> {
        self.act(|state| {
            *state.changes.entry(*key).or_default() += 1;
            state.values.remove(key);
        })
        .await
    }

    async fn clear(&self) -> Result<(), TierError> {
        self.act(|state| {
            state.clears += 1;
            state.values.clear();
        })
        .await
    }

    fn notices(&self) -> Option<broadcast::Receiver<Notice<Key>>> {
        self.0.is_shared.then(|| self.0.notices.subscribe())
    }
}
