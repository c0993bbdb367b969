//! A server in front of which requests queue, clients that lose patience and come again, and what decides between them.
//!
//! Requests arrive at random instants (a Poisson process). A server has workers, each of which takes 50 ms for a request
//! on average (exponential), and a queue without end in front of them. A client gives up after a while, which the server
//! does not hear of, and comes again at once, as it does when it is turned away. Everything follows from the scenario and
//! the seed, and no time passes.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    time::{Duration, Instant},
};

use buttress::{
    balance::Budget,
    overload::{Admission, Arrival, LimitAlgorithm, Outcome, Priority, Queue, Sample, Terms, Ticket},
    rng::Rng,
    time::{Clock, ManualClock},
};

pub(crate) const MS: u64 = 1_000_000;
pub(crate) const SEC: u64 = 1_000 * MS;
const SERVICE: f64 = 50.0 * MS as f64;

/// How many workers there are from an instant on, and how many times as fast they are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Capacity {
    pub(crate) from: u64,
    pub(crate) workers: usize,
    pub(crate) speed: f64,
}

#[derive(Debug)]
pub(crate) struct Scenario {
    pub(crate) per_second: f64,
    pub(crate) end: u64,
    pub(crate) capacity: Vec<Capacity>,
    /// After what time a client gives a try up.
    pub(crate) timeout: u64,
    /// Whether clients say so.
    pub(crate) tells_deadline: bool,
    pub(crate) retries: u32,
    pub(crate) budget: Option<Budget>,
    /// The share of each priority.
    pub(crate) shares: [f64; 4],
    pub(crate) seed: u64,
}

/// What stands in front of the server.
#[derive(Debug)]
pub(crate) struct Gate {
    pub(crate) algorithm: Box<dyn LimitAlgorithm>,
    pub(crate) queue: Queue,
}

impl Gate {
    pub(crate) fn new(algorithm: impl LimitAlgorithm) -> Self {
        Self { algorithm: Box::new(algorithm), queue: Queue::default() }
    }
}

/// What happened to the requests that arrived within one second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Second {
    pub(crate) requests: [u32; 4],
    pub(crate) answered: [u32; 4],
    pub(crate) attempts: u32,
    pub(crate) shed: u32,
    /// The limit at its end.
    pub(crate) limit: usize,
}

#[derive(Debug)]
pub(crate) struct Report(pub(crate) Vec<Second>);

impl Report {
    /// The share of requests that were answered, of those that arrived from one second to another.
    pub(crate) fn goodput(&self, from: usize, to: usize) -> f64 {
        Priority::ALL.iter().map(|&priority| self.sums(from, to, priority).0).sum::<f64>()
            / Priority::ALL.iter().map(|&priority| self.sums(from, to, priority).1).sum::<f64>()
    }

    /// The same of one priority.
    pub(crate) fn goodput_of(&self, from: usize, to: usize, priority: Priority) -> f64 {
        let (answered, requests) = self.sums(from, to, priority);
        answered / requests
    }

    pub(crate) fn attempts(&self, from: usize, to: usize) -> f64 {
        let seconds = &self.0[from..to];
        let attempts: u32 = seconds.iter().map(|second| second.attempts).sum();
        f64::from(attempts)
            / seconds.iter().map(|second| f64::from(second.requests.iter().sum::<u32>())).sum::<f64>()
    }

    fn sums(&self, from: usize, to: usize, priority: Priority) -> (f64, f64) {
        self.0[from..to].iter().fold((0.0, 0.0), |(answered, requests), second| {
            let of = |counts: &[u32; 4]| f64::from(counts[priority as usize]);
            (answered + of(&second.answered), requests + of(&second.requests))
        })
    }
}

struct Request {
    arrived: u64,
    priority: Priority,
    tries: u32,
    /// The try that its client waits for.
    latest: usize,
    is_over: bool,
}

/// One try of a request, as the server sees it.
#[derive(Clone, Copy)]
struct Try {
    request: usize,
    admitted: u64,
    in_flight: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrive,
    Done(usize),
    TimedOut(usize, u32),
    Expired(usize, Ticket),
    Capacity(usize),
}

struct World {
    scenario: Scenario,
    origin: Instant,
    now: u64,
    rng: Rng,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    scheduled: u64,
    requests: Vec<Request>,
    tries: Vec<Try>,
    gate: Option<(Admission<usize>, Box<dyn LimitAlgorithm>)>,
    /// Tries that wait for a worker, and how many are worked on.
    backlog: VecDeque<usize>,
    busy: usize,
    workers: usize,
    speed: f64,
    seconds: Vec<Second>,
}

/// Runs a scenario. Without a gate, everything goes to the server's own queue.
pub(crate) fn simulate(scenario: Scenario, gate: Option<Gate>) -> Report {
    let seconds = (scenario.end / SEC) as usize;
    let gate = gate.map(|Gate { algorithm, queue }| (Admission::new(algorithm.limit(), queue), algorithm));
    let mut world = World {
        rng: Rng::seeded(scenario.seed),
        origin: ManualClock::new().now(),
        now: 0,
        events: BinaryHeap::new(),
        scheduled: 0,
        requests: Vec::new(),
        tries: Vec::new(),
        gate,
        backlog: VecDeque::new(),
        busy: 0,
        workers: 0,
        speed: 1.0,
        seconds: vec![Second::default(); seconds],
        scenario,
    };
    world.run();
    Report(world.seconds)
}

impl World {
    fn run(&mut self) {
        for index in 0..self.scenario.capacity.len() {
            self.schedule(self.scenario.capacity[index].from, Event::Capacity(index));
        }
        self.schedule(0, Event::Arrive);
        while let Some(Reverse((at, _, event))) = self.events.pop() {
            self.now = at;
            match event {
                Event::Arrive => self.arrive(),
                Event::Done(index) => self.done(index),
                Event::TimedOut(request, tries) => {
                    let Request { is_over, tries: current, .. } = self.requests[request];
                    if !is_over && current == tries {
                        self.try_again(request);
                    }
                }
                Event::Expired(index, ticket) => {
                    if self.gate.as_mut().is_some_and(|(gate, _)| gate.expire(ticket).is_some()) {
                        self.shed(index);
                    }
                }
                Event::Capacity(index) => {
                    let Capacity { workers, speed, .. } = self.scenario.capacity[index];
                    (self.workers, self.speed) = (workers, speed);
                    self.work();
                }
            }
        }
    }

    fn schedule(&mut self, at: u64, event: Event) {
        self.events.push(Reverse((at, self.scheduled, event)));
        self.scheduled += 1;
    }

    fn exponential(&mut self, mean: f64) -> u64 {
        (-mean * (1.0 - self.rng.unit()).ln()) as u64
    }

    fn instant(&self, at: u64) -> Instant {
        self.origin + Duration::from_nanos(at)
    }

    fn second(&mut self, request: usize) -> &mut Second {
        let second = self.requests[request].arrived / SEC;
        &mut self.seconds[second as usize]
    }

    fn arrive(&mut self) {
        let mut chance = self.rng.unit();
        let priority = Priority::ALL.into_iter().find(|&priority| {
            chance -= self.scenario.shares[priority as usize];
            chance < 0.0
        });
        let request = self.requests.len();
        let priority = priority.unwrap_or_default();
        self.requests.push(Request { arrived: self.now, priority, tries: 0, latest: 0, is_over: false });
        self.second(request).requests[priority as usize] += 1;
        let limit = self.gate.as_ref().map_or(0, |(gate, _)| gate.limit());
        self.second(request).limit = limit;
        if let Some(budget) = &self.scenario.budget {
            budget.deposit();
        }
        self.send(request);
        let next = self.now + self.exponential(SEC as f64 / self.scenario.per_second);
        if next < self.scenario.end {
            self.schedule(next, Event::Arrive);
        }
    }

    fn send(&mut self, request: usize) {
        self.second(request).attempts += 1;
        self.requests[request].tries += 1;
        let Request { tries, priority, .. } = self.requests[request];
        let index = self.tries.len();
        self.tries.push(Try { request, admitted: self.now, in_flight: 0 });
        self.requests[request].latest = index;
        let timeout = self.now + self.scenario.timeout;
        self.schedule(timeout, Event::TimedOut(request, tries));
        let (now, deadline) = (self.instant(self.now), self.instant(timeout));
        let Some((gate, _)) = &mut self.gate else { return self.admit(index) };
        let terms = Terms { priority, deadline: self.scenario.tells_deadline.then_some(deadline) };
        match gate.arrive(terms, now, || index) {
            Arrival::Admitted => self.admit(index),
            Arrival::Waiting(place) => {
                let until = place.until.duration_since(self.origin).as_nanos() as u64;
                self.schedule(until, Event::Expired(index, place.ticket));
                if let Some(displaced) = place.displaced {
                    self.shed(displaced);
                }
            }
            Arrival::Shed(_) => self.shed(index),
        }
    }

    fn shed(&mut self, index: usize) {
        let request = self.tries[index].request;
        self.second(request).shed += 1;
        if !self.requests[request].is_over {
            self.try_again(request);
        }
    }

    fn try_again(&mut self, request: usize) {
        let Scenario { retries, budget, .. } = &self.scenario;
        let may = self.requests[request].tries <= *retries && budget.as_ref().is_none_or(Budget::withdraw);
        if may {
            self.send(request);
        } else {
            self.requests[request].is_over = true;
        }
    }

    fn admit(&mut self, index: usize) {
        let in_flight = self.gate.as_ref().map_or(0, |(gate, _)| gate.in_flight());
        let tried = &mut self.tries[index];
        (tried.admitted, tried.in_flight) = (self.now, in_flight);
        self.backlog.push_back(index);
        self.work();
    }

    fn work(&mut self) {
        while self.busy < self.workers {
            let Some(index) = self.backlog.pop_front() else { return };
            self.busy += 1;
            let mean = SERVICE / self.speed;
            let done = self.now + self.exponential(mean);
            self.schedule(done, Event::Done(index));
        }
    }

    fn done(&mut self, index: usize) {
        self.busy -= 1;
        let Try { request, admitted, in_flight } = self.tries[index];
        // The answer comes too late if the client has sent another try, or none, since; the latency counts all the same.
        let Request { is_over, latest, .. } = self.requests[request];
        let on_time = !is_over && latest == index;
        if on_time {
            self.requests[request].is_over = true;
            let priority = self.requests[request].priority;
            self.second(request).answered[priority as usize] += 1;
        }
        self.work();
        let now = self.instant(self.now);
        let latency = Duration::from_nanos(self.now - admitted);
        let Some((gate, algorithm)) = &mut self.gate else { return };
        algorithm.observe(Sample { latency, in_flight, outcome: Outcome::Success }, now);
        gate.set_limit(algorithm.limit());
        gate.release(Some(latency));
        while let Some((index, admitted)) = self.gate.as_mut().and_then(|(gate, _)| gate.next(now)) {
            match admitted {
                Ok(()) => self.admit(index),
                Err(_) => self.shed(index),
            }
        }
    }
}
