//! What nodes tell each other, as bytes: pure.
//!
//! | bytes | field |
//! |---|---|
//! | 2 | magic, `bc` |
//! | 1 | version |
//! | 8 | who says it |
//! | 1 | what: 0 a key has changed, 1 everything was cleared |
//! | | the key, as postcard |

use serde::de::DeserializeOwned;

use crate::cache::tier::Notice;

const MAGIC: [u8; 2] = *b"bc";
const VERSION: u8 = 1;
const CHANGED: u8 = 0;
const CLEARED: u8 = 1;
const HEADER: usize = 12;

/// A message that is no use to us: of another version, of other keys, or no message at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

pub(super) fn changed(origin: u64, key: &[u8]) -> Vec<u8> {
    let mut message = header(origin, CHANGED);
    message.extend_from_slice(key);
    message
}

pub(super) fn cleared(origin: u64) -> Vec<u8> {
    header(origin, CLEARED)
}

fn header(origin: u64, kind: u8) -> Vec<u8> {
    let mut message = Vec::with_capacity(HEADER + 32);
    message.extend_from_slice(&MAGIC);
    message.push(VERSION);
    message.extend_from_slice(&origin.to_le_bytes());
    message.push(kind);
    message
}

/// What a message says to the node `me`: nothing, if it is its own.
pub(super) fn read<K: DeserializeOwned>(
    message: &[u8],
    me: u64,
    longest_key: usize,
) -> Result<Option<Notice<K>>, Malformed> {
    let (header, key) = message.split_first_chunk::<HEADER>().ok_or(Malformed)?;
    let [m0, m1, VERSION, origin @ .., kind] = *header else { return Err(Malformed) };
    if [m0, m1] != MAGIC || key.len() > longest_key {
        return Err(Malformed);
    }
    let notice = match kind {
        CHANGED => match postcard::take_from_bytes(key) {
            Ok((key, [])) => Notice::Changed(key),
            _ => return Err(Malformed),
        },
        CLEARED if key.is_empty() => Notice::Cleared,
        _ => return Err(Malformed),
    };
    Ok((u64::from_le_bytes(origin) != me).then_some(notice))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_one_says_another_understands_and_it_ignores_itself() {
        let key = postcard::to_stdvec("key").unwrap();
        let (changed, cleared) = (changed(1, &key), cleared(1));
        assert_eq!(read(&changed, 2, 100), Ok(Some(Notice::Changed("key".to_owned()))));
        assert_eq!(read::<String>(&cleared, 2, 100), Ok(Some(Notice::Cleared)));
        assert_eq!(read::<String>(&changed, 1, 100), Ok(None));
        assert_eq!(read::<String>(&cleared, 1, 100), Ok(None));
    }

    #[test]
    fn other_versions_kinds_keys_and_lengths_are_malformed() {
        let key = postcard::to_stdvec("key").unwrap();
        let good = changed(1, &key);
        for at in [0, 1, 2, 11] {
            let mut bad = good.clone();
            bad[at] ^= 0x40;
            assert_eq!(read::<String>(&bad, 2, 100), Err(Malformed), "byte {at}");
        }
        for len in 0..good.len() {
            assert_eq!(read::<String>(&good[..len], 2, 100), Err(Malformed), "{len} bytes");
        }
        assert_eq!(read::<String>(&good, 2, 3), Err(Malformed), "too long");
        assert_eq!(read::<u8>(&good, 2, 100), Err(Malformed), "another type of key");
        let mut long = cleared(1);
        long.push(0);
        assert_eq!(read::<String>(&long, 2, 100), Err(Malformed));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(garbage: Vec<u8>) {
            let _ = read::<Vec<String>>(&garbage, 1, 100);
            let _ = read::<Vec<String>>(&changed(7, &garbage), 1, 100);
        }
    }
}
