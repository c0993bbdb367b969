//! The promise of `buttress::placement`: every key, hash and owner of the golden file, which a program in
//! another language wrote, is what this crate computes.

use std::{collections::HashSet, net::IpAddr};

use buttress::placement::{
    JumpShards, KeyEncoder, KeyHash, KeyHasher, Maglev, Placement, Rendezvous, Ring, ShardKey, SlotMap,
};
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

impl Key {
    fn keyed(&self, hasher: &KeyHasher) -> KeyHash {
        match self {
            Key::Ip(ip) => hasher.hash_ip(*ip),
            key => hasher.hash(key),
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

type Nodes = Vec<(String, u32)>;
type OfText = Box<dyn Fn(&str) -> KeyHash>;

/// A placement of the file, and how it hashes text, if not as all do.
struct Golden {
    name: String,
    placement: Box<dyn Placement>,
    of_text: Option<OfText>,
}

/// A placement as the file writes it; `None` where a feature is missing.
#[allow(clippy::unnecessary_wraps, reason = "with all features there is always one")]
fn parse(line: &str) -> Option<Golden> {
    let [kind, name, setting, nodes] = line.split('\t').collect::<Vec<_>>()[..] else {
        panic!("not a placement: {line}");
    };
    let setting: u32 = setting.parse().expect("a number");
    let list = || serde_json::from_str::<Nodes>(nodes).expect("a list of nodes");
    let mut of_text: Option<OfText> = None;
    let placement: Box<dyn Placement> = match kind {
        "ring" => Box::new(Ring::builder().vnodes(setting).build(list()).expect("a ring")),
        "rendezvous" => Box::new(Rendezvous::new(list()).expect("nodes")),
        "slots" => {
            let history: Vec<Nodes> = serde_json::from_str(nodes).expect("lists of nodes");
            let mut history = history.into_iter();
            let first = SlotMap::with_slots(setting, history.next().expect("a list")).expect("slots");
            Box::new(history.fold(first, |map, nodes| map.rebalanced(nodes).expect("nodes")))
        }
        "maglev" => Box::new(Maglev::with_table(setting, list()).expect("a table")),
        "jump" => Box::new(JumpShards::new(u32::try_from(list().len()).expect("few nodes"))),
        #[cfg(feature = "ketama")]
        "ketama" => {
            use buttress::placement::KetamaPlacement;
            of_text = Some(Box::new(|text| KetamaPlacement::key(text)));
            Box::new(KetamaPlacement::new(list()).expect("nodes"))
        }
        #[cfg(feature = "hashring")]
        "hashring" => {
            let entries = list().into_iter().enumerate().flat_map(|(i, (name, weight))| {
                (0..weight * setting).map(move |copy| ((name.clone(), copy), i))
            });
            let ring = buttress::placement::HashringPlacement::new(entries).expect("entries");
            let hasher = ring.clone();
            of_text = Some(Box::new(move |text| hasher.key(text)));
            Box::new(ring)
        }
        #[cfg(not(all(feature = "ketama", feature = "hashring")))]
        "ketama" | "hashring" => return None,
        other => panic!("unknown placement: {other}"),
    };
    Some(Golden { name: name.to_owned(), placement, of_text })
}

#[test]
fn every_golden_key_has_its_hashes_and_its_owners() {
    let head = GOLDEN.lines().skip(1).take_while(|line| !line.starts_with("key\t"));
    let placements: Vec<_> = head.map(parse).collect();
    assert_eq!(placements.len(), 13);
    let secret = KeyHasher::new(std::array::from_fn(|i| u8::try_from(i).expect("16 bytes")));

    let mut owners_checked = 0;
    for line in GOLDEN.lines().skip_while(|line| !line.starts_with("key\t")).skip(1) {
        let mut columns = line.split('\t');
        let text = columns.next().expect("a key");
        let key = Key::parse(&serde_json::from_str(text).expect("a key in JSON"));
        let hash = key.hash();
        for hash in [hash, key.keyed(&secret), hash.rehashed()] {
            assert_eq!(columns.next(), Some(&*format!("{hash:016x}")), "hash of {text}");
        }
        for golden in &placements {
            let expected = columns.next().expect("a column for each placement");
            let Some(golden) = golden else { continue };
            let hash = match (&golden.of_text, &key) {
                (None, _) => hash,
                (Some(of_text), Key::Text(text)) => of_text(text),
                (Some(_), _) => {
                    assert_eq!(expected, "-");
                    continue;
                }
            };
            let owners = golden.placement.replicas(hash, 2);
            assert_eq!(golden.placement.locate(hash), owners.first().copied());
            let owners: Vec<_> = owners.iter().map(usize::to_string).collect();
            assert_eq!(owners.join(","), expected, "owners of {text} under {}", golden.name);
            owners_checked += 1;
        }
        assert_eq!(columns.next(), None);
    }
    assert!(owners_checked >= 100_000, "only {owners_checked} vectors");
}

#[test]
fn every_node_that_may_own_keys_owns_some_golden_key() {
    for golden in GOLDEN.lines().skip(1).take_while(|line| !line.starts_with("key\t")).filter_map(parse) {
        let of = |text: &str| golden.of_text.as_ref().map_or_else(|| KeyHash::of(text), |hash| hash(text));
        let placement = &golden.placement;
        let owners: HashSet<_> =
            (0..10_000).filter_map(|i| placement.locate(of(&format!("user:{i}")))).collect();
        let able = |&i: &usize| placement.node(i).is_none_or(|(_, weight)| weight > 0);
        assert_eq!(owners.len(), (0..placement.len()).filter(able).count(), "{}", golden.name);
    }
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

#[cfg(feature = "serde")]
#[test]
fn maps_and_plans_can_be_stored() {
    let map = SlotMap::with_slots(64, [("a", 1), ("b", 1), ("c", 2)]).unwrap().pinned(5, "b").unwrap();
    let json = serde_json::to_string(&map).unwrap();
    assert_eq!(serde_json::from_str::<SlotMap>(&json).unwrap(), map);

    let plan = map.plan(&map.rebalanced([("a", 1), ("b", 1), ("d", 2)]).unwrap()).unwrap();
    let json = serde_json::to_string(&plan).unwrap();
    assert_eq!(serde_json::from_str::<buttress::placement::SlotPlan>(&json).unwrap(), plan);

    for wrong in [
        r#"{"nodes":[["a",1]],"owners":[0,0,0],"pins":[]}"#,
        r#"{"nodes":[["a",1]],"owners":[0,1],"pins":[]}"#,
        r#"{"nodes":[["a",1],["a",1]],"owners":[0,1],"pins":[]}"#,
        r#"{"nodes":[["a",1]],"owners":[0,65535],"pins":[2]}"#,
    ] {
        assert!(serde_json::from_str::<SlotMap>(wrong).is_err(), "{wrong}");
    }
    assert!(serde_json::from_str::<SlotMap>(r#"{"nodes":[["a",1]],"owners":[0,65535],"pins":[1]}"#).is_ok());
}
