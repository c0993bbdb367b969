//! Least response time: the node that is likely to answer first.

use super::sample::{cheapest_of_all, cheapest_of_some};
use crate::{
    balance::{Nodes, PickCx, Picker, Policy},
    cluster::cost,
};

/// The node that is likely to answer first: the default choice.
#[derive(Clone, Copy, Debug, Default)]
pub struct LeastResponseTime;

impl Policy for LeastResponseTime {
    fn picker(&self, _: &Nodes, _: Option<&dyn Picker>) -> Box<dyn Picker> {
        Box::new(Self)
    }

    fn observes_latency(&self) -> bool {
        true
    }
}

impl Picker for LeastResponseTime {
    fn pick(&self, nodes: &Nodes, cx: &mut PickCx<'_>) -> Option<usize> {
        let now = cx.stamp(nodes);
        let c = |_: &PickCx<'_>, _, member: &crate::cluster::Member| {
            cost(member.state.latency_cell(), member.state.in_flight(), now, 0.001)
        };
        if nodes.len() <= 64 { cheapest_of_all(nodes, cx, c) } else { cheapest_of_some(nodes, cx, 8, c) }
    }
}
