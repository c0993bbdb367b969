//! Whether all that was said was heard: pure.
//!
//! Each entry of the stream names the one before it, but for the first. Whoever follows the chain has missed nothing; whoever finds
//! a link missing does not know what was purged.

/// The id of an entry: milliseconds, and a number within them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Id(u64, u64);

impl Id {
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let (millis, number) = std::str::from_utf8(text).ok()?.split_once('-')?;
        Some(Self(millis.parse().ok()?, number.parse().ok()?))
    }
}

impl std::fmt::Display for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.0, self.1)
    }
}

/// Whether something may have been missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Heard {
    All,
    /// Then all that was stored until now may be out of date.
    Gap,
}

/// How far the stream was followed.
#[derive(Debug, Default)]
pub(super) struct Chain {
    /// `None` before it was looked at for the first time.
    last: Option<Id>,
}

impl Chain {
    /// The entry to read on from.
    pub(super) fn last(&self) -> Id {
        self.last.unwrap_or_default()
    }

    /// After a while without entries, and with each new connection: `tail` is the last entry of the stream.
    pub(super) fn look(&mut self, tail: Id) -> Heard {
        match self.last {
            Some(last) if last <= tail => Heard::All,
            // The first look, or another stream than it was.
            _ => {
                self.last = Some(tail);
                Heard::Gap
            }
        }
    }

    /// The next entry, and the one before it as it says: none if the stream begins with it.
    pub(super) fn follow(&mut self, id: Id, before: Option<Id>) -> Heard {
        let is_next = before.is_some() && before == self.last;
        self.last = Some(id);
        if is_next { Heard::All } else { Heard::Gap }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    #[test]
    fn the_first_look_and_a_stream_that_was_lost_are_gaps() {
        let mut chain = Chain::default();
        assert_eq!(chain.look(Id(1, 0)), Heard::Gap);
        assert_eq!(chain.look(Id(1, 0)), Heard::All);
        assert_eq!(chain.follow(Id(5, 0), Some(Id(1, 0))), Heard::All);
        assert_eq!(chain.look(Id(6, 0)), Heard::All, "to be read yet");
        assert_eq!(chain.last(), Id(5, 0));
        assert_eq!(chain.look(Id(3, 9)), Heard::Gap, "another one");
        assert_eq!(chain.follow(Id(9, 0), None), Heard::Gap, "a new one");
        assert_eq!(chain.follow(Id(9, 1), Some(Id(8, 0))), Heard::Gap);
    }

    #[test]
    fn ids_are_read_and_written() {
        assert_eq!(Id::parse(b"17-3"), Some(Id(17, 3)));
        assert_eq!(Id(17, 3).to_string(), "17-3");
        for text in [&b""[..], b"17", b"17-", b"-1", b"17-3-1", b"99999999999999999999-0", b"\xff-1"] {
            assert_eq!(Id::parse(text), None);
        }
    }

    proptest! {
        /// The server keeps some of the last entries, loses all at times, and lets the node read when it can.
        #[test]
        fn what_is_missed_is_known_to_be_missed(steps in vec((0..6_u8, 1..5_usize), 1..80)) {
            let mut stream: Vec<(Id, Option<Id>)> = vec![(Id(0, 0), None)];
            let (mut chain, mut clock) = (Chain::default(), 0);
            // Entries that the node should have heard.
            let mut missed = 0;
            let _ = chain.look(Id(0, 0));
            for (step, n) in steps {
                clock += 1;
                match step {
                    0..=2 => {
                        stream.push((Id(clock, 0), stream.last().map(|(id, _)| *id)));
                        missed += 1;
                    }
                    3 => _ = stream.drain(..stream.len().saturating_sub(n)),
                    4 => stream.clear(),
                    _ => {
                        if stream.is_empty() {
                            stream.push((Id(clock, 0), None));
                        }
                        let mut heard = 0;
                        let mut gap = chain.look(stream[stream.len() - 1].0) == Heard::Gap;
                        for (id, before) in stream.clone() {
                            if id > chain.last() {
                                heard += 1;
                                gap |= chain.follow(id, before) == Heard::Gap;
                            }
                        }
                        prop_assert!(gap || heard == missed, "heard {} of {}", heard, missed);
                        missed = 0;
                    }
                }
            }
        }
    }
}
