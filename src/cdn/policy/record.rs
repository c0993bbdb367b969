//! A stored response as it survives a restart.

use serde::{Deserialize, Serialize};

use super::{Moment, Stored};

/// A [`Stored`] in a form that survives a restart: times are those of the wall clock.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    status: u16,
}

impl Stored {
    /// The form for a disk.
    pub fn to_record(&self, now: Moment) -> Record {
        let _ = now;
        Record { status: self.status().as_u16() }
    }

    /// Back from a disk. `None` if it makes no sense. What was written in the future, by this clock, is stale.
    pub fn from_record(record: Record, now: Moment) -> Option<Self> {
        let _ = (record, now);
        todo!()
    }
}
