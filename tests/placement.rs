//! The promise of `buttress::placement`: every key, hash and owner of the golden file, which a program in
//! another language wrote, is what this crate computes.

use std::{collections::HashSet, net::IpAddr};

use buttress::placement::{KeyEncoder, KeyHash, Placement, Ring, ShardKey};
use serde_json::Value;

const GOLDEN: &str = include_str!("golden/placement.tsv");

/// A key as the file writes it.
enum Key {
    Text(String),
    Bytes(Vec<u8>),
    Unsigned(u128),
    Signed(i128),
    Tuple(Vec<Key>),
    Ip(IpAddr),
}

impl Key {
    fn parse(value: &Value) -> Self {
        match value {
            Value::String(text) => Key::Text(text.clone()),
            Value::Array(parts) => Key::Tuple(parts.iter().map(Key::parse).collect()),
            Value::Number(n) => Key::integer(&n.to_string()),
            Value::Object(map) => {
                let (kind, text) = map.iter().next().expect("an object has one field");
                let text = text.as_str().expect("the field is a string");
                match kind.as_str() {
                    "bytes" => Key::Bytes(unhex(text)),
                    "int" => Key::integer(text),
                    "ip" => Key::Ip(text.parse().expect("an address")),
                    other => panic!("unknown kind of key: {other}"),
                }
            }
            other => panic!("not a key: {other}"),
        }
    }

    fn integer(text: &str) -> Self {
        text.parse().map(Key::Unsigned).or_else(|_| text.parse().map(Key::Signed)).expect("an integer")
    }

    fn hash(&self) -> KeyHash {
        match self {
            Key::Ip(ip) => KeyHash::from_ip(*ip),
            key => KeyHash::of(key),
        }
    }
}

impl ShardKey for Key {
    fn encode(&self, to: &mut KeyEncoder) {
        match self {
            Key::Text(text) => text.encode(to),
            Key::Bytes(bytes) => bytes.encode(to),
            Key::Unsigned(n) => n.encode(to),
            Key::Signed(n) => n.encode(to),
            Key::Tuple(parts) => match &parts[..] {
                [a, b] => (a, b).encode(to),
                [a, b, c] => (a, b, c).encode(to),
                [a, b, c, d] => (a, b, c, d).encode(to),
                other => panic!("no vector has a tuple of {}", other.len()),
            },
            Key::Ip(_) => panic!("an address is hashed, not encoded"),
        }
    }
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).expect("hex digits")).collect()
}

fn parse_ring(line: &str) -> Option<Ring> {
    let ["ring", _, vnodes, nodes] = line.split('\t').collect::<Vec<_>>()[..] else { return None };
    let nodes: Vec<(String, u32)> = serde_json::from_str(nodes).expect("a list of nodes");
    Some(Ring::builder().vnodes(vnodes.parse().expect("a number")).build(nodes).expect("a ring"))
}

#[test]
fn every_golden_key_has_its_hash_and_its_owners() {
    let rings: Vec<_> = GOLDEN.lines().filter_map(parse_ring).collect();
    assert_eq!(rings.len(), 3);

    let mut count = 0;
    for line in GOLDEN.lines().skip_while(|line| !line.starts_with("key\t")).skip(1) {
        let mut columns = line.split('\t');
        let key = columns.next().expect("a key");
        let hash = Key::parse(&serde_json::from_str(key).expect("a key in JSON")).hash();
        assert_eq!(Some(&*format!("{hash:016x}")), columns.next(), "hash of {key}");
        for ring in &rings {
            let owners = ring.replicas(hash, 2);
            assert_eq!(ring.locate(hash), owners.first().copied());
            let owners: Vec<_> = owners.iter().map(usize::to_string).collect();
            assert_eq!(Some(&*owners.join(",")), columns.next(), "owners of {key} on {ring:?}");
        }
        count += 1;
    }
    assert!(count >= 10_000, "only {count} vectors");
}

#[test]
fn every_node_that_may_own_keys_owns_some_golden_key() {
    let ring = GOLDEN.lines().find_map(parse_ring).expect("a ring");
    let owners: HashSet<_> =
        (0..10_000).filter_map(|i| ring.locate(KeyHash::of(&format!("user:{i}")))).collect();
    assert_eq!(owners.len(), ring.len());
}

#[test]
fn a_placement_is_an_object_that_threads_share() {
    fn shared<T: Send + Sync + Clone + 'static>(_: &T) {}
    let ring = Ring::new([("a", 1), ("b", 1)]).unwrap();
    shared(&ring);
    let dynamic: std::sync::Arc<dyn Placement> = std::sync::Arc::new(ring.clone());
    shared(&dynamic);
    let key = KeyHash::of("key");
    assert_eq!(dynamic.locate(key), ring.locate(key));
    assert_eq!(dynamic.replicas(key, 9), ring.replicas(key, 9));
    assert_eq!(format!("{dynamic:?}"), "Ring { nodes: 2, vnodes: 160, points: 320 }");
}
