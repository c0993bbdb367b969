//! One server: workers, and a queue that is served in order.

use std::collections::VecDeque;

use super::scenario::WORKERS;

/// A request that a server has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Job {
    pub(crate) request: u64,
    /// Nanoseconds that are left to do at speed 1.
    pub(crate) work: f64,
}

/// When a worker will be done, unless the server's speed changes before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Completion {
    pub(crate) worker: usize,
    /// Which plan of the worker's this is: others are void.
    plan: u64,
}

#[derive(Debug, Default)]
struct Worker {
    job: Option<Job>,
    /// When `job.work` was what was left.
    since: u64,
    plan: u64,
}

#[derive(Debug)]
pub(crate) struct Server {
    speed: f64,
    workers: [Worker; WORKERS],
    queue: VecDeque<Job>,
}

impl Server {
    pub(crate) fn new(speed: f64) -> Self {
        Self { speed, workers: Default::default(), queue: VecDeque::new() }
    }

    /// Takes a job in. Says when it will be done, if a worker is free.
    pub(crate) fn accept(&mut self, job: Job, now: u64) -> Option<(u64, Completion)> {
        if let Some(worker) = self.workers.iter().position(|worker| worker.job.is_none()) {
            return Some(self.begin(worker, job, now));
        }
        self.queue.push_back(job);
        None
    }

    /// The request that is done, unless the plan has changed, and when that worker's next one will be.
    pub(crate) fn complete(&mut self, due: Completion, now: u64) -> Option<(u64, Option<(u64, Completion)>)> {
        let worker = &mut self.workers[due.worker];
        if worker.plan != due.plan {
            return None;
        }
        let done = worker.job.take()?;
        let next = self.queue.pop_front().map(|job| self.begin(due.worker, job, now));
        Some((done.request, next))
    }

    /// Changes the speed, and says when the workers will be done now.
    pub(crate) fn set_speed(&mut self, speed: f64, now: u64) -> impl Iterator<Item = (u64, Completion)> {
        let before = std::mem::replace(&mut self.speed, speed);
        self.workers.iter_mut().enumerate().filter_map(move |(index, worker)| {
            let mut job = worker.job?;
            job.work = (job.work - (now - worker.since) as f64 * before).max(0.0);
            Some(worker.plan(index, job, now, speed))
        })
    }

    fn begin(&mut self, worker: usize, job: Job, now: u64) -> (u64, Completion) {
        self.workers[worker].plan(worker, job, now, self.speed)
    }
}

impl Worker {
    fn plan(&mut self, index: usize, job: Job, now: u64, speed: f64) -> (u64, Completion) {
        self.plan += 1;
        (self.job, self.since) = (Some(job), now);
        (now + (job.work / speed) as u64, Completion { worker: index, plan: self.plan })
    }
}
