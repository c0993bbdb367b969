//! What is placed: a key, its canonical bytes, and their hash.

mod secret;

use std::{borrow::Cow, fmt, net::IpAddr, rc::Rc, sync::Arc};

use bytes::Bytes;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

pub use self::secret::KeyHasher;

/// Keeps structured keys apart from plain strings: the ASCII letters `buttress`, read as a big-endian number.
const STRUCTURED: u64 = u64::from_be_bytes(*b"buttress");

/// Longest encoding that is built without an allocation. A tuple of a 40-byte string and three integers fits.
const INLINE: usize = 96;

/// First byte of every encoding. The values are part of the compatibility promise.
mod tag {
    pub(super) const BYTES: u8 = 1;
    pub(super) const UNSIGNED: u8 = 2;
    pub(super) const NEGATIVE: u8 = 3;
    pub(super) const UNSIGNED_WIDE: u8 = 4;
    pub(super) const NEGATIVE_WIDE: u8 = 5;
    pub(super) const IPV4: u8 = 6;
    pub(super) const IPV6_PREFIX: u8 = 7;
    pub(super) const TUPLE: u8 = 8;
    pub(super) const POINT: u8 = 9;
}

/// The hash of a key: all that a [`Placement`](super::Placement) needs to know of it.
///
/// Compute it once per request and pass it along; it is eight bytes and `Copy`. The same key has the same
/// hash in every process, on every machine and in every version of this crate (see the [module docs](super)).
///
/// The hash is public and has no secret: whoever may choose keys freely can aim them all at one node. Where
/// that matters, hash with a [`KeyHasher`].
///
/// ```
/// use buttress::placement::KeyHash;
///
/// let hash = KeyHash::of("user:42");
/// assert_eq!(hash, KeyHash::of(b"user:42"));
/// assert_eq!(hash, KeyHash::of(&String::from("user:42")));
/// assert_ne!(KeyHash::of(&("user", 42)), KeyHash::of(&("user4", 2)));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyHash(u64);

impl KeyHash {
    /// Hashes a key. O(length), no allocation unless a structured key's encoding exceeds 96 bytes.
    #[inline]
    pub fn of<K: ShardKey + ?Sized>(key: &K) -> Self {
        key.key_hash()
    }

    /// Hashes a client address, for affinity by network place rather than by name.
    ///
    /// An IPv4-mapped IPv6 address counts as the IPv4 address that it is. Of an IPv6 address only the /64
    /// prefix counts: hosts change the lower half at will (RFC 8981), and all of it usually belongs to one
    /// customer.
    ///
    /// ```
    /// use buttress::placement::KeyHash;
    ///
    /// let ip = |s: &str| s.parse().map(KeyHash::from_ip);
    /// assert_eq!(ip("192.0.2.1")?, ip("::ffff:192.0.2.1")?);
    /// assert_eq!(ip("2001:db8::1")?, ip("2001:db8::2")?);
    /// assert_ne!(ip("2001:db8::1")?, ip("2001:db8:0:1::1")?);
    /// # Ok::<(), std::net::AddrParseError>(())
    /// ```
    pub fn from_ip(ip: IpAddr) -> Self {
        let (encoding, len) = address(ip);
        Self::structured(&encoding[..len])
    }

    /// Takes a hash made elsewhere. It must be spread evenly over all 64 bits, or some nodes get more than
    /// others.
    #[inline]
    pub const fn from_u64(hash: u64) -> Self {
        Self(hash)
    }

    /// An independent hash of the same key, for a second placement inside of what the first one chose.
    ///
    /// A shard of a [`SlotMap`](super::SlotMap) sees only hashes that begin alike: a ring among its replicas
    /// would put nearly all of them on one node. Hashed once more they are even again. It is the first number of
    /// `SplitMix64` with this hash as its seed.
    ///
    /// ```
    /// use buttress::placement::{KeyHash, Placement, Ring, SlotMap};
    ///
    /// let shards = SlotMap::new([("shard-a", 1), ("shard-b", 1)])?;
    /// let caches = Ring::new([("cache-a", 1), ("cache-b", 1)])?;
    /// let key = KeyHash::of("user:42");
    /// let (shard, cache) = (shards.locate(key), caches.locate(key.rehashed()));
    /// # assert!(shard.is_some() && cache.is_some());
    /// # Ok::<(), buttress::placement::PlacementError>(())
    /// ```
    #[must_use = "the hash itself stays as it is"]
    pub const fn rehashed(self) -> Self {
        Self(Sequence::new(self.0).draw())
    }

    /// The hash as a number.
    #[inline]
    pub const fn get(self) -> u64 {
        self.0
    }

    #[inline]
    fn plain(bytes: &[u8]) -> Self {
        Self(xxh3_64(bytes))
    }

    #[inline]
    fn structured(encoding: &[u8]) -> Self {
        Self(xxh3_64_with_seed(encoding, STRUCTURED))
    }
}

/// `SplitMix64` (Steele, Lea, Flood, 2014): numbers that a seed determines.
pub(super) struct Sequence(u64);

impl Sequence {
    #[inline]
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    #[inline]
    pub(super) const fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyHash({:#018x})", self.0)
    }
}

impl fmt::LowerHex for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::LowerHex::fmt(&self.0, f)
    }
}

/// Something that a value lives under: a user id, a URL, a tenant and a document.
///
/// `std::hash::Hash` will not do for placement, since what it feeds to a hasher depends on the machine and
/// may change with the compiler. A `ShardKey` has one encoding, by value rather than by type:
///
/// | key | encoding |
/// |---|---|
/// | `str`, `String`, `[u8]`, `Vec<u8>`, `[u8; N]`, `Bytes` | `01`, length as 8 bytes, the bytes |
/// | integer from 0 up to 2⁶⁴ − 1 | `02`, 8 bytes |
/// | integer from −2⁶³ up to −1 | `03`, 8 bytes, two's complement |
/// | integer from 2⁶⁴ up | `04`, 16 bytes |
/// | integer below −2⁶³ | `05`, 16 bytes, two's complement |
/// | tuple of 2 to 6 keys | `08`, number of keys as 1 byte, each key's encoding |
///
/// All numbers are big endian. No encoding is a prefix of another, so `("ab", "c")` and `("a", "bc")` differ.
/// A string and its bytes are the same key, and so are `7_u8`, `7_i64` and `7_usize`: a column may be widened
/// without moving a row.
///
/// The hash is XXH3-64 with the seed `0x6275747472657373` (ASCII `buttress`) of the encoding, with one
/// exception: a string on its own is hashed as it is, with seed 0. So any XXH3 library in any language gives
/// the hash of plain keys with one call. Client addresses ([`KeyHash::from_ip`]) are `06` with 4 bytes or
/// `07` with the upper 8 bytes.
///
/// # Own types
///
/// Encode exactly one value; several fields go into a tuple.
///
/// ```
/// use buttress::placement::{KeyEncoder, KeyHash, ShardKey};
///
/// struct Document {
///     tenant: u32,
///     path: String,
///     draft: bool,
/// }
///
/// impl ShardKey for Document {
///     fn encode(&self, to: &mut KeyEncoder) {
///         // `draft` is not part of the key: a draft lives beside its document.
///         (self.tenant, &self.path).encode(to);
///     }
/// }
///
/// let document = Document { tenant: 7, path: "/a".into(), draft: true };
/// assert_eq!(KeyHash::of(&document), KeyHash::of(&(7, "/a")));
/// # let _ = document.draft;
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no canonical encoding, so it cannot be a shard key",
    note = "use a string, bytes, an integer or a tuple of these, or implement `ShardKey` by encoding such a tuple"
)]
pub trait ShardKey {
    /// Writes this key's encoding: exactly one value.
    fn encode(&self, to: &mut KeyEncoder);

    /// The hash of the encoding. Override it only to get the same result faster.
    #[inline]
    fn key_hash(&self) -> KeyHash {
        let mut encoder = KeyEncoder::new();
        self.encode(&mut encoder);
        encoder.finish()
    }
}

/// Collects the encoding of a [`ShardKey`]. Filled by encoding a string, an integer or a tuple into it.
pub struct KeyEncoder {
    inline: [u8; INLINE],
    len: usize,
    /// Holds everything, once `inline` is too small.
    spill: Vec<u8>,
    /// Values that are still to come: one at first, and a tuple's parts on top.
    missing: usize,
}

impl KeyEncoder {
    #[inline]
    fn new() -> Self {
        Self { inline: [0; INLINE], len: 0, spill: Vec::new(), missing: 1 }
    }

    fn finish(&self) -> KeyHash {
        match self.finished() {
            [tag::BYTES, rest @ ..] => KeyHash::plain(rest.get(8..).unwrap_or_default()),
            encoding => KeyHash::structured(encoding),
        }
    }

    fn finished(&self) -> &[u8] {
        debug_assert!(
            self.missing == 0,
            "a shard key must encode exactly one value: put several into a tuple"
        );
        self.encoding()
    }

    fn encoding(&self) -> &[u8] {
        if self.spill.is_empty() { &self.inline[..self.len] } else { &self.spill }
    }

    #[inline]
    fn value(&mut self, head: &[u8], body: &[u8]) {
        debug_assert!(
            self.missing > 0,
            "a shard key must encode exactly one value: put several into a tuple"
        );
        self.missing = self.missing.saturating_sub(1);
        self.write(head);
        self.write(body);
    }

    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        if self.spill.is_empty() {
            if let Some(room) = self.inline[self.len..].get_mut(..bytes.len()) {
                room.copy_from_slice(bytes);
                self.len += bytes.len();
                return;
            }
            self.spill.reserve(self.len + bytes.len());
            self.spill.extend_from_slice(&self.inline[..self.len]);
        }
        self.spill.extend_from_slice(bytes);
    }

    #[inline]
    fn bytes(&mut self, bytes: &[u8]) {
        let (head, len) = tagged(tag::BYTES, &(bytes.len() as u64).to_be_bytes());
        self.value(&head[..len], bytes);
    }

    #[inline]
    fn tuple(&mut self, parts: u8) {
        self.value(&[tag::TUPLE, parts], &[]);
        self.missing += usize::from(parts);
    }
}

impl fmt::Debug for KeyEncoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyEncoder({:02x?})", self.encoding())
    }
}

/// The encoding of a ring's points: `09`, the node's id and the point's number, each encoded as a key.
///
/// Made once per node, so that only the last eight bytes change from point to point.
pub(super) struct PointEncoder(Vec<u8>);

impl PointEncoder {
    pub(super) fn new(id: &str) -> Self {
        let mut encoding = Vec::with_capacity(id.len() + 19);
        encoding.extend([tag::POINT, tag::BYTES]);
        encoding.extend((id.len() as u64).to_be_bytes());
        encoding.extend(id.as_bytes());
        encoding.push(tag::UNSIGNED);
        encoding.extend([0; 8]);
        Self(encoding)
    }

    pub(super) fn hash(&mut self, number: u64) -> u64 {
        let digits = self.0.len() - 8;
        self.0[digits..].copy_from_slice(&number.to_be_bytes());
        KeyHash::structured(&self.0).get()
    }
}

macro_rules! bytes_key {
    ($($type:ty => $as_bytes:expr;)*) => {$(
        impl ShardKey for $type {
            #[inline]
            fn encode(&self, to: &mut KeyEncoder) {
                to.bytes($as_bytes(self));
            }

            #[inline]
            fn key_hash(&self) -> KeyHash {
                KeyHash::plain($as_bytes(self))
            }
        }
    )*};
}

bytes_key! {
    str => str::as_bytes;
    String => String::as_bytes;
    [u8] => <[u8]>::as_ref;
    Vec<u8> => Vec::as_slice;
    Bytes => Bytes::as_ref;
}

impl<const N: usize> ShardKey for [u8; N] {
    #[inline]
    fn encode(&self, to: &mut KeyEncoder) {
        to.bytes(self);
    }

    #[inline]
    fn key_hash(&self) -> KeyHash {
        KeyHash::plain(self)
    }
}

macro_rules! integer_key {
    ($encoding:ident($wide:ty): $($type:ty)*) => {$(
        impl ShardKey for $type {
            #[inline]
            #[allow(clippy::cast_lossless, reason = "`usize` and `isize` have no lossless way to say it")]
            fn encode(&self, to: &mut KeyEncoder) {
                let (encoding, len) = $encoding(*self as $wide);
                to.value(&encoding[..len], &[]);
            }

            #[inline]
            #[allow(clippy::cast_lossless, reason = "`usize` and `isize` have no lossless way to say it")]
            fn key_hash(&self) -> KeyHash {
                let (encoding, len) = $encoding(*self as $wide);
                KeyHash::structured(&encoding[..len])
            }
        }
    )*};
}

integer_key! { unsigned(u128): u8 u16 u32 u64 usize u128 }
integer_key! { signed(i128): i8 i16 i32 i64 isize i128 }

/// The encoding of an integer: the first so many bytes.
#[inline]
fn unsigned(n: u128) -> ([u8; 17], usize) {
    match u64::try_from(n) {
        Ok(small) => tagged(tag::UNSIGNED, &small.to_be_bytes()),
        Err(_) => tagged(tag::UNSIGNED_WIDE, &n.to_be_bytes()),
    }
}

#[inline]
fn signed(n: i128) -> ([u8; 17], usize) {
    if let Ok(n) = u128::try_from(n) {
        return unsigned(n);
    }
    match i64::try_from(n) {
        Ok(small) => tagged(tag::NEGATIVE, &small.to_be_bytes()),
        Err(_) => tagged(tag::NEGATIVE_WIDE, &n.to_be_bytes()),
    }
}

/// The encoding of a client address.
fn address(ip: IpAddr) -> ([u8; 17], usize) {
    match ip.to_canonical() {
        IpAddr::V4(v4) => tagged(tag::IPV4, &v4.octets()),
        IpAddr::V6(v6) => tagged(tag::IPV6_PREFIX, &v6.octets()[..8]),
    }
}

/// A tag and at most 16 bytes, and the length of both.
#[inline]
fn tagged(tag: u8, bytes: &[u8]) -> ([u8; 17], usize) {
    let mut encoding = [tag; 17];
    encoding[1..=bytes.len()].copy_from_slice(bytes);
    (encoding, bytes.len() + 1)
}

macro_rules! tuple_key {
    ($($count:literal: $($name:ident)*;)*) => {$(
        impl<$($name: ShardKey),*> ShardKey for ($($name,)*) {
            #[inline]
            fn encode(&self, to: &mut KeyEncoder) {
                #[expect(non_snake_case, reason = "one name serves for the type and for its value")]
                let ($($name,)*) = self;
                to.tuple($count);
                $($name.encode(to);)*
            }
        }
    )*};
}

tuple_key! {
    2: A B;
    3: A B C;
    4: A B C D;
    5: A B C D E;
    6: A B C D E F;
}

macro_rules! pointer_key {
    ($($type:ty)*) => {$(
        impl<K: ShardKey + ?Sized> ShardKey for $type {
            #[inline]
            fn encode(&self, to: &mut KeyEncoder) {
                (**self).encode(to);
            }

            #[inline]
            fn key_hash(&self) -> KeyHash {
                (**self).key_hash()
            }
        }
    )*};
}

pointer_key! { &K &mut K Box<K> Rc<K> Arc<K> }

impl<K: ShardKey + ToOwned + ?Sized> ShardKey for Cow<'_, K> {
    #[inline]
    fn encode(&self, to: &mut KeyEncoder) {
        (**self).encode(to);
    }

    #[inline]
    fn key_hash(&self) -> KeyHash {
        (**self).key_hash()
    }
}

#[cfg(test)]
mod tests;
