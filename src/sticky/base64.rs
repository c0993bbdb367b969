//! Base64 in the alphabet that is safe in cookies and URLs (RFC 4648, section 5), of lengths that need no padding.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// What is not in the alphabet.
const NONE: u8 = 0xff;

const VALUES: [u8; 256] = {
    let mut values = [NONE; 256];
    let mut at = 0;
    while at < ALPHABET.len() {
        #[allow(clippy::cast_possible_truncation, reason = "below 64")]
        let value = at as u8;
        values[ALPHABET[at] as usize] = value;
        at += 1;
    }
    values
};

/// Writes three bytes as four letters. What does not fill three is left out.
pub(super) fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() / 3 * 4);
    for three in bytes.as_chunks::<3>().0 {
        let [a, b, c] = three.map(usize::from);
        for value in [a >> 2, (a & 3) << 4 | b >> 4, (b & 15) << 2 | c >> 6, c & 63] {
            text.push(char::from(ALPHABET[value]));
        }
    }
    text
}

/// Reads what [`encode`] wrote, if `text` is as long as `bytes` needs. Each text is read from one spelling only.
pub(super) fn decode<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let (fours, rest) = text.as_chunks::<4>();
    let threes = bytes.as_chunks_mut::<3>().0;
    if !rest.is_empty() || fours.len() != threes.len() {
        return None;
    }
    let mut seen = 0;
    for (four, three) in fours.iter().zip(threes) {
        let [a, b, c, d] = four.map(|letter| VALUES[usize::from(letter)]);
        seen |= a | b | c | d;
        *three = [a << 2 | b >> 4, b << 4 | c >> 2, c << 6 | d];
    }
    (seen < 64).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_those_of_the_standard() {
        let text = encode(b"\xfb\xff\xbffoobar");
        assert_eq!(text, "-_-_Zm9vYmFy");
        assert_eq!(decode(text.as_bytes()), Some(*b"\xfb\xff\xbffoobar"));
    }

    #[test]
    fn only_the_alphabet_and_the_right_length_are_read() {
        assert_eq!(decode::<3>(b"Zm9v"), Some(*b"foo"));
        for letter in 0..=u8::MAX {
            let known = decode::<3>(&[b'Z', letter, b'9', b'v']).is_some();
            assert_eq!(known, ALPHABET.contains(&letter), "{letter}");
        }
        for text in ["", "Zm9", "Zm9vZ", "Zm9vZm9v"] {
            assert_eq!(decode::<3>(text.as_bytes()), None, "{text}");
        }
    }
}
