//! Consistent hashing with bounded load.

use std::{
    any::Any,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use super::LeastRequest;
use crate::{
    balance::{Nodes, PickCx, Picker, Policy},
    placement::{Placement, PlacementError, Ring},
};

/// Builds a placement of the user's for a set of nodes.
type Place = dyn Fn(&Nodes) -> Box<dyn Placement> + Send + Sync;

/// The same node for the same key, unless it has far more to do than the others.
///
/// For nodes that hold something: caches, sessions, open files. Keys come from the
/// [`KeyOf`](crate::balance::KeyOf) of the service; a request without one goes where there is least to do. Where a key
/// lives depends on membership and weights alone: a node that is down for a while gets its keys back.
///
/// With [`load_bound`](Self::load_bound), a node takes at most that multiple of its fair share of what is in flight;
/// beyond, a key spills to the next node in its order (Mirrokni, Thorup, Zadimoghaddam, "Consistent hashing with bounded
/// loads", 2016).
///
/// O(1) expected. Weights are absolute: changing one moves only that node's keys.
#[derive(Clone)]
pub struct ConsistentHash {
    source: Source,
    load_bound: Option<u64>,
}

#[derive(Clone)]
enum Source {
    Ring { vnodes: u32 },
    Custom(Arc<Place>),
}

impl ConsistentHash {
    /// Places keys on a [`Ring`] with 160 virtual nodes per unit of weight.
    pub fn new() -> Self {
        Self::ring(160)
    }

    /// Places keys on a [`Ring`] with this many virtual nodes per unit of weight; 0 counts as 1.
    ///
    /// If the weights then ask for more points than a ring allows, the virtual nodes are halved until they fit.
    pub fn ring(vnodes: u32) -> Self {
        Self { source: Source::Ring { vnodes: vnodes.max(1) }, load_bound: None }
    }

    /// Places keys by a placement that `place` builds; its indices are those of the nodes.
    pub fn placement(place: impl Fn(&Nodes) -> Box<dyn Placement> + Send + Sync + 'static) -> Self {
        Self { source: Source::Custom(Arc::new(place)), load_bound: None }
    }

    /// Lets a node have at most `percent` of its fair share in flight, at least 100. 125 is a good value: lower ones
    /// spread hot keys better, higher ones keep keys at home.
    #[must_use]
    pub fn load_bound(mut self, percent: u32) -> Self {
        self.load_bound = Some(u64::from(percent.max(100)));
        self
    }
}

impl Default for ConsistentHash {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for ConsistentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("ConsistentHash");
        if let Source::Ring { vnodes } = &self.source {
            debug.field("vnodes", vnodes);
        }
        debug.field("load_bound", &self.load_bound).finish_non_exhaustive()
    }
}

impl Policy for ConsistentHash {
    fn picker(&self, nodes: &Nodes, previous: Option<&dyn Picker>) -> Box<dyn Picker> {
        let previous = previous.and_then(|picker| (picker as &dyn Any).downcast_ref::<HashPicker>());
        let placed = match &self.source {
            Source::Custom(place) => Some(Placed::Custom(place(nodes))),
            Source::Ring { vnodes } => {
                let previous = match previous.and_then(|previous| previous.placed.as_ref()) {
                    Some(Placed::Ring(ring)) => Some(ring),
                    _ => None,
                };
                ring(*vnodes, nodes, previous).map(Placed::Ring)
            }
        };
        Box::new(HashPicker {
            placed,
            load_bound: self.load_bound,
            capacity: nodes.iter().map(|member| u64::from(member.node.weight)).sum(),
            load: LoadEstimate::default(),
            keyless: LeastRequest::new().picker(nodes, None),
        })
    }
}

/// The same node for the same client address.
///
/// [`ConsistentHash`] for keys made with [`KeyHash::from_ip`](crate::placement::KeyHash::from_ip), which takes an IPv6 client by its /64 and an IPv4-mapped
/// address as IPv4.
///
/// ```
/// use std::net::IpAddr;
/// use buttress::{balance::{Balance, IpHash}, cluster::{Cluster, Node}, placement::KeyHash};
/// use tower::service_fn;
///
/// # fn main() -> Result<(), buttress::cluster::ClusterError> {
/// let whoami = service_fn(|client: IpAddr| async move { Ok::<_, std::io::Error>(client) });
/// let cluster = Cluster::new([(Node::new("a"), whoami), (Node::new("b"), whoami)])?;
/// let balance = Balance::new(cluster, IpHash::new()).key(|client: &IpAddr| Some(KeyHash::from_ip(*client)));
/// # let _ = balance;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct IpHash(ConsistentHash);

impl IpHash {
    /// Places addresses on a ring.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Policy for IpHash {
    fn picker(&self, nodes: &Nodes, previous: Option<&dyn Picker>) -> Box<dyn Picker> {
        self.0.picker(nodes, previous)
    }
}

#[derive(Debug)]
struct HashPicker {
    /// `None` if there are more nodes than a ring can hold.
    placed: Option<Placed>,
    load_bound: Option<u64>,
    capacity: u64,
    load: LoadEstimate,
    keyless: Box<dyn Picker>,
}

#[derive(Debug)]
enum Placed {
    Ring(Ring),
    Custom(Box<dyn Placement>),
}

impl Placed {
    fn get(&self) -> &dyn Placement {
        match self {
            Self::Ring(ring) => ring,
            Self::Custom(placement) => &**placement,
        }
    }
}

/// The ring of these nodes, built on from the previous one where that has the virtual nodes asked for.
fn ring(mut vnodes: u32, nodes: &Nodes, previous: Option<&Ring>) -> Option<Ring> {
    let list = || nodes.iter().map(|member| (&member.node.id, u32::from(member.node.weight)));
    loop {
        let built = match previous {
            Some(previous) if previous.vnodes() == vnodes => previous.rebuild(list()),
            _ => Ring::builder().vnodes(vnodes).build(list()),
        };
        match built {
            Err(PlacementError::TooManyPoints { .. }) if vnodes > 1 => vnodes /= 2,
            built => return built.ok(),
        }
    }
}

impl Picker for HashPicker {
    fn pick(&self, nodes: &Nodes, cx: &mut PickCx<'_>) -> Option<usize> {
        let (Some(key), Some(placed)) = (cx.key, &self.placed) else { return self.keyless.pick(nodes, cx) };
        let placement = placed.get();
        let within_bound = |index: usize| {
            let Some(bound) = self.load_bound else { return true };
            let member = &nodes[index];
            let in_flight = u64::from(member.state.in_flight());
            if in_flight == 0 {
                return true;
            }
            // ceil(bound · (in flight + this one) · weight / capacity), and at least one.
            let allowed =
                u128::from(bound) * u128::from(self.load.total(nodes) + 1) * u128::from(member.node.weight);
            let allowed = allowed.div_ceil(100 * u128::from(self.capacity.max(1)));
            u128::from(in_flight) < allowed
        };
        let can_take = |index: usize| nodes.get(index).is_some_and(|member| cx.can_take(member));
        if let Some(home) = placement.locate(key)
            && can_take(home)
            && within_bound(home)
        {
            return Some(home);
        }
        let (mut chosen, mut first) = (None, None);
        placement.walk(key, &mut |index| {
            if can_take(index) {
                first = first.or(Some(index));
                chosen = within_bound(index).then_some(index);
            }
            chosen.is_none()
        });
        // All at their bound, which the sum being a little old makes possible; or none placed at all.
        chosen.or(first).or_else(|| self.keyless.pick(nodes, cx))
    }
}

/// What a group of nodes has in flight, to within a few requests: the sum is taken anew every so often.
#[derive(Debug, Default)]
struct LoadEstimate {
    /// Looks until the next sum.
    left: AtomicU64,
    total: AtomicU64,
}

impl LoadEstimate {
    fn total(&self, nodes: &Nodes) -> u64 {
        let left = self.left.load(Relaxed);
        if left > 0 {
            // Lossy between threads: the sum is then taken a little earlier or later.
            self.left.store(left - 1, Relaxed);
            return self.total.load(Relaxed);
        }
        let total = nodes.iter().map(|member| u64::from(member.state.in_flight())).sum();
        self.total.store(total, Relaxed);
        self.left.store(nodes.len() as u64 / 16, Relaxed);
        total
    }
}
