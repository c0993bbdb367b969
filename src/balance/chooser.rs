//! From a cluster to one node: priorities, zones and panic first, then the policy.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{NoNode, Nodes, PickCx, Picker, Policy};
use crate::{
    cluster::{Admin, Cluster, Endpoint, LoadGuard, Member, Node, NodeId, Permit, Version},
    rng::Rng,
};

/// How priorities and zones divide the traffic.
///
/// Nodes of priority 0 take everything while they have the capacity. Each loss beyond what `overprovisioning` allows
/// for moves its share to the next priority. Within a priority, nodes of the own zone take the traffic that begins in
/// it; when they are too few for that, the rest spills over to the other zones by capacity. When all priorities together
/// have too few healthy nodes and fewer than `panic` of a priority's are healthy, it ignores health: the few left would
/// break under the load. Capacity is counted in weights. Nodes that told a check that they drain are no capacity, neither
/// healthy nor lost: only where all that are left do so, that is panic too, and they are used.
///
/// The arithmetic is Envoy's (priority levels with an overprovisioning factor, panic threshold, zone-aware routing).
#[derive(Clone, Debug)]
#[must_use]
pub struct Levels {
    zone: Option<Arc<str>>,
    overprovisioning: u64,
    panic: u64,
}

impl Default for Levels {
    fn default() -> Self {
        Self { zone: None, overprovisioning: 140, panic: 50 }
    }
}

impl Levels {
    /// Prefers nodes of this zone.
    ///
    /// Requests are taken to begin evenly in all zones that have nodes: with three zones, this one's nodes take
    /// everything while they are a third of the healthy capacity.
    pub fn zone(mut self, zone: impl Into<Arc<str>>) -> Self {
        self.zone = Some(zone.into());
        self
    }

    /// Sets the percentage of its healthy capacity that a priority is trusted with (default: 140). With 140, the next
    /// priority gets traffic when fewer than 100 / 1.4 ≈ 71 % of this one are healthy.
    pub fn overprovisioning(mut self, percent: u32) -> Self {
        self.overprovisioning = u64::from(percent.max(1));
        self
    }

    /// Sets below which percentage of healthy capacity health is ignored (default: 50). 0 never does.
    pub fn panic(mut self, percent: u32) -> Self {
        self.panic = u64::from(percent.min(100));
        self
    }
}

/// A version of the cluster with the pickers that were built for it.
pub(super) struct Chooser<S> {
    version: Arc<Version<S>>,
    /// In the order of priority.
    tiers: Vec<Tier>,
    levels: Levels,
    /// The epoch of health that the groups' capacity was counted in.
    counted: AtomicU64,
    counting: Mutex<()>,
}

/// The active nodes of one priority.
#[derive(Debug)]
struct Tier {
    priority: u8,
    /// The own zone's nodes, if zones matter, and the others. One of them at least is there.
    groups: [Option<Group>; 2],
    zones: u64,
}

/// Nodes that are chosen among by one picker.
#[derive(Debug)]
struct Group {
    nodes: Nodes,
    /// Where each of the nodes is in the version.
    endpoints: Vec<u32>,
    picker: Box<dyn Picker>,
    /// The weight of all nodes, of those that do not drain, and of those that take traffic. The latter two follow their
    /// health.
    weight: u64,
    capacity: AtomicU64,
    usable: AtomicU64,
}

impl<S> fmt::Debug for Chooser<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chooser")
            .field("tiers", &self.tiers)
            .field("levels", &self.levels)
            .finish_non_exhaustive()
    }
}

impl<S> Chooser<S> {
    /// Builds the pickers for the cluster as it is now; they go on where those of `previous` stand.
    pub(super) fn new(
        cluster: &Cluster<S>,
        policy: &dyn Policy,
        levels: &Levels,
        previous: Option<&Self>,
    ) -> Self {
        let version = cluster.load();
        let mut tiers: Vec<(u8, [Vec<u32>; 2])> = Vec::new();
        for (index, member) in
            (0_u32..).zip(version.iter()).filter(|(_, member)| member.node.takes_new_picks())
        {
            let priority = member.node.priority;
            let at = tiers.binary_search_by_key(&priority, |(priority, _)| *priority).unwrap_or_else(|at| {
                tiers.insert(at, (priority, [Vec::new(), Vec::new()]));
                at
            });
            let elsewhere = levels.zone.is_some() && levels.zone != member.node.zone;
            tiers[at].1[usize::from(elsewhere)].push(index);
        }
        let tiers = tiers
            .into_iter()
            .map(|(priority, groups)| {
                let zones =
                    if levels.zone.is_some() { count_zones(&version, groups.iter().flatten()) } else { 1 };
                let before =
                    previous.and_then(|before| before.tiers.iter().find(|tier| tier.priority == priority));
                let mut side = 0;
                let groups = groups.map(|indices| {
                    let before = before.and_then(|tier| tier.groups[side].as_ref());
                    side += 1;
                    (!indices.is_empty()).then(|| {
                        let members = indices
                            .iter()
                            .map(|&index| Arc::clone(&version.endpoints()[index as usize].member));
                        let nodes = Nodes::new(members.collect(), cluster.origin());
                        let picker = policy.picker(&nodes, before.map(|group| &*group.picker));
                        let weight = weigh(&nodes, |_| true);
                        let (capacity, usable) = Default::default();
                        Group { nodes, endpoints: indices, picker, weight, capacity, usable }
                    })
                });
                Tier { priority, groups, zones }
            })
            .collect();
        let chooser = Self {
            version,
            tiers,
            levels: levels.clone(),
            // An epoch that never was, so that the first pick counts anew.
            counted: AtomicU64::new(u64::MAX),
            counting: Mutex::new(()),
        };
        // Before that, requests that wait ask whether there is panic.
        chooser.count_capacity();
        chooser
    }

    pub(super) fn generation(&self) -> u64 {
        self.version.generation()
    }

    /// The node for one request. `epoch` is the cluster's epoch of health.
    #[inline]
    pub(super) fn choose(&self, cx: &mut PickCx<'_>, epoch: u64) -> Option<&Endpoint<S>> {
        if self.counted.load(Ordering::Relaxed) != epoch {
            self.count(epoch);
        }
        if let [tier @ Tier { groups: [Some(group), None], .. }] = &*self.tiers {
            cx.set_panic(self.is_in_panic(tier, self.health(tier)));
            return self.pick(group, cx);
        }
        self.choose_among_tiers(cx)
    }

    fn choose_among_tiers(&self, cx: &mut PickCx<'_>) -> Option<&Endpoint<S>> {
        // A key keeps to its tier and zone as long as the shares stay.
        let mut point = cx.key.map_or_else(|| cx.rng.next_u64(), |key| spread(key.get()));
        let total = self.total_health();
        let health = self.tiers.iter().map(|tier| self.health(tier));
        let chosen = choose_tier(health, total, draw(&mut point, 100));
        // The chosen tier first, then all in order: a pick fails only if no node of any can take the request.
        let order = std::iter::once(chosen).chain((0..self.tiers.len()).filter(|&tier| tier != chosen));
        for tier in order.filter_map(|tier| self.tiers.get(tier)) {
            let panic = self.is_in_panic(tier, total);
            cx.set_panic(panic);
            let [own, other] = &tier.groups;
            let stays = draw(&mut point, 1000) < tier.own_share(panic);
            let groups = if stays { [own, other] } else { [other, own] };
            for group in groups.into_iter().flatten() {
                if let Some(endpoint) = self.pick(group, cx) {
                    return Some(endpoint);
                }
            }
        }
        None
    }

    /// The node with this id, if it can take the request: draining ones can.
    pub(super) fn choose_pinned(&self, id: &NodeId, cx: &mut PickCx<'_>, epoch: u64) -> Option<&Endpoint<S>> {
        if self.counted.load(Ordering::Relaxed) != epoch {
            self.count(epoch);
        }
        let endpoint = self.version.get(id)?;
        let Member { node, state, .. } = &*endpoint.member;
        cx.set_panic(self.ignores_health(&endpoint.member));
        let is_fit = node.admin != Admin::Down && (state.is_fit() || cx.in_panic());
        (is_fit && !state.is_full() && !cx.was_tried(&endpoint.member)).then_some(&**endpoint)
    }

    /// Tells the picker that is in charge of a node of a request that went there past it.
    pub(super) fn charge(&self, member: &Member) {
        let Node { id, priority, .. } = &member.node;
        let Some(tier) = self.tiers.iter().find(|tier| tier.priority == *priority) else { return };
        for group in tier.groups.iter().flatten() {
            let nodes = group.nodes.iter().as_slice();
            if let Ok(index) = nodes.binary_search_by(|other| other.node.id.cmp(id)) {
                return group.picker.charge(index);
            }
        }
    }

    /// The node that a permit is for, unless it has left.
    pub(super) fn endpoint_of(&self, permit: &Permit) -> Option<&Endpoint<S>> {
        let endpoint = self.version.get(&permit.node)?;
        Arc::ptr_eq(&endpoint.member.state, &permit.state).then_some(&**endpoint)
    }

    pub(super) fn get(&self, id: &NodeId) -> Option<&Member> {
        self.version.get(id).map(|endpoint| &*endpoint.member)
    }

    /// Whether [`choose`](Self::choose) would find a node: the policies' contract is to find one if there is any.
    pub(super) fn could_choose(&self, cx: &mut PickCx<'_>, epoch: u64) -> bool {
        if self.counted.load(Ordering::Relaxed) != epoch {
            self.count(epoch);
        }
        let total = self.total_health();
        self.tiers.iter().any(|tier| {
            cx.set_panic(self.is_in_panic(tier, total));
            tier.groups.iter().flatten().any(|group| group.nodes.iter().any(|member| cx.can_take(member)))
        })
    }

    #[inline]
    fn pick(&self, group: &Group, cx: &mut PickCx<'_>) -> Option<&Endpoint<S>> {
        let index =
            if cx.minds_ramps() { group.pick_gently(cx)? } else { group.picker.pick(&group.nodes, cx)? };
        let endpoint = *group.endpoints.get(index)?;
        Some(&self.version.endpoints()[endpoint as usize])
    }

    /// The percentage of all traffic that a tier is healthy enough for.
    #[inline]
    fn health(&self, tier: &Tier) -> u64 {
        let (usable, capacity) = (tier.usable(), tier.capacity());
        if usable == capacity { 100 } else { (usable * self.levels.overprovisioning / capacity).min(100) }
    }

    fn total_health(&self) -> u64 {
        self.tiers.iter().map(|tier| self.health(tier)).sum::<u64>().min(100)
    }

    #[inline]
    fn is_in_panic(&self, tier: &Tier, total_health: u64) -> bool {
        total_health < 100 && tier.usable() * 100 < tier.capacity() * self.levels.panic
    }

    /// Counts the capacity anew, unless another thread is at it.
    #[cold]
    fn count(&self, epoch: u64) {
        // Of two counts at once, the older could overwrite the newer.
        let Ok(_alone) = self.counting.try_lock() else { return };
        // Before the count: a change during it is then counted again.
        self.counted.store(epoch, Ordering::Relaxed);
        self.count_capacity();
    }

    /// Counts the capacity anew, after any count that is under way.
    pub(super) fn recount(&self) {
        let _alone = self.counting.lock().unwrap_or_else(PoisonError::into_inner);
        self.count_capacity();
    }

    fn count_capacity(&self) {
        for group in self.tiers.iter().flat_map(|tier| tier.groups.iter().flatten()) {
            let capacity = weigh(&group.nodes, |member| !member.state.is_draining());
            let usable = weigh(&group.nodes, |member| member.state.is_usable());
            group.capacity.store(capacity, Ordering::Relaxed);
            group.usable.store(usable, Ordering::Relaxed);
        }
    }

    /// Why nothing could be chosen.
    pub(super) fn explain(&self, cx: &PickCx<'_>) -> NoNode {
        let mut why = NoNode::default();
        for member in self.version.iter() {
            let is_inactive = !member.node.takes_new_picks();
            self.count_out(member, is_inactive, member.state.is_usable(), cx, &mut why);
        }
        why
    }

    /// Why the one node that was asked for could not be chosen.
    #[cold]
    pub(super) fn explain_pinned(&self, id: &NodeId, cx: &PickCx<'_>) -> NoNode {
        let mut why = NoNode { is_pinned: true, ..NoNode::default() };
        if let Some(endpoint) = self.version.get(id) {
            let Member { node, state, .. } = &*endpoint.member;
            self.count_out(&endpoint.member, node.admin == Admin::Down, state.is_fit(), cx, &mut why);
        }
        why
    }

    fn count_out(
        &self,
        member: &Member,
        is_inactive: bool,
        is_well: bool,
        cx: &PickCx<'_>,
        why: &mut NoNode,
    ) {
        // A node that is down stays so when it has less to do: it is full only where health is ignored.
        let may_be_used = || is_well || self.ignores_health(member);
        let count = if is_inactive {
            &mut why.inactive
        } else if cx.was_tried(member) {
            &mut why.tried
        } else if member.state.is_full() && may_be_used() {
            &mut why.full
        } else {
            &mut why.unhealthy
        };
        *count += 1;
    }

    /// Whether the node that a request was counted in on is as it was then, and not lost since.
    pub(super) fn is_current(&self, guard: &LoadGuard) -> bool {
        let member = guard.member();
        let known = self.version.get(&member.node.id).map(|endpoint| &*endpoint.member);
        known.is_some_and(|known| std::ptr::eq(known, member))
            && (guard.may_wait() || self.ignores_health(member))
    }

    /// Whether the node's priority is in panic.
    pub(super) fn ignores_health(&self, member: &Member) -> bool {
        let tier = self.tiers.iter().find(|tier| tier.priority == member.node.priority);
        tier.is_some_and(|tier| self.is_in_panic(tier, self.total_health()))
    }
}

impl Group {
    /// As the picker does, but spares nodes that have not warmed up yet.
    #[cold]
    fn pick_gently(&self, cx: &mut PickCx<'_>) -> Option<usize> {
        let nodes = &self.nodes;
        let now = cx.nanos_since(nodes.origin());
        if let Some(fed) = self.feed(cx, now) {
            return Some(fed);
        }
        let chosen = self.picker.pick(nodes, cx)?;
        let Some(ramp) = nodes.get(chosen)?.state.ramp(now) else { return Some(chosen) };
        let is_admitted = match cx.key {
            // The same keys from the first one on, and in every process.
            Some(key) => Rng::seeded(!key.get()).unit() < ramp.share,
            // The other part it was fed.
            None => cx.rng.unit() < ramp.share - ramp.floor,
        };
        if is_admitted {
            return Some(chosen);
        }
        cx.spare_at(Some(now));
        let other = self.picker.pick(nodes, cx);
        cx.spare_at(None);
        // Where nobody has warmed up, the policy's choice stands.
        other.or(Some(chosen))
    }

    /// A node that has not warmed up, as often as its least share says: the policy might never choose it. Requests with
    /// keys stay out of it, and so do retries.
    fn feed(&self, cx: &mut PickCx<'_>, now: u64) -> Option<usize> {
        if cx.key.is_some() || !cx.is_open() {
            return None;
        }
        let (index, point) = (cx.rng.below(self.nodes.len()), cx.rng.unit());
        let member = self.nodes.get(index)?;
        let ramp = member.state.ramp(now)?;
        let times_even = f64::from(member.node.weight) * self.nodes.len() as f64 / self.weight as f64;
        (point < ramp.floor * times_even && cx.can_take(member)).then_some(index)
    }
}

impl Tier {
    /// At least 1, so that a tier whose nodes all drain has no health.
    fn capacity(&self) -> u64 {
        let groups = self.groups.iter().flatten();
        groups.map(|group| group.capacity.load(Ordering::Relaxed)).sum::<u64>().max(1)
    }

    fn usable(&self) -> u64 {
        self.groups.iter().flatten().map(|group| group.usable.load(Ordering::Relaxed)).sum()
    }

    /// How many of 1000 requests stay in the own zone.
    fn own_share(&self, panic: bool) -> u64 {
        let part = |group: &Option<Group>| {
            group
                .as_ref()
                .map_or(0, |group| if panic { group.weight } else { group.usable.load(Ordering::Relaxed) })
        };
        let [own, other] = [part(&self.groups[0]), part(&self.groups[1])];
        // Requests begin in this zone for 1 / zones of all; its nodes can serve own / (own + other) of all.
        (own * self.zones * 1000 / (own + other).max(1)).min(1000)
    }
}

/// The tier that a point below 100 falls to. Each takes the share that it is healthy enough for; what no tier is healthy
/// enough for is divided by health, and a remainder goes to the first that has a share.
fn choose_tier(health: impl Iterator<Item = u64>, total: u64, mut point: u64) -> usize {
    let mut left = 100;
    let shares = health.map(|health| {
        let share = (health * 100).checked_div(total).unwrap_or(0).min(left);
        left -= share;
        share
    });
    let mut heir = None;
    for (tier, share) in shares.enumerate() {
        if point < share {
            return tier;
        }
        point -= share;
        if share > 0 {
            heir = heir.or(Some(tier));
        }
    }
    heir.unwrap_or(0)
}

/// A number below `bound` from a uniform point, which is uniform again afterwards.
fn draw(point: &mut u64, bound: u64) -> u64 {
    let product = u128::from(*point) * u128::from(bound);
    #[allow(clippy::cast_possible_truncation, reason = "the two halves of the product")]
    let (high, low) = ((product >> 64) as u64, product as u64);
    *point = low;
    high
}

/// Mixes a key's bits anew, so that the choice of tier says nothing about the place on a ring.
fn spread(key: u64) -> u64 {
    Rng::seeded(key).next_u64()
}

fn weigh(nodes: &Nodes, counts: impl Fn(&Member) -> bool) -> u64 {
    nodes.iter().filter(|member| counts(member)).map(|member| u64::from(member.node.weight)).sum()
}

fn count_zones<'a, S>(version: &Version<S>, indices: impl Iterator<Item = &'a u32>) -> u64 {
    let mut zones: Vec<_> =
        indices.map(|&index| version.endpoints()[index as usize].member.node.zone.as_deref()).collect();
    zones.sort_unstable();
    zones.dedup();
    zones.len() as u64
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prop_assert, prop_assert_eq, proptest};

    use super::*;

    fn shares(health: &[u64]) -> Vec<u64> {
        let total = health.iter().sum::<u64>().min(100);
        let mut shares = vec![0; health.len()];
        for point in 0..100 {
            shares[choose_tier(health.iter().copied(), total, point)] += 1;
        }
        shares
    }

    #[test]
    fn priorities_share_as_in_envoys_table() {
        let table: [(&[u64], &[u64]); 10] = [
            (&[100], &[100]),
            (&[100, 100], &[100, 0]),
            (&[70, 100], &[70, 30]),
            (&[35, 100], &[35, 65]),
            (&[0, 100], &[0, 100]),
            (&[100, 0], &[100, 0]),
            (&[70, 20, 100], &[70, 20, 10]),
            // Together they have a half of what is needed.
            (&[25, 25], &[50, 50]),
            (&[20, 20, 20], &[34, 33, 33]),
            (&[0, 0], &[100, 0]),
        ];
        for (health, expected) in table {
            assert_eq!(shares(health), expected, "{health:?}");
        }
    }

    proptest! {
        #[test]
        fn shares_of_priorities_are_all_of_the_traffic(health in vec(0..=100_u64, 1..8)) {
            let shares = shares(&health);
            prop_assert_eq!(shares.iter().sum::<u64>(), 100);
            let total = health.iter().sum::<u64>().min(100);
            let mut left = 100;
            let mut has_heir = false;
            for (share, health) in shares.into_iter().zip(health) {
                let due = (health * 100).checked_div(total).unwrap_or(0).min(left);
                left -= due;
                if total > 0 && due > 0 && !has_heir {
                    has_heir = true;
                    // The remainder of a division into at most eight.
                    prop_assert!((due..due + 8).contains(&share), "{} of {}", share, due);
                } else if total > 0 {
                    prop_assert_eq!(share, due);
                }
            }
        }
    }
}
