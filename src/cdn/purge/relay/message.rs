//! What nodes tell each other, as bytes: pure.
//!
//! | bytes | field |
//! |---|---|
//! | 1 | version |
//! | 8 | who says it |
//! | 1 | `h` hard, `s` soft |
//! | 1 | `u` a URL, `p` a prefix, `t` a tag, `a` everything |
//! | | the URL, the prefix or the tag |

use super::super::{Purge, What};

const VERSION: u8 = 1;

/// A message that is no use to us: of another version, or no message at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

pub(super) fn write(node: u64, purge: &Purge) -> Vec<u8> {
    let (kind, text) = match purge.what() {
        What::Url(url) => (b'u', url.to_string()),
        What::Prefix(prefix) => (b'p', prefix.clone()),
        What::Tag(tag) => (b't', tag.clone()),
        What::All => (b'a', String::new()),
    };
    let mut message = vec![VERSION];
    message.extend_from_slice(&node.to_le_bytes());
    message.extend([if purge.is_soft() { b's' } else { b'h' }, kind]);
    message.extend_from_slice(text.as_bytes());
    message
}

/// Who says it, and what is to be purged.
pub(super) fn read(message: &[u8]) -> Result<(u64, Purge), Malformed> {
    let (&[VERSION, node @ .., soft, kind], text) = message.split_first_chunk::<11>().ok_or(Malformed)?
    else {
        return Err(Malformed);
    };
    let text = std::str::from_utf8(text).map_err(|_| Malformed)?;
    let purge = match kind {
        b'u' => Purge::url(text),
        b'p' => Purge::prefix(text),
        b't' => Purge::tag(text),
        b'a' if text.is_empty() => Ok(Purge::all()),
        _ => return Err(Malformed),
    };
    let soft = match soft {
        b's' => true,
        b'h' => false,
        _ => return Err(Malformed),
    };
    let purge = purge.map_err(|_| Malformed)?.with_soft(soft);
    Ok((u64::from_le_bytes(node), purge))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn purges_come_as_they_went() {
        let purges = [
            Purge::url("https://example.com/a?b"),
            Purge::url("/a"),
            Purge::prefix("/a"),
            Purge::prefix("https://example.com/ä"),
            Purge::tag("a b"),
            Ok(Purge::all()),
        ];
        for purge in purges.map(Result::unwrap).into_iter().flat_map(|purge| [purge.clone(), purge.soft()]) {
            assert_eq!(read(&write(7, &purge)), Ok((7, purge)));
        }
    }

    proptest! {
        #[test]
        fn garbage_never_panics(mut garbage: Vec<u8>, sane: bool) {
            if sane && garbage.len() > 11 {
                garbage[0] = VERSION;
                garbage[9] = b's';
                garbage[10] = b"upta"[usize::from(garbage[10] % 4)];
            }
            if let Ok((node, purge)) = read(&garbage) {
                prop_assert_eq!(read(&write(node, &purge)), Ok((node, purge)));
            }
        }
    }
}
