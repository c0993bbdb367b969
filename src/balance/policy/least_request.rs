//! Least request: the node with the least to do.

use std::num::NonZeroUsize;

use super::sample::{MAX_CHOICES, cheapest_of_all, cheapest_of_some};
use crate::balance::{Nodes, PickCx, Picker, Policy};

/// By what a suspended node's load is multiplied: next to any usual node it is worse.
const SUSPENDED_LOAD: f32 = 1e9;

/// The node with the fewest requests in flight for its weight: of two random ones, of `d`, or of all.
///
/// Also known as least connections, and as the power of two choices (Mitzenmacher 2001). It needs no clock, which
/// makes it the cheapest policy that looks at load. Nodes whose speeds differ want
/// [`LeastResponseTime`](super::LeastResponseTime) or more choices than two: a slow node's queue is as short as a fast
/// one's, but lasts longer.
///
/// Ties are settled at random. A node that fails in a row is passed over for a while: failing is the fastest way to have
/// nothing in flight. O(choices), or O(n) for all.
///
/// ```
/// use buttress::balance::LeastRequest;
///
/// let two = LeastRequest::new();
/// let five = LeastRequest::of(5);
/// let all = LeastRequest::of_all();
/// # let _ = (two, five, all);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct LeastRequest {
    /// `None` looks at all.
    choices: Option<NonZeroUsize>,
}

impl LeastRequest {
    /// The less loaded of two different random nodes.
    pub const fn new() -> Self {
        Self::of(2)
    }

    /// The least loaded of `choices` different random nodes, at least 1 and at most 16.
    pub const fn of(choices: usize) -> Self {
        let choices = if choices > MAX_CHOICES { MAX_CHOICES } else { choices };
        Self {
            choices: Some(match NonZeroUsize::new(choices) {
                Some(choices) => choices,
                None => NonZeroUsize::MIN,
            }),
        }
    }

    /// The least loaded of all nodes: least connections.
    pub const fn of_all() -> Self {
        Self { choices: None }
    }
}

impl Default for LeastRequest {
    fn default() -> Self {
        Self::new()
    }
}

impl Policy for LeastRequest {
    fn picker(&self, nodes: &Nodes, _: Option<&dyn Picker>) -> Box<dyn Picker> {
        let per_weight = nodes.iter().map(|member| 1.0 / f32::from(member.node.weight.max(1))).collect();
        Box::new(LeastRequestPicker { choices: self.choices, per_weight })
    }
}

#[derive(Debug)]
struct LeastRequestPicker {
    choices: Option<NonZeroUsize>,
    per_weight: Vec<f32>,
}

impl Picker for LeastRequestPicker {
    #[inline]
    fn pick(&self, nodes: &Nodes, cx: &mut PickCx<'_>) -> Option<usize> {
        // Apart from the context, which the cost is asked of.
        let mut rng = cx.rng.clone();
        let request = &*cx;
        let cost = |index: usize| {
            let load = match nodes.states()[index].plain_load() {
                Some(in_flight) if request.is_open() => (in_flight + 1) as f32,
                _ => look_closer(nodes, request, index),
            };
            load * self.per_weight[index]
        };
        let chosen = match self.choices {
            Some(choices) => cheapest_of_some(nodes.len(), &mut rng, choices.get(), cost),
            None => cheapest_of_all(nodes.len(), &mut rng, cost),
        };
        cx.rng = rng;
        chosen
    }
}

/// What a node has to do with one more request; infinity if it cannot take the request.
#[cold]
fn look_closer(nodes: &Nodes, cx: &PickCx<'_>, index: usize) -> f32 {
    let state = &nodes.states()[index];
    match (cx.can_take_at(nodes, index), cx.is_suspended(state)) {
        (false, _) => f32::INFINITY,
        (true, false) => (state.in_flight() + 1) as f32,
        (true, true) => (state.in_flight() + 1) as f32 * SUSPENDED_LOAD,
    }
}
