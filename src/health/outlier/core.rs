//! Who is out: decided from what happened, the time and the dice, and from nothing else.
//!
//! The detector keeps a record for each node, by slot. It is told what happens, and leaves behind which nodes to mark
//! ([`take_changes`](Detector::take_changes)) and when it wants to be asked again ([`probe_at`](Detector::probe_at),
//! [`sweep_at`](Detector::sweep_at)). Times are nanoseconds.

use super::{Cause, OutlierDetection, sweep};
use crate::{
    cluster::{FailureKind, NEVER, Probe, Term, nanos},
    rng::Rng,
};

/// After what time a node is looked at again that is due but full of requests from before.
const FULL_PAUSE: u64 = 10_000_000;

/// What is asked of the nodes, by slot.
pub(super) trait Fleet {
    /// Requests sent to it so far that were not given up.
    fn sent(&self, node: usize) -> u64;

    /// How long it takes, in seconds.
    fn latency(&self, node: usize) -> Option<f32>;
}

/// A mark to set or to take away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Out, for a new term. It may be out already.
    Eject(usize, Term),
    Readmit(usize),
}

/// Decides which nodes are out.
#[derive(Debug)]
pub(super) struct Detector {
    pub(super) rules: OutlierDetection,
    rng: Rng,
    pub(super) records: Vec<Record>,
    /// The slots of the nodes that are out, members or not.
    ejected: Vec<usize>,
    tally: Tally,
    pub(super) swept_at: u64,
    probe_at: u64,
    changes: Vec<Change>,
    totals: [u64; Cause::ALL.len()],
}

/// What is known of one node.
#[derive(Debug, Default)]
pub(super) struct Record {
    /// In the cluster, active, with a weight, and not draining.
    pub(super) is_member: bool,
    /// Not down by what checks say.
    is_up: bool,
    term: Term,
    streaks: Streaks,
    window: Option<Window>,
    pub(super) census: Census,
    /// Far slower than the others when they were compared last.
    pub(super) was_slow: bool,
    /// How often the time of the next ejection is doubled, as of when it came back.
    level: u32,
    back_since: u64,
    ejection: Option<Spell>,
}

/// A time out of the traffic.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spell {
    pub(super) cause: Cause,
    pub(super) since: u64,
    /// When it failed last: as it was put out, or as a request tried it.
    failed_at: u64,
    /// From here on it is half-open.
    pub(super) until: u64,
    /// Since when a request tries it.
    pub(super) probed_since: Option<u64>,
}

/// Failures in a row.
#[derive(Debug, Default)]
struct Streaks {
    remote: u32,
    gateway: u32,
    local: u32,
}

/// The failures of an interval that begins with the first of them.
#[derive(Clone, Copy, Debug)]
struct Window {
    opened: u64,
    sent_before: u64,
    failed: u32,
}

/// What a node did since the nodes were compared last.
#[derive(Debug, Default)]
pub(super) struct Census {
    pub(super) sent_before: u64,
    pub(super) failed: u64,
    /// It was in all the time.
    pub(super) is_whole: bool,
}

/// How many members there are of each kind.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    members: usize,
    ejected: usize,
    /// Neither down nor ejected.
    usable: usize,
}

impl Tally {
    fn of(record: &Record) -> Self {
        let is_out = record.ejection.is_some();
        Self {
            members: usize::from(record.is_member),
            ejected: usize::from(record.is_member && is_out),
            usable: usize::from(record.is_member && record.is_up && !is_out),
        }
    }
}

impl Tally {
    /// Down or ejected.
    fn unusable(self) -> usize {
        self.members - self.usable
    }
}

impl Detector {
    pub(super) fn new(rules: OutlierDetection, rng: Rng, now: u64) -> Self {
        Self {
            rules,
            rng,
            records: Vec::new(),
            ejected: Vec::new(),
            tally: Tally::default(),
            swept_at: now,
            probe_at: NEVER,
            changes: Vec::new(),
            totals: [0; Cause::ALL.len()],
        }
    }

    // Membership and checks.

    /// Makes room for so many slots.
    pub(super) fn reserve(&mut self, slots: usize) {
        if self.records.len() < slots {
            self.records.resize_with(slots, Record::default);
        }
    }

    /// A node of which nothing is known takes this slot, `sent` being what it got so far.
    pub(super) fn enroll(&mut self, node: usize, sent: u64) {
        self.ejected.retain(|&other| other != node);
        let census = Census { sent_before: sent, failed: 0, is_whole: true };
        self.alter(node, |record| *record = Record { census, ..Record::default() });
    }

    /// Whether a node is in the cluster and takes new picks. Call [`settle`](Self::settle) after all such changes.
    pub(super) fn set_member(&mut self, node: usize, is_member: bool) {
        self.alter(node, |record| record.is_member = is_member);
    }

    /// Whether checks find a node up. Call [`settle`](Self::settle) after all such changes.
    pub(super) fn set_up(&mut self, node: usize, is_up: bool) {
        self.alter(node, |record| record.is_up = is_up);
    }

    /// Lets nodes back in, those first that are due first, until no more are out than may be, those that are down included.
    pub(super) fn settle(&mut self, now: u64) {
        while self.tally.ejected > self.most_ejected()
            && let Some(node) = self.first_due(|record| record.is_member)
        {
            self.readmit(node, now);
        }
        while self.tally.unusable() > self.most_ejected()
            && let Some(node) = self.first_due(Record::can_serve)
        {
            self.readmit(node, now);
        }
        // The last one that took traffic has left or gone down.
        if self.tally.usable == 0
            && let Some(node) = self.first_due(Record::can_serve)
        {
            self.readmit(node, now);
        }
        self.reschedule();
    }

    // What comes of requests.

    /// A request failed that was sent in `term`.
    pub(super) fn failed(
        &mut self,
        node: usize,
        term: Term,
        kind: FailureKind,
        now: u64,
        fleet: &impl Fleet,
    ) {
        if kind == FailureKind::Throttled || !self.is_in_service(node, term) {
            return;
        }
        let sent = fleet.sent(node);
        let record = &mut self.records[node];
        record.count(kind, sent, now, nanos(self.rules.interval));
        if let Some(cause) = record.suspicion(&self.rules, sent) {
            self.eject(node, cause, now);
        }
        self.sweep(now, fleet);
    }

    /// A request succeeded, whenever it was sent: only the first success after a failure is told, and it may be that one.
    pub(super) fn succeeded(&mut self, node: usize) {
        self.records[node].streaks = Streaks::default();
    }

    /// Compares the nodes with each other, if it is time.
    pub(super) fn sweep(&mut self, now: u64, fleet: &impl Fleet) {
        if now >= self.sweep_at() {
            for (node, cause) in sweep::outliers(self, now, fleet) {
                self.eject(node, cause, now);
            }
        }
    }

    // Probes.

    /// The node to try, and the term of the permission; `only` this one, if one is named. What comes of it has to be
    /// said with [`probed`](Self::probed).
    pub(super) fn claim(
        &mut self,
        now: u64,
        only: Option<usize>,
        is_full: impl Fn(usize) -> bool,
    ) -> Option<(usize, Term)> {
        self.expire_probes(now);
        let is_due = |record: &Record| record.can_serve() && record.due(&self.rules) <= now;
        let is_wanted = |node: usize| only.is_none_or(|only| only == node);
        let mut claimed = None;
        for index in 0..self.ejected.len() {
            let node = self.ejected[index];
            if !is_wanted(node) || !is_due(&self.records[node]) {
                continue;
            }
            let Some(spell) = &mut self.records[node].ejection else { continue };
            if is_full(node) {
                spell.until = now.saturating_add(FULL_PAUSE);
            } else {
                spell.probed_since = Some(now);
                claimed = Some((node, self.records[node].term));
                // Whoever is due next has its turn before this one's next.
                self.ejected[index..].rotate_left(1);
                break;
            }
        }
        self.reschedule();
        claimed
    }

    /// A request is over that was sent with the permission of `term`.
    pub(super) fn probed(&mut self, node: usize, term: Term, outcome: Probe, now: u64) {
        let record = &mut self.records[node];
        // Otherwise too late: it was taken for failed, or somebody let the node in.
        if record.term == term
            && let Some(spell) = &mut record.ejection
            && spell.probed_since.take().is_some()
        {
            let cause = spell.cause;
            match outcome {
                Probe::Passed => self.readmit(node, now),
                Probe::Failed => self.put_out(node, cause, now),
                Probe::Void => {}
            }
            self.reschedule();
        }
    }

    fn expire_probes(&mut self, now: u64) {
        let timeout = nanos(self.rules.probe_timeout);
        for index in 0..self.ejected.len() {
            let node = self.ejected[index];
            if let Some(Spell { cause, probed_since: Some(since), .. }) = self.records[node].ejection
                && since.saturating_add(timeout) <= now
            {
                self.put_out(node, cause, now);
            }
        }
    }

    // Out and in.

    /// Puts a node out, if that leaves enough.
    fn eject(&mut self, node: usize, cause: Cause, now: u64) {
        let record = &self.records[node];
        if !record.can_serve() || record.ejection.is_some() {
            return;
        }
        if !self.can_spare_one() {
            self.make_room(now);
        }
        if self.can_spare_one() && self.tally.usable > 1 {
            self.put_out(node, cause, now);
        }
        self.reschedule();
    }

    /// Whether one more may be without traffic. Those that are down count as well: with them, ejections would add up to so
    /// many that balancers panic, and send requests to all of them.
    fn can_spare_one(&self) -> bool {
        self.tally.unusable() < self.most_ejected()
    }

    /// Lets a node back in before its time, for one that fails now: one of which nothing has been known for a while. Without
    /// this, nodes that have recovered would keep others in that have not. (The while keeps them from taking turns without
    /// end where all fail.)
    fn make_room(&mut self, now: u64) {
        let rest = nanos(self.rules.base_ejection) / 4;
        let is_stale =
            |spell: Spell| spell.probed_since.is_none() && now.saturating_sub(spell.failed_at) >= rest;
        if let Some(node) =
            self.first_due(|record| record.can_serve() && record.ejection.is_some_and(is_stale))
        {
            self.readmit(node, now);
        }
    }

    /// Puts a node out, or leaves it out for longer.
    fn put_out(&mut self, node: usize, cause: Cause, now: u64) {
        let Self { rules, rng, .. } = self;
        let [base, most, interval] = [rules.base_ejection, rules.max_ejection, rules.interval].map(nanos);
        let jitter = u128::from(rules.jitter) * u128::from(rng.next_u64() >> 32);
        let term = self.alter(node, |record| {
            let since = record.ejection.map_or(now, |spell| spell.since);
            if record.ejection.is_none() {
                let clean = now.saturating_sub(record.back_since) / interval.max(1);
                record.level = record.level.saturating_sub(u32::try_from(clean).unwrap_or(u32::MAX));
            }
            let span = base.saturating_mul(1_u64.checked_shl(record.level).unwrap_or(u64::MAX)).min(most);
            // At the longest it stops growing, so that it does not take for ever to shrink.
            record.level += u32::from(span < most);
            let extra = u64::try_from((u128::from(span) * jitter / 100) >> 32).unwrap_or(u64::MAX);
            let until = now.saturating_add(span).saturating_add(extra);
            record.ejection = Some(Spell { cause, since, failed_at: now, until, probed_since: None });
            record.term = record.term.next();
            record.census.is_whole = false;
            record.term
        });
        if !self.ejected.contains(&node) {
            self.ejected.push(node);
        }
        self.totals[cause as usize] += 1;
        self.changes.push(Change::Eject(node, term));
    }

    /// Lets a node back in, with nothing counted against it but how long its next ejection will be. False if it was not
    /// out.
    pub(super) fn release(&mut self, node: usize, now: u64) -> bool {
        let was_out = self.records.get(node).is_some_and(|record| record.ejection.is_some());
        if was_out {
            self.readmit(node, now);
            self.reschedule();
        }
        was_out
    }

    fn readmit(&mut self, node: usize, now: u64) {
        self.ejected.retain(|&other| other != node);
        self.alter(node, |record| {
            record.ejection = None;
            record.back_since = now;
            record.streaks = Streaks::default();
            record.window = None;
            record.was_slow = false;
        });
        self.changes.push(Change::Readmit(node));
    }

    /// Changes a record, and the tally with it.
    fn alter<T>(&mut self, node: usize, change: impl FnOnce(&mut Record) -> T) -> T {
        let record = &mut self.records[node];
        let before = Tally::of(record);
        let result = change(record);
        let after = Tally::of(record);
        let tally = &mut self.tally;
        tally.members = tally.members + after.members - before.members;
        tally.ejected = tally.ejected + after.ejected - before.ejected;
        tally.usable = tally.usable + after.usable - before.usable;
        result
    }

    fn most_ejected(&self) -> usize {
        let share = self.tally.members * self.rules.max_share as usize / 100;
        share.max(usize::from(self.rules.at_least_one))
    }

    fn is_in_service(&self, node: usize, term: Term) -> bool {
        let record = &self.records[node];
        record.term == term && record.ejection.is_none()
    }

    /// Of the nodes that are out and for which `may` holds, the one that is due first.
    fn first_due(&self, may: impl Fn(&Record) -> bool) -> Option<usize> {
        let candidates = self.ejected.iter().copied().filter(|&node| may(&self.records[node]));
        candidates.min_by_key(|&node| self.records[node].ejection.map(|spell| spell.until))
    }

    fn reschedule(&mut self) {
        let out = self.ejected.iter().map(|&node| &self.records[node]);
        let due = out.filter(|record| record.can_serve()).map(|record| record.due(&self.rules));
        self.probe_at = due.min().unwrap_or(NEVER);
    }

    // What it leaves behind.

    /// The marks to set and take away, in this order.
    pub(super) fn take_changes(&mut self) -> impl Iterator<Item = Change> {
        self.changes.drain(..)
    }

    /// When a node is due to be tried, or a request that tries one has taken too long.
    pub(super) fn probe_at(&self) -> u64 {
        self.probe_at
    }

    /// When the nodes are to be compared next.
    pub(super) fn sweep_at(&self) -> u64 {
        if self.rules.success_rate.is_none() && self.rules.latency.is_none() {
            return NEVER;
        }
        self.swept_at.saturating_add(nanos(self.rules.interval))
    }

    /// The nodes that are out.
    pub(super) fn ejected(&self) -> impl Iterator<Item = (usize, Spell)> {
        self.ejected.iter().filter_map(|&node| Some((node, self.records[node].ejection?)))
    }

    /// How many ejections there were for a cause.
    pub(super) fn total(&self, cause: Cause) -> u64 {
        self.totals[cause as usize]
    }
}

impl Record {
    fn can_serve(&self) -> bool {
        self.is_member && self.is_up
    }

    /// Whether it can be compared with others.
    pub(super) fn is_in(&self) -> bool {
        self.is_member && self.ejection.is_none()
    }

    /// When something is to be done about it being out.
    fn due(&self, rules: &OutlierDetection) -> u64 {
        match self.ejection {
            None => NEVER,
            Some(Spell { probed_since: Some(since), .. }) => since.saturating_add(nanos(rules.probe_timeout)),
            Some(Spell { until, .. }) => until,
        }
    }

    fn count(&mut self, kind: FailureKind, sent: u64, now: u64, interval: u64) {
        let Streaks { remote, gateway, local } = &mut self.streaks;
        match kind {
            FailureKind::Connect | FailureKind::Transport | FailureKind::Timeout => {
                *local = local.saturating_add(1);
            }
            kind => {
                let is_gateway = matches!(kind, FailureKind::Gateway | FailureKind::Overloaded);
                *gateway = if is_gateway { gateway.saturating_add(1) } else { 0 };
                *remote = remote.saturating_add(1);
                *local = 0;
            }
        }
        // The request itself was sent before.
        let new = Window { opened: now, sent_before: sent.saturating_sub(1), failed: 0 };
        let window = self.window.get_or_insert(new);
        if now.saturating_sub(window.opened) >= interval {
            *window = new;
        }
        window.failed = window.failed.saturating_add(1);
        self.census.failed += 1;
    }

    /// The rule that its own failures break.
    fn suspicion(&self, rules: &OutlierDetection, sent: u64) -> Option<Cause> {
        let Streaks { remote, gateway, local } = self.streaks;
        let window = self.window?;
        let volume = sent.saturating_sub(window.sent_before).max(u64::from(window.failed));
        let ratio = f64::from(window.failed) / volume as f64;
        let reaches = |count: u32, limit: Option<u32>| limit.is_some_and(|limit| count >= limit);
        let broken = [
            (reaches(local, rules.consecutive_local_failures), Cause::ConsecutiveLocalFailures),
            (reaches(gateway, rules.consecutive_gateway_failures), Cause::ConsecutiveGatewayFailures),
            (reaches(remote, rules.consecutive_failures), Cause::ConsecutiveFailures),
            (reaches(window.failed, rules.max_failures), Cause::MaxFailures),
            (
                volume >= rules.min_volume && rules.failure_ratio.is_some_and(|most| ratio >= most),
                Cause::FailureRatio,
            ),
        ];
        broken.into_iter().find_map(|(is_broken, cause)| is_broken.then_some(cause))
    }
}
