//! The task that runs the checks, and its handle.

use std::{
    collections::HashMap,
    fmt,
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::Notify,
    task::{AbortHandle, Id, JoinError, JoinSet},
    time::{Instant, sleep_until, timeout},
};

use super::{
    CheckResult, HealthChange, HealthCheck, MonitorError, NodeReport, Unhealthy,
    pace::{Pace, Settings},
    rounds::{Rounds, Ticket},
};
use crate::{
    cluster::{Cluster, Subscriber, WeakCluster},
    rng::Rng,
    time::{Clock, TokioClock},
};

/// Checks the nodes of a cluster until dropped.
///
/// A handle: clones stand for the same monitor. A cluster has one at most. Dropping the last clone, or the cluster, stops
/// it and the checks that run; the nodes keep the health that they have.
///
/// Checks follow tokio's clock, and need a runtime with its timer enabled. They run beside each other, so one that hangs
/// delays no other, and a node has one check at a time. Their times are random, and spread out evenly.
///
/// The monitor says how the nodes are: what [`Cluster::set_health`] sets lasts until the next answer.
#[derive(Clone)]
#[must_use = "dropping the monitor stops the checks"]
pub struct Monitor {
    shared: Arc<Shared>,
    /// Stops the task when the last clone goes.
    _running: Arc<Running>,
}

impl Monitor {
    /// Checks the nodes of `cluster` with `check`, with the defaults of [`MonitorBuilder`].
    ///
    /// # Errors
    /// If the cluster has a monitor already, or there is no tokio runtime to run it.
    pub fn start<S: Send + Sync + 'static>(
        cluster: &Cluster<S>,
        check: impl HealthCheck<S>,
    ) -> Result<Self, MonitorError> {
        Self::builder().start(cluster, check)
    }

    /// Settings that differ from the defaults.
    pub fn builder() -> MonitorBuilder {
        MonitorBuilder::default()
    }

    /// How the nodes are, in the order of their ids. O(n log n).
    pub fn report(&self) -> Vec<NodeReport> {
        self.shared.rounds().report(TokioClock.now())
    }
}

impl fmt::Debug for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Monitor").field("report", &self.report()).finish()
    }
}

type Observer = Arc<dyn Fn(&HealthChange) + Send + Sync>;

/// Settings of a [`Monitor`].
///
/// | setting | default | because |
/// |---|---|---|
/// | `interval` | 5 s | with the others, a node that breaks is down within 7 s, and one that hangs within 11 s |
/// | `fast_interval` | 1 s | a doubt is settled soon |
/// | `down_interval` | the interval | |
/// | `timeout` | 2 s, at most half the interval | one lost packet costs a second |
/// | `jitter` | 0.1 | enough for the checks of many processes to part |
/// | `rise`, `fall` | 2, 3 | one bad answer is no outage, and one good one no recovery |
/// | `down_until_checked` | off | an application that restarts can serve at once |
#[derive(Clone, Default)]
#[must_use]
pub struct MonitorBuilder {
    settings: Settings,
    down_until_checked: bool,
    rng: Option<Rng>,
    observer: Option<Observer>,
}

impl MonitorBuilder {
    /// Sets the time from check to check of one node. The first check of a node comes at a random time within it.
    pub fn interval(mut self, interval: Duration) -> Self {
        self.settings.interval = interval;
        self
    }

    /// Sets the time from check to check while the answers differ from what the node is taken for.
    pub fn fast_interval(mut self, interval: Duration) -> Self {
        self.settings.fast = Some(interval);
        self
    }

    /// Sets the time from check to check of a node that is down.
    pub fn down_interval(mut self, interval: Duration) -> Self {
        self.settings.down = Some(interval);
        self
    }

    /// Sets how long a check may take: less than the interval.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.settings.timeout = Some(timeout);
        self
    }

    /// Sets by which part of it, from 0 to 0.5, each interval may be shorter, by chance. None is ever longer.
    pub fn jitter(mut self, part: f64) -> Self {
        self.settings.jitter = part;
        self
    }

    /// Sets how many good answers in a row bring a node back that is down.
    pub fn rise(mut self, answers: u32) -> Self {
        self.settings.rise = answers;
        self
    }

    /// Sets how many failed checks in a row take a node down.
    pub fn fall(mut self, checks: u32) -> Self {
        self.settings.fall = checks;
        self
    }

    /// Takes nodes of unknown health for down until their first answer.
    ///
    /// When all are new, that is true of all: whether they get traffic is then a matter of
    /// [panic](crate::balance::Levels::panic), which is to be 0 if they must not.
    pub fn down_until_checked(mut self, on: bool) -> Self {
        self.down_until_checked = on;
        self
    }

    /// Sets where the random times come from (default: the thread's entropy).
    pub fn rng(mut self, rng: Rng) -> Self {
        self.rng = Some(rng);
        self
    }

    /// Tells `observer` of each change in the health of a node, after balancers can see it.
    ///
    /// It is called in the monitor's task, under no lock, and should be quick. A panic in it is ignored.
    pub fn on_change(mut self, observer: impl Fn(&HealthChange) + Send + Sync + 'static) -> Self {
        self.observer = Some(Arc::new(observer));
        self
    }

    /// Starts to check the nodes of `cluster` with `check`.
    ///
    /// # Errors
    /// If a setting makes no sense, the cluster has a monitor already, or there is no tokio runtime to run it.
    pub fn start<S: Send + Sync + 'static>(
        self,
        cluster: &Cluster<S>,
        check: impl HealthCheck<S>,
    ) -> Result<Monitor, MonitorError> {
        let pace = self.settings.check()?;
        let runtime = Handle::try_current().map_err(|_| MonitorError::NoRuntime)?;
        let claim = Claim::of(cluster)?;
        let rng = self.rng.unwrap_or_else(Rng::from_thread);
        let rounds = Mutex::new(Rounds::new(pace, TokioClock.now(), rng));
        let shared = Arc::new(Shared { rounds, wake: Notify::new() });

        let watch = Arc::new(Watch {
            cluster: cluster.downgrade(),
            shared: Arc::clone(&shared),
            down_until_checked: self.down_until_checked,
        });
        let subscriber: Weak<Watch<S>> = Arc::downgrade(&watch);
        cluster.subscribe_first(subscriber);
        watch.refresh();

        let checks =
            Checks { check: Arc::new(check), pace, running: JoinSet::new(), tickets: HashMap::new() };
        let task = run(Arc::clone(&shared), cluster.downgrade(), checks, self.observer);
        let task = runtime.spawn(task).abort_handle();
        Ok(Monitor { shared, _running: Arc::new(Running { task, _watch: watch, _claim: claim }) })
    }
}

impl fmt::Debug for MonitorBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MonitorBuilder")
            .field("settings", &self.settings)
            .field("down_until_checked", &self.down_until_checked)
            .finish_non_exhaustive()
    }
}

/// What handle and task share.
struct Shared {
    /// No code of the user's runs under the lock.
    rounds: Mutex<Rounds>,
    wake: Notify,
}

impl Shared {
    fn rounds(&self) -> MutexGuard<'_, Rounds> {
        self.rounds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What lasts as long as the handle.
struct Running {
    task: AbortHandle,
    _watch: Arc<dyn Subscriber>,
    _claim: Claim,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The right to check the nodes of a cluster.
struct Claim(Arc<AtomicBool>);

impl Claim {
    fn of<S>(cluster: &Cluster<S>) -> Result<Self, MonitorError> {
        let taken = Arc::clone(cluster.monitored());
        if taken.swap(true, Ordering::AcqRel) {
            return Err(MonitorError::AlreadyMonitored);
        }
        Ok(Self(taken))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// Wakes the task when the cluster changes, or goes away.
struct Watch<S> {
    cluster: WeakCluster<S>,
    shared: Arc<Shared>,
    down_until_checked: bool,
}

impl<S: Send + Sync> Subscriber for Watch<S> {
    fn refresh(&self) {
        if self.down_until_checked {
            // Here, and not in the task: balancers learn of the newcomers next.
            let version = self.cluster.upgrade().map(|cluster| cluster.load());
            version.iter().flat_map(|version| version.iter()).for_each(|member| member.state.presume_down());
        }
        self.shared.wake.notify_one();
    }

    fn close(&self) {
        self.shared.wake.notify_one();
    }
}

/// Checks nodes when they are due, until the cluster is gone.
async fn run<S: Send + Sync + 'static>(
    shared: Arc<Shared>,
    cluster: WeakCluster<S>,
    mut checks: Checks<S>,
    observer: Option<Observer>,
) {
    loop {
        {
            let Some(cluster) = cluster.upgrade() else { return };
            checks.begin(&shared, &cluster);
        }
        let due = shared.rounds().next_due();
        if let Some((ticket, result)) = checks.next(&shared, due.map(Instant::from_std)).await {
            let finding = shared.rounds().finish(&ticket, TokioClock.now(), result);
            let Some(finding) = finding else { continue };
            // Whether it has changed or not: somebody else may have set it.
            finding.state.set_health(finding.health);
            if let (Some(change), Some(observer)) = (&finding.change, &observer) {
                let _ = catch_unwind(AssertUnwindSafe(|| observer(change)));
            }
        }
    }
}

/// The checks that run.
struct Checks<S> {
    check: Arc<dyn HealthCheck<S>>,
    pace: Pace,
    running: JoinSet<CheckResult>,
    tickets: HashMap<Id, Ticket>,
}

impl<S: Send + Sync + 'static> Checks<S> {
    /// Begins those that are due.
    fn begin(&mut self, shared: &Shared, cluster: &Cluster<S>) {
        let now = TokioClock.now();
        let version = cluster.load();
        shared.rounds().follow(now, version.generation(), version.iter());
        loop {
            let ticket = shared.rounds().begin(now);
            let Some(ticket) = ticket else { return };
            // The agenda names members of this version only.
            let Some(endpoint) = version.get(&ticket.id) else { continue };
            let (check, endpoint, limit) = (Arc::clone(&self.check), Arc::clone(endpoint), self.pace.timeout);
            // A task of its own: a panic harms nobody else, and checks use all threads of the runtime.
            let task = self.running.spawn(async move {
                match timeout(limit, check.check(endpoint)).await {
                    Ok(result) => result,
                    Err(_) => Err(Unhealthy::new(format_args!("no answer within {limit:?}"))),
                }
            });
            self.tickets.insert(task.id(), ticket);
        }
    }

    /// Waits for a check to end, and gives it; or until something else is to be done.
    async fn next(&mut self, shared: &Shared, due: Option<Instant>) -> Option<(Ticket, CheckResult)> {
        let mut woken = pin!(shared.wake.notified());
        let mut timer = pin!(due.map(sleep_until));
        poll_fn(|cx| {
            if let Poll::Ready(Some(ended)) = self.running.poll_join_next_with_id(cx) {
                return Poll::Ready(self.ended(ended));
            }
            let is_due = timer.as_mut().as_pin_mut().is_some_and(|timer| timer.poll(cx).is_ready());
            if is_due || woken.as_mut().poll(cx).is_ready() { Poll::Ready(None) } else { Poll::Pending }
        })
        .await
    }

    fn ended(&mut self, ended: Result<(Id, CheckResult), JoinError>) -> Option<(Ticket, CheckResult)> {
        let (id, result) = match ended {
            Ok(ended) => ended,
            Err(error) => (error.id(), Err(Unhealthy::new("the check panicked"))),
        };
        Some((self.tickets.remove(&id)?, result))
    }
}
