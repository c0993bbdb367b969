//! Smooth weighted round robin, as a proportionate-fair schedule.

use std::{
    any::Any,
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, VecDeque},
    fmt,
    sync::{Mutex, PoisonError},
};

use crate::{
    balance::{Nodes, PickCx, Picker, Policy, any_eligible},
    rng::Rng,
};

/// Each node as often as its weight says, spread as evenly as can be.
///
/// Reach for it when capacities are known and fixed. Of the first k picks a node of weight w among a total of W gets
/// k·w/W, give or take less than one, for every k: there are no bursts to heavy nodes, and light ones do not wait for
/// the end of a round. Requests that [belong](crate::balance::Affinity) to a node take its next turns, up to eight ahead: so
/// clients that are pinned to a node do not come on top of its share. The first pick is random by weight, so that clients which start together do not all begin with
/// the heaviest; a change of membership goes on where the schedule stood.
///
/// O(log c) for c different weights, under a lock held for some 50 ns. Source: Baruah, Cohen, Plaxton, Varvel,
/// "Proportionate progress", 1996 (each pick has a window, and the earliest deadline among open windows goes first).
#[derive(Clone, Copy, Debug, Default)]
pub struct WeightedRoundRobin;

impl Policy for WeightedRoundRobin {
    fn picker(&self, nodes: &Nodes, previous: Option<&dyn Picker>) -> Box<dyn Picker> {
        let previous = previous.and_then(|picker| (picker as &dyn Any).downcast_ref::<Weighted>());
        let mut rng = Rng::from_thread();
        let offsets = previous.map(|previous| previous.offsets(nodes, &mut rng));
        let weights: Vec<u16> = nodes.iter().map(|member| member.node.weight).collect();
        let slots = nodes.iter().map(|member| member.slot()).collect();
        Box::new(Weighted {
            schedule: Mutex::new(Schedule::new(&weights, offsets.as_deref(), &mut rng)),
            slots,
        })
    }
}

struct Weighted {
    schedule: Mutex<Schedule>,
    /// The slot of each node, to find it again in the next set.
    slots: Vec<usize>,
}

impl Weighted {
    /// How far each of `nodes` is through its period; newcomers at a random point.
    fn offsets(&self, nodes: &Nodes, rng: &mut Rng) -> Vec<f64> {
        let mut by_slot = vec![None; nodes.slots()];
        let schedule = self.schedule.lock().unwrap_or_else(PoisonError::into_inner);
        for (node, offset) in schedule.offsets() {
            if let Some(known) = by_slot.get_mut(self.slots[node]) {
                *known = Some(offset);
            }
        }
        drop(schedule);
        nodes.iter().map(|member| by_slot[member.slot()].unwrap_or_else(|| rng.unit())).collect()
    }
}

impl fmt::Debug for Weighted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Weighted").field("nodes", &self.slots.len()).finish_non_exhaustive()
    }
}

impl Picker for Weighted {
    fn pick(&self, nodes: &Nodes, cx: &mut PickCx<'_>) -> Option<usize> {
        let mut schedule = self.schedule.lock().unwrap_or_else(PoisonError::into_inner);
        let next = loop {
            match schedule.next(|node| cx.can_take(&nodes[node])) {
                Some(node) if schedule.is_settled(node) => {}
                next => break next,
            }
        };
        drop(schedule);
        // A node may have come up after it was asked.
        next.or_else(|| any_eligible(nodes, cx))
    }

    fn charge(&self, index: usize) {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner).charge(index);
    }
}

/// How many turns can be taken ahead. With no bound, a node that many clients are pinned to would be left out for as long
/// again once they are gone.
const AHEAD: u8 = 8;

/// The schedule: pure, over indices and weights. Time is the number of picks made.
///
/// The k-th pick of a node of weight w has the window from (k-1)·W/w to k·W/w. Among nodes whose window is open, the one
/// that closes first is next; with whole deadlines every window is met (the theorem of the paper above).
#[derive(Debug)]
struct Schedule {
    total: u64,
    time: u64,
    /// Nodes of one weight share a queue: their windows are equally long, so they open and close in the same order.
    classes: Vec<Class>,
    /// Classes whose first window is not open yet, by when it opens.
    pending: BinaryHeap<Reverse<(u64, usize)>>,
    /// Classes whose first window is open, by when it closes.
    open: BinaryHeap<Reverse<(u64, usize)>>,
    /// The node that goes first, if it can.
    first: Option<(usize, usize)>,
    passed_over: Vec<(usize, Turn)>,
    /// How many turns each node has taken ahead.
    ahead: Vec<u8>,
}

#[derive(Debug)]
struct Class {
    weight: u64,
    turns: VecDeque<Turn>,
}

/// A node's next window: it opens at `start + part / weight`.
#[derive(Clone, Copy, Debug)]
struct Turn {
    node: usize,
    start: u64,
    part: u64,
}

impl Turn {
    fn after(self, weight: u64, total: u64) -> Self {
        let part = self.part + total % weight;
        let carry = u64::from(part >= weight);
        Self { node: self.node, start: self.start + total / weight + carry, part: part - carry * weight }
    }
}

impl Schedule {
    /// A schedule for nodes `0..weights.len()`, which begins `offsets` of a period before each node's window opens.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "offsets are within a few periods, and periods below 2^36"
    )]
    fn new(weights: &[u16], offsets: Option<&[f64]>, rng: &mut Rng) -> Self {
        let total: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
        let mut classes = BTreeMap::<u16, Vec<Turn>>::new();
        // Far enough from zero for windows that opened before now.
        let time = if offsets.is_some() { total * 4 } else { 0 };
        for (node, &weight) in weights.iter().enumerate().filter(|(_, weight)| **weight > 0) {
            let period = total as f64 / f64::from(weight);
            let offset = offsets.map_or(0.0, |offsets| offsets[node].clamp(-2.0, 2.0));
            let start = (time as f64 + offset * period).max(0.0);
            let part = ((start - start.floor()) * f64::from(weight)) as u64;
            let turn = Turn { node, start: start as u64, part: part.min(u64::from(weight) - 1) };
            classes.entry(weight).or_default().push(turn);
        }
        let classes: Vec<Class> = classes
            .into_iter()
            .map(|(weight, mut turns)| {
                rng.shuffle(&mut turns);
                turns.sort_by_key(|turn| (turn.start, turn.part));
                Class { weight: u64::from(weight), turns: turns.into() }
            })
            .collect();
        let mut schedule = Self {
            total,
            time,
            pending: BinaryHeap::with_capacity(classes.len()),
            open: BinaryHeap::with_capacity(classes.len()),
            classes,
            first: None,
            passed_over: Vec::new(),
            ahead: vec![0; weights.len()],
        };
        if offsets.is_none() {
            schedule.first = schedule.draw_first(rng);
        }
        for class in 0..schedule.classes.len() {
            schedule.enqueue(class);
        }
        schedule
    }

    /// A class and a place in it, each node as likely as its weight says.
    fn draw_first(&self, rng: &mut Rng) -> Option<(usize, usize)> {
        let mut draw = rng.next_u64() % self.total.max(1);
        for (index, class) in self.classes.iter().enumerate() {
            let share = class.weight * class.turns.len() as u64;
            if draw < share {
                return Some((index, usize::try_from(draw / class.weight).ok()?));
            }
            draw -= share;
        }
        None
    }

    /// Lets a node take a turn ahead.
    fn charge(&mut self, node: usize) {
        if let Some(ahead) = self.ahead.get_mut(node) {
            *ahead = AHEAD.min(*ahead + 1);
        }
    }

    /// Whether the turn that a node has now is one that it took ahead.
    fn is_settled(&mut self, node: usize) -> bool {
        let left = self.ahead[node].checked_sub(1);
        self.ahead[node] = left.unwrap_or(0);
        left.is_some()
    }

    /// The next node for which `can_take` holds. Each node is asked at most once.
    fn next(&mut self, mut can_take: impl FnMut(usize) -> bool) -> Option<usize> {
        if let Some((class, place)) = self.first.take() {
            // Any node may go first without another missing its window.
            let turn = self.classes[class].turns[place];
            if can_take(turn.node) {
                if place == 0 {
                    self.forget(class);
                }
                self.classes[class].turns.remove(place);
                self.requeue(class, turn, place == 0);
                return Some(turn.node);
            }
        }
        let chosen = loop {
            let Some(class) = self.next_class() else { break None };
            let Some(turn) = self.classes[class].turns.pop_front() else { continue };
            if can_take(turn.node) {
                self.requeue(class, turn, true);
                break Some(turn.node);
            }
            self.passed_over.push((class, turn));
            self.enqueue(class);
        };
        // A node that could not take its turn loses it: it does not save turns up for its return.
        while let Some((class, turn)) = self.passed_over.pop() {
            let Class { weight, turns } = &mut self.classes[class];
            let mut turn = turn.after(*weight, self.total);
            let least =
                turns.back().map_or((self.time, 0), |last| (last.start, last.part).max((self.time, 0)));
            (turn.start, turn.part) = (turn.start, turn.part).max(least);
            turns.push_back(turn);
            if turns.len() == 1 {
                self.enqueue(class);
            }
        }
        chosen
    }

    /// Counts a pick and puts the node at the end of its queue.
    fn requeue(&mut self, class: usize, turn: Turn, was_front: bool) {
        self.time += 1;
        let Class { weight, turns } = &mut self.classes[class];
        turns.push_back(turn.after(*weight, self.total));
        if was_front {
            self.enqueue(class);
        }
    }

    /// The class whose first window is to be served, taken out of the heaps.
    fn next_class(&mut self) -> Option<usize> {
        while let Some(&Reverse((start, class))) = self.pending.peek() {
            if start > self.time {
                break;
            }
            self.pending.pop();
            let closes = self.closes(class);
            self.open.push(Reverse((closes, class)));
        }
        if let Some(Reverse((_, class))) = self.open.pop() {
            return Some(class);
        }
        // Some nodes cannot take their turns: time moves on to the next window, so that nobody falls behind it.
        let Reverse((start, class)) = self.pending.pop()?;
        self.time = start;
        Some(class)
    }

    fn closes(&self, class: usize) -> u64 {
        let Class { weight, turns } = &self.classes[class];
        turns.front().map_or(u64::MAX, |turn| {
            let end = turn.after(*weight, self.total);
            end.start + u64::from(end.part > 0)
        })
    }

    fn enqueue(&mut self, class: usize) {
        if let Some(turn) = self.classes[class].turns.front() {
            self.pending.push(Reverse((turn.start, class)));
        }
    }

    fn forget(&mut self, class: usize) {
        self.pending.retain(|Reverse((_, other))| *other != class);
        self.open.retain(|Reverse((_, other))| *other != class);
    }

    /// Where each node stands: how many of its periods from now its next window opens.
    fn offsets(&self) -> impl Iterator<Item = (usize, f64)> {
        self.classes.iter().flat_map(move |class| {
            class.turns.iter().map(move |turn| {
                let start = turn.start as f64 + turn.part as f64 / class.weight as f64;
                (turn.node, (start - self.time as f64) * class.weight as f64 / self.total as f64)
            })
        })
    }
}
