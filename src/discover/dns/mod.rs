//! Follows DNS: A and AAAA records, or SRV records, for as long as they say that they are valid.
//!
//! Reach for this where the platform publishes instances in DNS: Kubernetes' headless services, Consul, Nomad, a
//! round-robin name. Where it can push changes instead, [`follow_nodes`](super::follow_nodes) learns of them sooner.
//!
//! ```
//! use buttress::{cluster::Cluster, discover::{Event, dns::Dns}};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let cluster = Cluster::new([])?;
//! // A name in earnest, and best with a dot at its end: that keeps the search domains out.
//! let follow = Dns::new("127.0.0.1", 8080).follow(
//!     cluster.clone(),
//!     |_, address| format!("http://{address}"),
//!     |event| if let Event::Failed(error) = event { eprintln!("the last good set stays: {error}") },
//! );
//! let task = tokio::spawn(follow);
//! # while cluster.load().is_empty() { tokio::task::yield_now().await }
//! # assert!(cluster.get("127.0.0.1:8080").is_some());
//! // The set is followed until the task is aborted.
//! task.abort();
//! # Ok(())
//! # }
//! ```

mod resolve;
mod round;
mod schedule;

use std::{collections::HashMap, fmt, net::SocketAddr, ops::RangeInclusive, sync::Arc, time::Duration};

use tower::BoxError;

pub use self::resolve::{Answer, Client, Family, Resolve, Srv};
use self::{
    round::{Asker, Round},
    schedule::{Outcome, Schedule},
};
use super::Event;
use crate::{
    cluster::{Cluster, Node, NodeId},
    rng::Rng,
};

/// The shortest time between two rounds of questions: a TTL of 0 asks for more than a server wants to bear.
const SHORTEST_TTL: Duration = Duration::from_secs(1);

/// The longest: a TTL of a day is nearly always an oversight.
const LONGEST_TTL: Duration = Duration::from_secs(300);

/// How long a question may take, unless configured. Longer than the client's own first try of 5 s.
const TIMEOUT: Duration = Duration::from_secs(15);

/// How many nodes a name may have, unless configured. More is most likely a mistake, or an attack.
const MAX_NODES: usize = 1024;

/// Keeps a cluster at what DNS says of a name.
///
/// The id of a node is its address as text: `10.0.0.1:8080`, `[2001:db8::1]:80`. The name is asked for again as its
/// records expire. If nobody answers, or the answer is empty or that there is no such name, the last good set stays and
/// the question is tried again, ever more slowly up to once a minute; where only some of the answers are missing (AAAA
/// but not A, or one host of many), the last good ones stand in for them.
#[derive(Clone)]
#[must_use = "it does nothing until `follow` is spawned"]
pub struct Dns {
    source: Source,
    families: &'static [Family],
    resolver: Option<Arc<dyn Resolve>>,
    ttl: RangeInclusive<Duration>,
    timeout: Duration,
    max_nodes: usize,
    rng: Rng,
}

/// Where the addresses come from.
#[derive(Clone, Debug)]
enum Source {
    Addresses { host: Arc<str>, port: u16 },
    Services { name: Arc<str> },
}

impl Dns {
    /// Follows the A and AAAA records of `host`; all nodes listen on `port`. An address as `host` stands for itself.
    pub fn new(host: impl Into<Arc<str>>, port: u16) -> Self {
        Self::with_source(Source::Addresses { host: host.into(), port })
    }

    /// Follows the SRV records of `name`, such as `_http._tcp.web.internal.`, and the addresses of their hosts.
    ///
    /// The lowest SRV priority among them becomes priority 0 of the cluster, the next one 1, and so on. The SRV weight
    /// becomes the weight of each of the host's addresses. A weight of 0, "little traffic" in RFC 2782, becomes 1.
    pub fn srv(name: impl Into<Arc<str>>) -> Self {
        Self::with_source(Source::Services { name: name.into() })
    }

    fn with_source(source: Source) -> Self {
        Self {
            source,
            families: &[Family::V4, Family::V6],
            resolver: None,
            ttl: SHORTEST_TTL..=LONGEST_TTL,
            timeout: TIMEOUT,
            max_nodes: MAX_NODES,
            rng: Rng::from_thread(),
        }
    }

    /// Asks for addresses of one family only (default: both).
    pub fn family(mut self, family: Family) -> Self {
        self.families = match family {
            Family::V4 => &[Family::V4],
            Family::V6 => &[Family::V6],
        };
        self
    }

    /// Sets who is asked (default: [`Client::system`]).
    pub fn resolver(mut self, resolver: impl Resolve) -> Self {
        self.resolver = Some(Arc::new(resolver));
        self
    }

    /// Sets the bounds between which times to live are honoured (default: 1 s to 5 min).
    pub fn ttl(mut self, bounds: RangeInclusive<Duration>) -> Self {
        self.ttl = bounds;
        self
    }

    /// Sets how long a question may take before it counts as failed (default: 15 s).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets how many nodes to accept, at least 1 (default: 1024). Of more, the first in the order of priority and
    /// address are used.
    pub fn max_nodes(mut self, nodes: usize) -> Self {
        self.max_nodes = nodes.max(1);
        self
    }

    /// Sets where the jitter comes from (default: seeded from this thread's entropy).
    pub fn rng(mut self, rng: Rng) -> Self {
        self.rng = rng;
        self
    }

    /// Follows the name until the future is dropped: spawn it. It never ends by itself.
    ///
    /// `make` gives the service that reaches a new node; nodes that stay keep theirs. `observe` learns what happens.
    ///
    /// # Panics
    /// The future panics outside a Tokio runtime with timers.
    pub async fn follow<S>(
        self,
        cluster: Cluster<S>,
        mut make: impl FnMut(&Node, SocketAddr) -> S,
        mut observe: impl FnMut(Event<BoxError>),
    ) {
        let mut rng = self.rng.clone();
        let mut schedule = Schedule::new(*self.ttl.start(), *self.ttl.end());
        // The system's settings may be missing for the moment.
        let resolver = loop {
            match self.find_resolver() {
                Ok(resolver) => break resolver,
                Err(error) => observe(Event::Failed(error)),
            }
            tokio::time::sleep(schedule.next_delay(Outcome::Failed, &mut rng)).await;
        };
        let mut asker = Asker::new(self, resolver);
        loop {
            let round = asker.ask().await;
            let outcome = apply(round, &cluster, &mut make, &mut observe);
            tokio::time::sleep(schedule.next_delay(outcome, &mut rng)).await;
        }
    }

    fn find_resolver(&self) -> Result<Arc<dyn Resolve>, BoxError> {
        match &self.resolver {
            Some(resolver) => Ok(Arc::clone(resolver)),
            None => Ok(Arc::new(Client::system()?)),
        }
    }
}

impl fmt::Debug for Dns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dns")
            .field("source", &self.source)
            .field("resolver", &self.resolver)
            .finish_non_exhaustive()
    }
}

/// Puts the answers of one round to use.
fn apply<S>(
    round: Round,
    cluster: &Cluster<S>,
    make: &mut impl FnMut(&Node, SocketAddr) -> S,
    observe: &mut impl FnMut(Event<BoxError>),
) -> Outcome {
    if let Some(named) = round.surplus {
        observe(Event::Surplus { named, kept: round.found.len() });
    }
    let outcome = round.outcome();
    for error in round.errors {
        observe(Event::Failed(error));
    }
    if outcome == Outcome::Failed {
        return outcome;
    }
    let nodes = round.found.iter().map(|found| {
        Node::new(found.address.to_string()).priority(found.priority).weight(found.weight.max(1))
    });
    let nodes: Vec<_> = nodes.collect();
    let addresses: HashMap<NodeId, SocketAddr> =
        nodes.iter().map(|node| node.id.clone()).zip(round.found.iter().map(|found| found.address)).collect();
    match cluster.replace_with(nodes, |node| make(node, addresses[&node.id])) {
        Ok(()) => {
            observe(Event::Applied { nodes: cluster.load().len() });
            // What is empty has no time to live.
            if round.found.is_empty() { Outcome::Failed } else { outcome }
        }
        Err(error) => {
            observe(Event::Refused(error));
            Outcome::Failed
        }
    }
}

#[cfg(test)]
mod tests;
