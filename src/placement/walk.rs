//! Walks over tables of owners: each node once, in the order in which it first appears.

use super::{INLINE_REPLICAS, Replicas};

/// Nodes that a walk remembers in a list, before it allocates a set of bits.
const FEW: usize = 16;

/// The owners of a table from some place on: those up to its end, then those before.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owners<'a> {
    pub(super) halves: [&'a [u16]; 2],
    /// Number of nodes that there are numbers for.
    pub(super) nodes: usize,
    /// Number of nodes in the table.
    pub(super) owning: usize,
}

impl Owners<'_> {
    /// Visits each node once. O(table) at worst.
    ///
    /// Generic, so that a short walk is not mostly indirect calls.
    #[inline]
    pub(super) fn walk(&self, mut visit: impl FnMut(usize) -> bool) {
        let mut seen = Seen::new(self.nodes);
        for half in self.halves {
            for &node in half {
                if seen.insert(node) && (!visit(usize::from(node)) || seen.len == self.owning) {
                    return;
                }
            }
        }
    }

    /// The first so many nodes of the walk.
    #[inline]
    pub(super) fn replicas(&self, count: usize) -> Replicas {
        let count = count.min(self.owning);
        let mut replicas = Replicas::default();
        if count > INLINE_REPLICAS {
            self.walk(|node| {
                replicas.push(node);
                replicas.len < count
            });
            return replicas;
        }
        if count == 0 {
            return replicas;
        }
        // A small set remembers by itself which nodes it has, which saves a fifth of the time. The filter has
        // a bit for each number modulo 64 and tells most nodes to be new.
        let mut filter = 0_u64;
        for half in self.halves {
            for &node in half {
                let bit = 1 << (node % 64);
                if filter & bit == 0 || !replicas.contains(&usize::from(node)) {
                    filter |= bit;
                    replicas.push(usize::from(node));
                    if replicas.len == count {
                        return replicas;
                    }
                }
            }
        }
        replicas
    }
}

/// Nodes that a walk has visited.
pub(super) struct Seen {
    few: [u16; FEW],
    len: usize,
    /// One bit per node, once there are more than a few.
    many: Vec<u64>,
    nodes: usize,
}

impl Seen {
    #[inline]
    pub(super) fn new(nodes: usize) -> Self {
        Self { few: [0; FEW], len: 0, many: Vec::new(), nodes }
    }

    /// Adds a node; `false` if it was there.
    #[inline]
    pub(super) fn insert(&mut self, node: u16) -> bool {
        if self.len >= FEW {
            return self.insert_in_many(node);
        }
        if self.few[..self.len].contains(&node) {
            return false;
        }
        self.few[self.len] = node;
        self.len += 1;
        true
    }

    #[cold]
    fn insert_in_many(&mut self, node: u16) -> bool {
        if self.many.is_empty() {
            self.many.resize(self.nodes.div_ceil(64), 0);
            for node in self.few {
                self.many[usize::from(node) / 64] |= 1 << (node % 64);
            }
        }
        let word = &mut self.many[usize::from(node) / 64];
        let bit = 1 << (node % 64);
        let new = *word & bit == 0;
        *word |= bit;
        self.len += usize::from(new);
        new
    }
}
