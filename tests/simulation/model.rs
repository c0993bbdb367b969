//! The simulation: events in the order of time.
//!
//! Requests arrive at random instants (a Poisson process), each at one balancer of several. The balancer chooses a
//! server; the request is 0.25 ms on the wire, waits its turn, is worked on, and is 0.25 ms on the way back. The client
//! gives up after 5 s, which the server does not hear of. Everything follows from the scenario and the seed.

use std::{
    cell::Cell,
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    rc::Rc,
    time::Duration,
};

use buttress::{cluster::LoadGuard, rng::Rng, time::ManualClock};

use super::{
    MS, SEC,
    choosers::{Chooser, Maker, verdict},
    report::Report,
    scenario::{Fault, Scenario, WORKERS, exponential},
    server::{Completion, Job, Server},
};

const WIRE: u64 = MS / 4;
const TIMEOUT: u64 = 5 * SEC;
const NEVER: u64 = u64::MAX;
/// How a newcomer gets faster: in small steps, over this time.
const WARMING: u64 = 10 * SEC;
const WARMING_STEP: u64 = 100 * MS;

/// What became of a request, as its client sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Answered,
    Failed,
    TimedOut,
}

/// How things really are, for the oracle.
#[derive(Debug)]
pub(crate) struct Truth {
    pub(crate) members: Cell<usize>,
    pub(crate) servers: Vec<ServerTruth>,
}

#[derive(Debug)]
pub(crate) struct ServerTruth {
    /// Requests on their way to it, waiting, or worked on.
    has: Cell<u32>,
    speed: Cell<f64>,
}

impl ServerTruth {
    pub(crate) fn expected_time(&self) -> f64 {
        let ahead = f64::from((self.has.get() + 1).saturating_sub(WORKERS as u32));
        (1.0 + ahead / WORKERS as f64) / self.speed.get()
    }
}

struct Request {
    sent: u64,
    work: f64,
    balancer: usize,
    server: usize,
    fails: bool,
    /// Counts it in at its balancer; gone once it is over.
    guard: Option<LoadGuard>,
    over: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A worker of this server's is done.
    Done(usize, Completion),
    /// A failing server refuses this request.
    Refused(u64),
    /// This server gets slower or faster.
    Speed(usize),
    Join,
}

struct World<'a> {
    scenario: &'a Scenario,
    rng: Rng,
    now: u64,
    /// What the balancers' clusters take for the time.
    clock: ManualClock,
    balancers: Vec<Box<dyn Chooser>>,
    servers: Vec<Server>,
    slowed: Vec<bool>,
    truth: Rc<Truth>,
    /// Those sent within the last 5 s, in order; the first one's number is `first`.
    requests: VecDeque<Request>,
    first: u64,
    next_arrival: u64,
    /// Delays on the wire are all alike, so that queues keep the order of time.
    to_servers: VecDeque<(u64, u64)>,
    to_clients: VecDeque<(u64, u64)>,
    /// The number of the event settles ties.
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    scheduled: u64,
    report: Report,
}

/// Runs one scenario.
pub(crate) fn simulate(scenario: &Scenario, policy: &Maker, seed: u64) -> Report {
    // Policies seed themselves from the thread.
    fastrand::seed(seed);
    let speeds: Vec<f64> = scenario.speeds.iter().copied().chain(scenario.newcomer).collect();
    let truth = |&speed: &f64| ServerTruth { has: Cell::new(0), speed: Cell::new(speed) };
    let truth = Rc::new(Truth {
        members: Cell::new(scenario.speeds.len()),
        servers: speeds.iter().map(truth).collect(),
    });
    let clock = ManualClock::new();
    let balancers = (0..scenario.balancers).map(|_| policy.make(&scenario.speeds, &clock, &truth)).collect();
    let mut world = World {
        scenario,
        rng: Rng::seeded(seed),
        now: 0,
        clock,
        balancers,
        servers: speeds.iter().map(|&speed| Server::new(speed)).collect(),
        slowed: vec![false; speeds.len()],
        truth,
        requests: VecDeque::new(),
        first: 0,
        next_arrival: 0,
        to_servers: VecDeque::new(),
        to_clients: VecDeque::new(),
        events: BinaryHeap::new(),
        scheduled: 0,
        report: Report::new(speeds.len()),
    };
    world.run();
    world.report.latencies.sort_unstable();
    world.report
}

impl World<'_> {
    fn run(&mut self) {
        self.begin();
        loop {
            let due = |queue: &VecDeque<(u64, u64)>| queue.front().map_or(NEVER, |&(at, _)| at);
            let arrival = self.next_arrival;
            let (to_server, to_client) = (due(&self.to_servers), due(&self.to_clients));
            let event = self.events.peek().map_or(NEVER, |Reverse((at, ..))| *at);
            let timeout = self.requests.front().map_or(NEVER, |request| request.sent + TIMEOUT);
            if arrival == NEVER && timeout == NEVER {
                return;
            }
            let now = arrival.min(to_server).min(to_client).min(event).min(timeout);
            self.clock.advance(Duration::from_nanos(now - self.now));
            self.now = now;
            if now == arrival {
                self.arrive();
            } else if now == to_server {
                let request = self.to_servers.pop_front().map(|(_, request)| request);
                self.reach_server(request.expect("it is due"));
            } else if now == event {
                let event = self.events.pop().map(|Reverse((.., event))| event);
                self.happen(event.expect("it is due"));
            } else if now == to_client {
                let request = self.to_clients.pop_front().map(|(_, request)| request);
                self.reach_client(request.expect("it is due"));
            } else {
                self.settle(self.first, Outcome::TimedOut);
                self.requests.pop_front();
                self.first += 1;
            }
        }
    }

    fn begin(&mut self) {
        if let Some(antagonist) = self.scenario.antagonist {
            for server in 0..self.servers.len() {
                // As if it had been going on for ever.
                self.slowed[server] = self.rng.unit() >= antagonist.share_of_slow();
                self.change_speed(server);
            }
        }
        if self.scenario.newcomer.is_some() {
            self.schedule(self.scenario.warm_up, Event::Join);
        }
    }

    fn arrive(&mut self) {
        let now = self.now;
        let balancer = self.rng.below(self.balancers.len());
        let work = self.scenario.work.draw(&mut self.rng);
        let fails = self.rng.unit() < self.scenario.failures;
        let (server, guard) = self.balancers[balancer].send(now);
        self.count_in(server);
        self.to_servers.push_back((now + WIRE, self.first + self.requests.len() as u64));
        self.requests.push_back(Request { sent: now, work, balancer, server, fails, guard, over: false });
        self.next_arrival = now + (exponential(&mut self.rng) * self.scenario.gap()) as u64 + 1;
        if self.next_arrival >= self.scenario.warm_up + self.scenario.measured {
            self.next_arrival = NEVER;
        }
    }

    fn count_in(&mut self, server: usize) {
        let has = &self.truth.servers[server].has;
        has.set(has.get() + 1);
        let Some(since) = self.now.checked_sub(self.scenario.warm_up) else { return };
        self.report.most[server] = self.report.most[server].max(has.get());
        if since < 2 * SEC {
            self.report.early[server] += 1;
        }
    }

    fn reach_server(&mut self, number: u64) {
        let Request { server, work, .. } = self.requests[(number - self.first) as usize];
        match self.fault_of(server) {
            Some(Fault::FailsFast(after)) => self.schedule(self.now + after, Event::Refused(number)),
            Some(Fault::Hangs(since)) if self.now >= since => {}
            _ => {
                let started = self.servers[server].accept(Job { request: number, work }, self.now);
                self.schedule_completion(server, started);
            }
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Done(server, _) if matches!(self.fault_of(server), Some(Fault::Hangs(since)) if self.now >= since) =>
                {}
            Event::Done(server, completion) => {
                if let Some((done, next)) = self.servers[server].complete(completion, self.now) {
                    self.leave_server(server, done);
                    self.schedule_completion(server, next);
                }
            }
            Event::Refused(number) => {
                let request = &mut self.requests[(number - self.first) as usize];
                request.fails = true;
                let server = request.server;
                self.leave_server(server, number);
            }
            Event::Speed(server) if self.scenario.antagonist.is_some() => self.change_speed(server),
            Event::Speed(server) => self.warm(server),
            Event::Join => {
                self.truth.members.set(self.servers.len());
                for balancer in &mut self.balancers {
                    balancer.join();
                }
                self.warm(self.servers.len() - 1);
            }
        }
    }

    fn leave_server(&mut self, server: usize, number: u64) {
        let has = &self.truth.servers[server].has;
        has.set(has.get() - 1);
        self.to_clients.push_back((self.now + WIRE, number));
    }

    fn reach_client(&mut self, number: u64) {
        // Earlier ones were given up long ago.
        let Some(place) = number.checked_sub(self.first) else { return };
        let outcome = if self.requests[place as usize].fails { Outcome::Failed } else { Outcome::Answered };
        self.settle(number, outcome);
    }

    fn settle(&mut self, number: u64, outcome: Outcome) {
        let request = &mut self.requests[(number - self.first) as usize];
        if std::mem::replace(&mut request.over, true) {
            return;
        }
        if let Some(mut guard) = request.guard.take() {
            guard.judge(verdict(outcome));
        }
        let latency = self.now - request.sent;
        self.balancers[request.balancer].settle(request.server, self.now, latency, outcome);
        self.report.trace(request.server, latency, outcome);
        if request.sent >= self.scenario.warm_up {
            self.report.record(latency, outcome);
        }
    }

    /// The antagonist comes to a server's machine, or leaves it.
    fn change_speed(&mut self, server: usize) {
        let Some(antagonist) = self.scenario.antagonist else { return };
        let slowed = !self.slowed[server];
        self.slowed[server] = slowed;
        let (factor, mean) =
            if slowed { (antagonist.factor, antagonist.slow) } else { (1.0, antagonist.fast) };
        let lasts = (exponential(&mut self.rng) * mean as f64) as u64 + 1;
        self.schedule(self.now + lasts, Event::Speed(server));
        self.set_speed(server, self.scenario.speeds[server] * factor);
    }

    fn warm(&mut self, server: usize) {
        let passed = self.now - self.scenario.warm_up;
        let cold = self.scenario.newcomer.unwrap_or(1.0);
        self.set_speed(server, cold + (1.0 - cold) * (passed as f64 / WARMING as f64).min(1.0));
        if passed < WARMING {
            self.schedule(self.now + WARMING_STEP, Event::Speed(server));
        }
    }

    fn set_speed(&mut self, server: usize, speed: f64) {
        self.truth.servers[server].speed.set(speed);
        for (at, completion) in self.servers[server].set_speed(speed, self.now) {
            self.scheduled += 1;
            self.events.push(Reverse((at, self.scheduled, Event::Done(server, completion))));
        }
    }

    fn schedule_completion(&mut self, server: usize, due: Option<(u64, Completion)>) {
        if let Some((at, completion)) = due {
            self.schedule(at, Event::Done(server, completion));
        }
    }

    fn schedule(&mut self, at: u64, event: Event) {
        self.scheduled += 1;
        self.events.push(Reverse((at, self.scheduled, event)));
    }

    fn fault_of(&self, server: usize) -> Option<Fault> {
        self.scenario.fault.and_then(|(at, fault)| (at == server).then_some(fault))
    }
}
