//! The task that changes the file: the only one, and in batches.

use std::{
    collections::HashSet,
    io,
    sync::{
        Arc, PoisonError,
        atomic::Ordering::{Relaxed, Release},
    },
};

use tokio::{
    sync::{OwnedSemaphorePermit, mpsc, oneshot},
    task::spawn_blocking,
};

use super::{
    STRIPES, Shared,
    store::{Applied, Fault, Op, Recovery, Store, guarded, set_aside},
    stripe,
};
use crate::cache::tier::{Ticket, TierError};

/// The most changes in one transaction.
const BATCH: usize = 256;
/// The size of the file is looked at once in as many batches.
const CHECK_SIZE: u32 = 32;

/// Something to do, and who waits for it.
pub(super) struct Job {
    pub(super) change: Change,
    pub(super) done: Option<oneshot::Sender<Result<(), TierError>>>,
    /// Its place in the queue, given back when it is done.
    pub(super) room: OwnedSemaphorePermit,
}

pub(super) enum Change {
    /// To be made whatever happened before.
    Now(Op),
    /// To be made if the key was not changed since the ticket.
    Fill(Op, Ticket),
    /// Nothing: whoever waits for it waits for all that came before.
    Flush,
    Close,
}

pub(super) async fn run(shared: Arc<Shared>, mut jobs: mpsc::UnboundedReceiver<Job>) {
    let mut batches = 0_u32;
    loop {
        let mut batch = Vec::new();
        if jobs.recv_many(&mut batch, BATCH).await == 0 {
            break;
        }
        let closes = batch.iter().any(|job| matches!(job.change, Change::Close));
        batches = batches.wrapping_add(1);
        let for_thread = Arc::clone(&shared);
        // A panic in there is a fault already; the task must go on whatever happens.
        let _ = spawn_blocking(move || for_thread.write(batch, batches)).await;
        if closes {
            // Whoever comes now, or is in the queue, is told that it is closed.
            shared.room.close();
            jobs.close();
            while jobs.recv().await.is_some() {}
            break;
        }
    }
    let _ = spawn_blocking(move || shared.close()).await;
}

impl Shared {
    /// One transaction, and the answers to those who wait for it.
    fn write(&self, jobs: Vec<Job>, batches: u32) {
        let mut changed = HashSet::new();
        let mut ops = Vec::new();
        let mut waiting = Vec::new();
        let mut closing = Vec::new();
        let mut room = Vec::new();
        for job in jobs {
            room.push(job.room);
            match job.change {
                Change::Now(op) => {
                    match &op {
                        Op::Put { hash, .. } | Op::Remove { hash } => {
                            changed.insert(stripe(*hash));
                        }
                        Op::Clear => changed.extend(0..STRIPES),
                    }
                    ops.push(op);
                    waiting.extend(job.done);
                }
                Change::Fill(op, ticket) => {
                    if let Op::Put { hash, .. } = &op
                        && !changed.contains(&stripe(*hash))
                        && self.still_valid(*hash, &ticket)
                    {
                        ops.push(op);
                    }
                }
                Change::Flush => waiting.extend(job.done),
                Change::Close => closing.extend(job.done),
            }
        }
        let outcome = self.commit(ops, batches);
        // Only now: who read before the commit may have seen what was there before.
        for stripe in changed {
            self.changes[stripe].fetch_add(1, Release);
        }
        for done in waiting {
            let _ = done.send(match &outcome {
                Ok(()) => Ok(()),
                Err(reason) => Err(TierError::failed(reason.clone())),
            });
        }
        if !closing.is_empty() {
            self.close();
            for done in closing {
                let _ = done.send(Ok(()));
            }
        }
    }

    fn commit(&self, ops: Vec<Op>, batches: u32) -> Result<(), String> {
        if ops.is_empty() {
            return self.try_commit(ops, batches);
        }
        let breaker = || self.breaker.lock().unwrap_or_else(PoisonError::into_inner);
        if !breaker().admit(self.clock.now()) {
            return Err("it failed again and again, and is tried once a second".into());
        }
        let outcome = self.try_commit(ops, batches);
        match outcome {
            Ok(()) => breaker().succeed(),
            Err(_) => breaker().fail(self.clock.now()),
        }
        outcome
    }

    fn try_commit(&self, ops: Vec<Op>, batches: u32) -> Result<(), String> {
        if self.is_broken.load(Relaxed) {
            // A read has met a fault, which is all that is known of it.
            self.replace(Fault::Corrupt("it cannot be read".into()));
        } else if self.is_stuck.load(Relaxed) {
            self.replace(Fault::Io(io::Error::other("it cannot be read")));
        }
        let outcome = {
            let slot = self.store.read().unwrap_or_else(PoisonError::into_inner);
            match slot.as_ref() {
                None => Err(Fault::Io(io::Error::other("it cannot be opened"))),
                Some(_) if ops.is_empty() => Ok(Applied::default()),
                Some(store) => store.apply(ops, self.now(), |hash| self.used.take(hash)),
            }
        };
        let outcome = outcome.and_then(|applied| {
            self.evicted.fetch_add(applied.evicted, Relaxed);
            self.expired.fetch_add(applied.expired, Relaxed);
            if batches.is_multiple_of(CHECK_SIZE) { self.keep_small() } else { Ok(()) }
        });
        outcome.map_err(|fault| {
            let reason = fault.to_string();
            self.replace(fault);
            reason
        })
    }

    fn keep_small(&self) -> Result<(), Fault> {
        if !self.store.read().unwrap_or_else(PoisonError::into_inner).as_ref().is_some_and(Store::is_bloated)
        {
            return Ok(());
        }
        // Nobody may read meanwhile.
        let mut slot = self.store.write().unwrap_or_else(PoisonError::into_inner);
        slot.as_mut().map_or(Ok(()), Store::compact)
    }

    /// Opens the file anew after a fault: another one, if this one is damaged.
    fn replace(&self, fault: Fault) {
        let mut slot = self.store.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(store) = slot.take() {
            let _ = guarded(|| {
                drop(store);
                Ok(())
            });
            if let Fault::Corrupt(reason) = fault
                && let Ok(recovery) = set_aside(&self.path, reason)
            {
                self.note(recovery);
            }
        }
        if let Ok((store, recovery)) = Store::open(&self.path, self.options) {
            *slot = Some(store);
            self.is_broken.store(false, Relaxed);
            self.is_stuck.store(false, Relaxed);
            if let Some(recovery) = recovery {
                self.note(recovery);
            }
        } else {
            // Whoever reads next asks for another attempt.
            self.is_broken.store(true, Relaxed);
        }
    }

    fn note(&self, recovery: Recovery) {
        *self.recovery.lock().unwrap_or_else(PoisonError::into_inner) = Some(recovery);
    }
}
