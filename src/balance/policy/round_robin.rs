//! Round robin: each node in turn.

use std::{
    any::Any,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use crate::{
    balance::{Nodes, PickCx, Picker, Policy, any_eligible},
    rng::Rng,
};

/// Each node in turn, whatever its weight, passing over those that cannot take the request.
///
/// Reach for it when nodes are alike and requests cost about the same; where they differ, a slow node gathers a queue
/// that [`LeastResponseTime`](super::LeastResponseTime) would have kept short. The order is random, so that clients
/// which start together do not march in step, and it outlives changes of membership: a change never starts the round
/// anew. O(1), lock-free.
#[derive(Clone, Copy, Debug, Default)]
pub struct RoundRobin;

impl Policy for RoundRobin {
    fn picker(&self, nodes: &Nodes, previous: Option<&dyn Picker>) -> Box<dyn Picker> {
        let previous = previous.and_then(|picker| (picker as &dyn Any).downcast_ref::<Turns>());
        Box::new(Turns::new(nodes, previous, &mut Rng::from_thread()))
    }
}

/// A fixed order of the nodes, and whose turn it is.
#[derive(Debug)]
struct Turns {
    order: Vec<u32>,
    slots: Vec<usize>,
    next: AtomicUsize,
}

impl Turns {
    /// Nodes that were there before keep their order and their turn; newcomers are put in at random.
    fn new(nodes: &Nodes, previous: Option<&Self>, rng: &mut Rng) -> Self {
        let mut newcomers = vec![None; nodes.slots()];
        for (index, member) in (0_u32..).zip(nodes) {
            newcomers[member.slot()] = Some(index);
        }
        let mut order = Vec::with_capacity(nodes.len());
        if let Some(previous) = previous {
            let turn = previous.next.load(Relaxed) % previous.slots.len().max(1);
            let (done, ahead) = previous.slots.split_at(turn);
            let staying = ahead.iter().chain(done);
            order.extend(staying.filter_map(|&slot| newcomers.get_mut(slot).and_then(Option::take)));
        }
        let mut newcomers: Vec<u32> = newcomers.into_iter().flatten().collect();
        rng.shuffle(&mut newcomers);
        if order.is_empty() {
            order = newcomers;
        } else {
            order = merge(order, &newcomers, rng);
        }
        let slots = order.iter().map(|&index| nodes[index as usize].slot()).collect();
        Self { order, slots, next: AtomicUsize::new(0) }
    }
}

/// Puts each newcomer at a random place among those who wait for their turn.
fn merge(waiting: Vec<u32>, newcomers: &[u32], rng: &mut Rng) -> Vec<u32> {
    let mut places: Vec<usize> = newcomers.iter().map(|_| rng.below(waiting.len() + 1)).collect();
    places.sort_unstable();
    let mut newcomers = places.into_iter().zip(newcomers).peekable();
    let mut order = Vec::new();
    for (place, node) in waiting.into_iter().enumerate() {
        while let Some((_, &newcomer)) = newcomers.next_if(|(at, _)| *at <= place) {
            order.push(newcomer);
        }
        order.push(node);
    }
    order.extend(newcomers.map(|(_, &newcomer)| newcomer));
    order
}

impl Picker for Turns {
    fn pick(&self, nodes: &Nodes, cx: &mut PickCx<'_>) -> Option<usize> {
        // Each turn is taken by one caller, so a node that is passed over gives its turn to all, not to its neighbour.
        for _ in 0..self.order.len() {
            let turn = self.next.fetch_add(1, Relaxed) % self.order.len();
            let index = self.order[turn] as usize;
            if cx.can_take(&nodes[index]) {
                return Some(index);
            }
        }
        // Other callers took the turns of the nodes that could.
        any_eligible(nodes, cx)
    }
}
