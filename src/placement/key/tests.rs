use proptest::prelude::*;

use super::*;

fn encoding<K: ShardKey + ?Sized>(key: &K) -> Vec<u8> {
    let mut encoder = KeyEncoder::new();
    key.encode(&mut encoder);
    encoder.encoding().to_vec()
}

/// Any key that the crate can encode, two tuples deep.
#[derive(Clone, Debug, PartialEq)]
enum Key {
    Bytes(Vec<u8>),
    Unsigned(u128),
    Signed(i128),
    Pair(Box<(Key, Key)>),
    Triple(Box<(Key, Key, Key)>),
}

impl ShardKey for Key {
    fn encode(&self, to: &mut KeyEncoder) {
        match self {
            Key::Bytes(bytes) => bytes.encode(to),
            Key::Unsigned(n) => n.encode(to),
            Key::Signed(n) => n.encode(to),
            Key::Pair(pair) => pair.encode(to),
            Key::Triple(triple) => triple.encode(to),
        }
    }
}

impl Key {
    /// The same value is the same key, whatever its type.
    fn canonical(self) -> Self {
        match self {
            Key::Signed(n) if n >= 0 => Key::Unsigned(n.unsigned_abs()),
            Key::Pair(pair) => Key::Pair(Box::new((pair.0.canonical(), pair.1.canonical()))),
            Key::Triple(t) => Key::Triple(Box::new((t.0.canonical(), t.1.canonical(), t.2.canonical()))),
            other => other,
        }
    }
}

fn any_key() -> impl Strategy<Value = Key> {
    // Few values, so that equal keys and near misses do occur.
    let bytes = prop_oneof![
        prop::collection::vec(0_u8..10, 0..4),
        prop::collection::vec(any::<u8>(), 0..120),
        // What would look like an integer or a tuple, were strings not framed.
        Just(vec![tag::UNSIGNED, 0, 0, 0, 0, 0, 0, 0, 1]),
        Just(vec![tag::TUPLE, 2]),
    ];
    let leaf = prop_oneof![
        bytes.prop_map(Key::Bytes),
        prop_oneof![0_u128..4, any::<u128>(), any::<u64>().prop_map(u128::from)].prop_map(Key::Unsigned),
        prop_oneof![-4_i128..4, any::<i128>(), any::<i64>().prop_map(i128::from)].prop_map(Key::Signed),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|pair| Key::Pair(Box::new(pair))),
            (inner.clone(), inner.clone(), inner).prop_map(|triple| Key::Triple(Box::new(triple))),
        ]
    })
}

proptest! {
    #[test]
    fn no_encoding_is_a_prefix_of_another(a in any_key(), b in any_key()) {
        let same = a.clone().canonical() == b.clone().canonical();
        prop_assert_eq!(encoding(&a) == encoding(&b), same);
        prop_assert_eq!(encoding(&a).starts_with(&encoding(&b)), same);
    }

    #[test]
    fn the_quick_hash_is_the_hash_of_the_encoding(bytes: Vec<u8>, text: String, n: i128, m: u64) {
        struct Slow<K>(K);
        impl<K: ShardKey> ShardKey for Slow<K> {
            fn encode(&self, to: &mut KeyEncoder) {
                self.0.encode(to);
            }
        }
        prop_assert_eq!(KeyHash::of(&bytes), KeyHash::of(&Slow(&bytes)));
        prop_assert_eq!(KeyHash::of(&text), KeyHash::of(&Slow(&text)));
        prop_assert_eq!(KeyHash::of(&n), KeyHash::of(&Slow(n)));
        prop_assert_eq!(KeyHash::of(&m), KeyHash::of(&Slow(m)));
    }
}

#[test]
fn a_plain_string_hashes_like_any_xxh3_library_does() {
    // Published XXH3 results.
    assert_eq!(KeyHash::of("").get(), 0x2d06_8005_38d3_94c2);
    assert_eq!(KeyHash::of("a").get(), 0xe6c6_32b6_1e96_4e1f);
    assert_eq!(KeyHash::of("user:42").get(), 0x9fc1_e605_fa71_74aa);
}

#[test]
fn encodings_are_as_documented() {
    assert_eq!(encoding("ab"), [1, 0, 0, 0, 0, 0, 0, 0, 2, b'a', b'b']);
    assert_eq!(encoding(&258_u16), [2, 0, 0, 0, 0, 0, 0, 1, 2]);
    assert_eq!(encoding(&-2_i8), [3, 255, 255, 255, 255, 255, 255, 255, 254]);
    assert_eq!(encoding(&(1_u128 << 64)), [4, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(encoding(&i128::MIN), [5, 128, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(encoding(&("", 1)), [8, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1]);
}

#[test]
fn a_value_is_one_key_whatever_its_type() {
    let seven = KeyHash::of(&7_u8);
    assert!(
        [KeyHash::of(&7_i64), KeyHash::of(&7_usize), KeyHash::of(&7_u128), KeyHash::of(&7_i128)]
            .iter()
            .all(|&other| other == seven)
    );
    assert_eq!(KeyHash::of(&-7_i8), KeyHash::of(&-7_i128));

    let text = KeyHash::of("key");
    assert_eq!(text, KeyHash::of(b"key"));
    assert_eq!(text, KeyHash::of(&b"key"[..]));
    assert_eq!(text, KeyHash::of(&Bytes::from("key")));
    assert_eq!(text, KeyHash::of(&Cow::Borrowed("key")));
    assert_eq!(text, KeyHash::of(&Arc::<str>::from("key")));
}

#[test]
fn types_do_not_meet() {
    let one = KeyHash::of(&1_u64);
    assert_ne!(one, KeyHash::of(&1_u64.to_be_bytes()));
    assert_ne!(one, KeyHash::of(&encoding(&1_u64)));
    assert_ne!(one, KeyHash::of("1"));
    assert_ne!(KeyHash::of(&("a", "b")), KeyHash::of(&encoding(&("a", "b"))));
    assert_ne!(KeyHash::from_ip([0, 0, 0, 1].into()), one);
}

#[test]
fn long_keys_spill_and_hash_alike() {
    let text = "x".repeat(INLINE);
    assert_eq!(encoding(&text).len(), INLINE + 9);
    assert_ne!(KeyHash::of(&(&text, 1)), KeyHash::of(&(&text, 2)));
    assert_eq!(KeyHash::of(&(&text, 1)), KeyHash::of(&(text.clone(), 1_u8)));
}

#[test]
#[should_panic(expected = "put several into a tuple")]
#[cfg(debug_assertions)]
fn two_values_are_not_a_key() {
    struct Two;
    impl ShardKey for Two {
        fn encode(&self, to: &mut KeyEncoder) {
            1.encode(to);
            2.encode(to);
        }
    }
    KeyHash::of(&Two);
}

#[test]
fn ipv4_counts_whole_and_ipv6_by_its_upper_half() {
    let ip = |text: &str| KeyHash::from_ip(text.parse().unwrap());
    assert_eq!(ip("10.0.0.1"), ip("::ffff:10.0.0.1"));
    assert_ne!(ip("10.0.0.1"), ip("10.0.0.2"));
    assert_eq!(ip("2001:db8:1:2:3:4:5:6"), ip("2001:db8:1:2::"));
    assert_ne!(ip("2001:db8:1:2::"), ip("2001:db8:1:3::"));
    // Not a mapped address, however much it looks like one.
    assert_ne!(ip("10.0.0.1"), ip("::10.0.0.1"));
}
