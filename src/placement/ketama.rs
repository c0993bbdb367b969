//! The placement of nginx and of `pingora-ketama`.

use std::fmt;

use super::{
    KeyHash, Placement, PlacementError, Ranges, Replicas, ZonedReplicas, Zones,
    nodes::{NodeList, number},
    points::{Point, Points, sort_points},
    zones,
};

/// Points per unit of weight, as nginx has it.
const VNODES: u64 = 160;

/// See [`RingBuilder::max_points`](super::RingBuilder::max_points) for why there is such a number.
const MAX_POINTS: usize = 1 << 22;

/// Places keys where nginx (`hash … consistent`) and the `pingora-ketama` crate do, so that a service can stand
/// beside them or take over from them without moving a key.
///
/// Use [`Ring`](super::Ring) for anything new: this one has 32-bit points, of which a few coincide in large
/// rings, and a hash that anybody can aim. Hash keys with [`key`](Self::key), not with [`KeyHash::of`].
///
/// Nodes are named as nginx names them: `10.0.0.1:80`, `example.org`, `[2001:db8::1]:80`, `unix:/run/app`. For
/// what `pingora-ketama` makes of an IPv6 address, leave out the brackets: `2001:db8::1:80`.
///
/// **Points.** A node of weight `w` has 160 × w of them. Each is the CRC-32 of host, a zero byte, port, and the
/// point before it as four little-endian bytes, 0 at first. Of points in one place only that of the node whose
/// name sorts first remains; nginx and `pingora-ketama` keep any of them, so on a ring of 1000 nodes some three
/// points in 160 000 may differ.
///
/// It differs in what comes behind the owner: `node_iter` repeats nodes, [`walk`](Placement::walk) has the same
/// order without the repetitions.
///
/// ```
/// use buttress::placement::{KetamaPlacement, Placement};
///
/// let ring = KetamaPlacement::new([("127.0.0.1:7777", 1), ("127.0.0.1:7778", 1)])?;
/// assert_eq!(ring.locate(KetamaPlacement::key("/some/path")), Some(1));
/// # Ok::<(), buttress::placement::PlacementError>(())
/// ```
#[derive(Clone)]
pub struct KetamaPlacement {
    nodes: NodeList,
    points: Points,
}

impl KetamaPlacement {
    /// Builds the placement of these nodes and weights. A node of weight 0 owns nothing. O(points · log points).
    ///
    /// # Errors
    ///
    /// If a name occurs twice, or if there are more than 65 535 nodes or 4 194 304 points.
    pub fn new<I: AsRef<str>>(nodes: impl IntoIterator<Item = (I, u32)>) -> Result<Self, PlacementError> {
        let nodes = NodeList::new(nodes)?;
        let count = nodes.iter().map(|(_, weight)| u64::from(weight) * VNODES).fold(0, u64::saturating_add);
        if count > MAX_POINTS as u64 {
            return Err(PlacementError::TooManyPoints { points: count, max: MAX_POINTS });
        }
        let mut all = Vec::new();
        for (i, (id, weight)) in nodes.iter().enumerate() {
            let name = name_hash(id);
            let mut last = 0_u32;
            for _ in 0..u64::from(weight) * VNODES {
                let mut hash = name.clone();
                hash.update(&last.to_le_bytes());
                last = hash.finalize();
                all.push(Point { hash: place(last), node: number(i) });
            }
        }
        sort_points(&mut all, nodes.by_id());
        all.dedup_by_key(|point| point.hash);
        let mut owns = vec![false; nodes.len()];
        for point in &all {
            owns[usize::from(point.node)] = true;
        }
        let owning = owns.into_iter().filter(|&owns| owns).count();
        let points = Points::sort(&all, nodes.len(), owning, nodes.by_id());
        Ok(Self { nodes, points })
    }

    /// Hashes a key as nginx would. The only hash that this placement understands.
    #[inline]
    pub fn key(key: impl AsRef<[u8]>) -> KeyHash {
        KeyHash::from_u64(place(crc32fast::hash(key.as_ref())))
    }

    /// The nodes and their weights, as listed.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = (&str, u32)> {
        self.nodes.iter()
    }

    /// The name of the node at a position.
    pub fn id(&self, position: usize) -> Option<&str> {
        self.nodes.id(position)
    }
}

/// Where a 32-bit hash is on a circle of 2⁶⁴ places.
#[inline]
fn place(hash: u32) -> u64 {
    u64::from(hash) << 32
}

/// The hash of what comes before a point's number: host, zero byte, port.
fn name_hash(id: &str) -> crc32fast::Hasher {
    let (host, port) = match id.split_at_checked(5) {
        Some((scheme, path)) if scheme.eq_ignore_ascii_case("unix:") => (path, ""),
        _ => id
            .rsplit_once(':')
            .filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()))
            .unwrap_or((id, "")),
    };
    let mut hash = crc32fast::Hasher::new();
    hash.update(host.as_bytes());
    hash.update(&[0]);
    hash.update(port.as_bytes());
    hash
}

impl Placement for KetamaPlacement {
    #[inline]
    fn locate(&self, key: KeyHash) -> Option<usize> {
        self.points.locate(key.get())
    }

    fn walk(&self, key: KeyHash, visit: &mut dyn FnMut(usize) -> bool) {
        self.points.from(key.get()).walk(visit);
    }

    fn len(&self) -> usize {
        self.nodes.len()
    }

    fn replicas(&self, key: KeyHash, count: usize) -> Replicas {
        self.points.from(key.get()).replicas(count)
    }

    fn zoned_replicas(&self, key: KeyHash, count: usize, zones: &Zones) -> ZonedReplicas {
        zones::deal(&self.points.from(key.get()), count, zones)
    }

    fn node(&self, position: usize) -> Option<(&str, u32)> {
        self.nodes.get(position)
    }
}

impl Ranges for KetamaPlacement {
    fn ranges(&self) -> impl Iterator<Item = (u64, Option<usize>)> {
        self.points.ranges()
    }
}

impl fmt::Debug for KetamaPlacement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KetamaPlacement")
            .field("nodes", &self.nodes.len())
            .field("points", &self.points.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use pingora_ketama::{Bucket, Continuum};

    use super::*;

    /// Nodes of which no two points coincide: what becomes of those is up to the sort of the day with them.
    fn nodes(count: u32, weight: impl Fn(u32) -> u32) -> Vec<(String, u32)> {
        let nodes = |net: u32| {
            let address = |i: u32| format!("10.{net}.{}.{}:8080", i / 250, i % 250);
            (0..count).map(|i| (address(i), weight(i))).collect::<Vec<_>>()
        };
        let points = |nodes: &[(String, u32)]| nodes.iter().map(|node| node.1 as usize * 160).sum::<usize>();
        (0..250)
            .map(nodes)
            .find(|nodes| KetamaPlacement::new(nodes.clone()).unwrap().points.len() == points(nodes))
            .expect("one in twenty will do")
    }

    fn theirs(nodes: &[(String, u32)]) -> Continuum {
        let buckets: Vec<_> =
            nodes.iter().map(|(id, weight)| Bucket::new(id.parse().unwrap(), *weight)).collect();
        Continuum::new(&buckets)
    }

    #[test]
    fn every_key_lives_where_pingora_puts_it() {
        for nodes in [nodes(1, |_| 1), nodes(10, |_| 1), nodes(100, |i| i % 3 + 1), nodes(1000, |_| 1)] {
            let theirs = theirs(&nodes);
            let ours = KetamaPlacement::new(nodes.clone()).unwrap();
            let addresses: Vec<std::net::SocketAddr> =
                nodes.iter().map(|node| node.0.parse().unwrap()).collect();
            for key in 0..250_000_u32 {
                let key = format!("/articles/{key}");
                let owner = ours.locate(KetamaPlacement::key(&key)).unwrap();
                assert_eq!(Some(addresses[owner]), theirs.node(key.as_bytes()), "{key} of {}", nodes.len());
            }
        }
    }

    #[test]
    fn the_walk_is_theirs_without_the_repetitions() {
        let nodes = nodes(20, |i| i % 2 + 1);
        let theirs = theirs(&nodes);
        let ours = KetamaPlacement::new(nodes).unwrap();
        for key in 0..1000_u32 {
            let key = key.to_be_bytes();
            let mut expected = Vec::new();
            for address in theirs.node_iter(&key) {
                let address = address.to_string();
                if !expected.contains(&address) {
                    expected.push(address);
                }
                if expected.len() == 20 {
                    break;
                }
            }
            let replicas = ours.replicas(KetamaPlacement::key(key), 20);
            assert_eq!(replicas.iter().map(|&node| ours.id(node).unwrap()).collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn paths_that_nginx_placed_live_there() {
        // From the tests of pingora-ketama, which took them from a running nginx.
        let ring = KetamaPlacement::new([("127.0.0.1:7777", 1), ("127.0.0.1:7778", 1)]).unwrap();
        for (path, owner) in [
            ("/some/path", 1),
            ("/some/longer/path", 0),
            ("/sad/zaidoon", 1),
            ("/g", 0),
            ("/pingora/team/is/cool/and/this/is/a/long/uri", 1),
            ("/i/am/not/confident/in/this/code", 0),
        ] {
            assert_eq!(ring.locate(KetamaPlacement::key(path)), Some(owner), "{path}");
        }
    }

    #[test]
    fn ipv6_without_brackets_is_what_pingora_makes_of_it() {
        let buckets = ["[2001:db8::1]:80", "[2001:db8::2]:80", "[::1]:8080"]
            .map(|address| Bucket::new(address.parse().unwrap(), 1));
        let theirs = Continuum::new(&buckets);
        let ours =
            KetamaPlacement::new([("2001:db8::1:80", 1), ("2001:db8::2:80", 1), ("::1:8080", 1)]).unwrap();
        for key in 0..10_000_u32 {
            let key = key.to_string();
            let owner = ours.id(ours.locate(KetamaPlacement::key(&key)).unwrap()).unwrap();
            let (host, port) = owner.rsplit_once(':').unwrap();
            assert_eq!(theirs.node(key.as_bytes()).unwrap().to_string(), format!("[{host}]:{port}"));
        }
    }

    #[test]
    fn names_are_split_as_nginx_splits_them() {
        let hash = |bytes: &[u8]| crc32fast::hash(bytes);
        for (name, bytes) in [
            ("example.org:80", &b"example.org\x0080"[..]),
            ("example.org", b"example.org\0"),
            ("example.org:", b"example.org\0"),
            ("a:b", b"a:b\0"),
            ("UNIX:/run/app", b"/run/app\0"),
            ("[::1]:80", b"[::1]\x0080"),
            ("größe", "größe\0".as_bytes()),
            ("", b"\0"),
        ] {
            assert_eq!(name_hash(name).finalize(), hash(bytes), "{name}");
        }
    }

    #[test]
    fn what_cannot_be_is_an_error() {
        let error = KetamaPlacement::new([("a", u32::MAX)]).unwrap_err();
        let points = 160 * u64::from(u32::MAX);
        assert_eq!(error, PlacementError::TooManyPoints { points, max: MAX_POINTS });
        assert!(KetamaPlacement::new([("a", 1), ("a", 1)]).is_err());
        assert_eq!(KetamaPlacement::new([("a", 0)]).unwrap().locate(KetamaPlacement::key("key")), None);
    }
}
