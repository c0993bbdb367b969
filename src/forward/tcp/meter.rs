//! What a proxy has done so far.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// What a [`TcpProxy`](super::TcpProxy) has done so far, and what it is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TcpStats {
    /// Connections that are open now, those included that wait for their server.
    pub open: u64,
    /// Connections that were taken, however they ended.
    pub connections: u64,
    /// Bytes that servers took from clients.
    pub up: u64,
    /// Bytes that clients took from servers.
    pub down: u64,
}

#[derive(Debug, Default)]
pub(super) struct Meter {
    open: AtomicU64,
    connections: AtomicU64,
    pub(super) up: AtomicU64,
    pub(super) down: AtomicU64,
}

impl Meter {
    pub(super) fn add(to: &AtomicU64, bytes: usize) {
        to.fetch_add(bytes as u64, Relaxed);
    }

    pub(super) fn stats(&self) -> TcpStats {
        TcpStats {
            open: self.open.load(Relaxed),
            connections: self.connections.load(Relaxed),
            up: self.up.load(Relaxed),
            down: self.down.load(Relaxed),
        }
    }
}

/// One connection, open until dropped.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) meter: Arc<Meter>,
}

impl Open {
    pub(super) fn new(meter: &Arc<Meter>) -> Self {
        meter.open.fetch_add(1, Relaxed);
        meter.connections.fetch_add(1, Relaxed);
        Self { meter: Arc::clone(meter) }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.meter.open.fetch_sub(1, Relaxed);
    }
}
