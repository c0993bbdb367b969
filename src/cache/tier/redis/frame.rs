//! How an envelope lies in the server, and what a ticket says: pure.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::cache::tier::Ticket;

/// When a miss was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Miss {
    pub(super) epoch: Vec<u8>,
    /// Empty if the key was not changed for a while.
    pub(super) marker: Vec<u8>,
    /// By the server's clock, in milliseconds.
    pub(super) at: u64,
}

impl Miss {
    pub(super) fn ticket(&self) -> Ticket {
        Ticket(postcard::to_stdvec(self).map(Bytes::from).unwrap_or_default())
    }

    pub(super) fn of(ticket: &Ticket) -> Option<Self> {
        postcard::from_bytes(&ticket.0).ok()
    }
}

/// The envelope within the bytes that a script stored, `epoch:expiry:envelope`, if they are of this epoch, and for how long
/// it is good.
pub(super) fn unframe<'a>(bytes: &'a [u8], epoch: &[u8], now: u64) -> Option<(&'a [u8], Duration)> {
    let (its_epoch, rest) = split(bytes)?;
    let (expires, envelope) = split(rest)?;
    let expires: u64 = std::str::from_utf8(expires).ok()?.parse().ok()?;
    if its_epoch != epoch || expires <= now {
        return None;
    }
    Some((envelope, Duration::from_millis(expires - now)))
}

fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    // The fields are short: no need to search a megabyte.
    let end = bytes.iter().take(40).position(|byte| *byte == b':')?;
    Some((&bytes[..end], &bytes[end + 1..]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_frame_gives_the_envelope_and_its_time() {
        let good = Some((&b"a:b"[..], Duration::from_millis(30)));
        assert_eq!(unframe(b"e1:100:a:b", b"e1", 70), good);
        assert_eq!(unframe(b"e1:100:a:b", b"e2", 70), None, "cleared since");
        assert_eq!(unframe(b"e1:100:a:b", b"e1", 100), None, "expired");
        for bytes in [&b""[..], b"e1", b"e1:", b"e1:100", b"e1:x:a", b"e1:-5:a", b"e1:99999999999999999999:a"]
        {
            assert_eq!(unframe(bytes, b"e1", 0), None);
        }
    }

    #[test]
    fn a_ticket_says_what_it_was_given() {
        let miss = Miss { epoch: b"e".to_vec(), marker: Vec::new(), at: 7 };
        assert_eq!(Miss::of(&miss.ticket()), Some(miss));
        assert_eq!(Miss::of(&Ticket::default()), None);
    }

    proptest! {
        #[test]
        fn garbage_never_panics(garbage: Vec<u8>, now: u64) {
            let _ = unframe(&garbage, b"", now);
            let _ = Miss::of(&Ticket(garbage.into()));
        }
    }
}
