//! Hashes that nobody can foresee without a secret.

use std::{fmt, net::IpAddr};

use super::{KeyEncoder, KeyHash, ShardKey, address};

/// Hashes keys with a secret, so that a client who may choose keys cannot aim them at one node.
///
/// [`KeyHash::of`] is public: ten thousand keys for one node of a thousand are found within seconds. Whoever
/// takes keys from strangers gives all parties that place them one secret, 16 random bytes, and hashes with
/// that. The secret is part of the placement: a new one moves nearly every key.
///
/// It does not help against many requests for the same key.
///
/// The hash is SipHash-1-3 (Aumasson, Bernstein, 2012) of the key's [encoding](ShardKey), strings included; some
/// 30 ns more than [`KeyHash::of`].
///
/// ```
/// use buttress::placement::{KeyHash, KeyHasher, Placement, Ring};
///
/// let ring = Ring::new([("a", 1), ("b", 1)])?;
/// # let from_configuration = *b"sixteen secrets!";
/// let hasher = KeyHasher::new(from_configuration);
/// let owner = ring.locate(hasher.hash("user:42"));
/// # assert!(owner.is_some());
/// assert_ne!(hasher.hash("user:42"), KeyHash::of("user:42"));
/// # Ok::<(), buttress::placement::PlacementError>(())
/// ```
#[derive(Clone)]
pub struct KeyHasher {
    secret: [u64; 2],
}

impl KeyHasher {
    /// Takes the secret: 16 bytes from a cryptographic source of randomness, the same for all parties.
    pub fn new(secret: [u8; 16]) -> Self {
        let secret = u128::from_le_bytes(secret);
        #[expect(clippy::cast_possible_truncation, reason = "each half is one word of the key")]
        Self { secret: [secret as u64, (secret >> 64) as u64] }
    }

    /// Hashes a key. O(length), no allocation unless the encoding exceeds 96 bytes.
    pub fn hash<K: ShardKey + ?Sized>(&self, key: &K) -> KeyHash {
        let mut encoder = KeyEncoder::new();
        key.encode(&mut encoder);
        KeyHash(self.sip(encoder.finished()))
    }

    /// Hashes a client address, as [`KeyHash::from_ip`] takes it.
    pub fn hash_ip(&self, ip: IpAddr) -> KeyHash {
        let (encoding, len) = address(ip);
        KeyHash(self.sip(&encoding[..len]))
    }

    fn sip(&self, bytes: &[u8]) -> u64 {
        let [k0, k1] = self.secret;
        let mut state = State([
            k0 ^ 0x736f_6d65_7073_6575,
            k1 ^ 0x646f_7261_6e64_6f6d,
            k0 ^ 0x6c79_6765_6e65_7261,
            k1 ^ 0x7465_6462_7974_6573,
        ]);
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            state.absorb(u64::from_le_bytes(*word));
        }
        // What is left, and the length in the highest byte.
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        state.absorb(u64::from_le_bytes(last) | (bytes.len() as u64) << 56);
        state.0[2] ^= 0xff;
        for _ in 0..3 {
            state.round();
        }
        state.0.into_iter().fold(0, |hash, word| hash ^ word)
    }
}

impl fmt::Debug for KeyHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyHasher").finish_non_exhaustive()
    }
}

struct State([u64; 4]);

impl State {
    #[inline]
    fn absorb(&mut self, word: u64) {
        self.0[3] ^= word;
        self.round();
        self.0[0] ^= word;
    }

    #[inline]
    fn round(&mut self) {
        let [mut a, mut b, mut c, mut d] = self.0;
        a = a.wrapping_add(b);
        b = b.rotate_left(13) ^ a;
        a = a.rotate_left(32);
        c = c.wrapping_add(d);
        d = d.rotate_left(16) ^ c;
        a = a.wrapping_add(d);
        d = d.rotate_left(21) ^ a;
        c = c.wrapping_add(b);
        b = b.rotate_left(17) ^ c;
        c = c.rotate_left(32);
        self.0 = [a, b, c, d];
    }
}

#[cfg(test)]
mod tests {
    use std::hash::{DefaultHasher, Hasher};

    use super::*;

    #[test]
    fn without_a_secret_it_is_the_hash_of_the_standard_library() {
        let bytes: Vec<u8> = (0..200).collect();
        for length in 0..bytes.len() {
            let mut theirs = DefaultHasher::new();
            theirs.write(&bytes[..length]);
            assert_eq!(KeyHasher::new([0; 16]).sip(&bytes[..length]), theirs.finish(), "{length} bytes");
        }
    }

    #[test]
    fn every_part_of_the_secret_counts() {
        let plain = KeyHasher::new([0; 16]).hash("key");
        for i in 0..16 {
            let mut secret = [0; 16];
            secret[i] = 1;
            assert_ne!(KeyHasher::new(secret).hash("key"), plain);
        }
    }

    #[test]
    fn types_do_not_meet() {
        let hasher = KeyHasher::new(*b"0123456789abcdef");
        assert_eq!(hasher.hash("key"), hasher.hash(b"key"));
        assert_ne!(hasher.hash(&1), hasher.hash("1"));
        assert_ne!(hasher.hash(&("a", "b")), hasher.hash("ab"));
        assert_eq!(
            hasher.hash_ip([127, 0, 0, 1].into()),
            hasher.hash_ip("::ffff:127.0.0.1".parse().unwrap())
        );
        assert_eq!(format!("{hasher:?}"), "KeyHasher { .. }");
    }
}
