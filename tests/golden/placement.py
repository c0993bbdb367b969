#!/usr/bin/env python3
"""Places keys as `buttress::placement` does, from the documented scheme alone; needs nothing but Python 3.

    placement.py            verify placement.tsv
    placement.py --write    write it anew

A changed line in that file means that data would move: such a change is a new scheme, never a fix.
"""

import ipaddress
import json
import sys
import zlib
from bisect import bisect_left
from pathlib import Path

FILE = Path(__file__).with_name("placement.tsv")
M32, M64 = (1 << 32) - 1, (1 << 64) - 1

# --- XXH3, 64 bits -------------------------------------------------------------------------------------------------

P32_1, P32_2, P32_3 = 0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D
P64_1, P64_2, P64_3 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9
P64_4, P64_5 = 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5
MX1, MX2 = 0x165667919E3779F9, 0x9FB21C651E98DF25
SECRET = bytes.fromhex(
    "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671fcb79e64eccc0e578825ad07dccff7221"
    "b8084674f743248ee03590e6813a264c3c2852bb91c300cb88d0658b1b532ea371644897a20df94e3819ef46a9deacd8"
    "a8fa763fe39c343ff9dcbbc7c70b4f1d8a51e04bcdb45931c89f7ec9d9787364eac5ac8334d3ebc3c581a0fffa1363eb"
    "170ddd51b7f0da49d316552629d4689e2b16be587d47a1fc8ff8b8d17ad031ce45cb3a8f95160428afd7fbcabb4b407e"
)


def u32(data, at):
    return int.from_bytes(data[at : at + 4], "little")


def u64(data, at):
    return int.from_bytes(data[at : at + 8], "little")


def rotl(n, by):
    return (n << by | n >> 64 - by) & M64


def fold(a, b):
    product = a * b
    return (product & M64) ^ (product >> 64)


def swap(n, size):
    return int.from_bytes(n.to_bytes(size, "little"), "big")


def avalanche(h):
    h = (h ^ (h >> 37)) * MX1 & M64
    return h ^ (h >> 32)


def avalanche64(h):
    h = (h ^ (h >> 33)) * P64_2 & M64
    h = (h ^ (h >> 29)) * P64_3 & M64
    return h ^ (h >> 32)


def mix16(data, at, secret_at, seed):
    return fold(
        u64(data, at) ^ (u64(SECRET, secret_at) + seed & M64),
        u64(data, at + 8) ^ (u64(SECRET, secret_at + 8) - seed & M64),
    )


def short(data, seed):
    n = len(data)
    if n == 0:
        return avalanche64(seed ^ u64(SECRET, 56) ^ u64(SECRET, 64))
    if n <= 3:
        word = data[0] << 16 | data[n // 2] << 24 | data[-1] | n << 8
        return avalanche64(word ^ ((u32(SECRET, 0) ^ u32(SECRET, 4)) + seed & M64))
    if n <= 8:
        seed ^= swap(seed & M32, 4) << 32
        word = u32(data, n - 4) + (u32(data, 0) << 32)
        h = word ^ ((u64(SECRET, 8) ^ u64(SECRET, 16)) - seed & M64)
        h ^= (h << 49 & M64 | h >> 15) ^ (h << 24 & M64 | h >> 40)
        h = h * MX2 & M64
        h = (h ^ ((h >> 35) + n)) * MX2 & M64
        return h ^ (h >> 28)
    low = u64(data, 0) ^ ((u64(SECRET, 24) ^ u64(SECRET, 32)) + seed & M64)
    high = u64(data, n - 8) ^ ((u64(SECRET, 40) ^ u64(SECRET, 48)) - seed & M64)
    return avalanche(n + swap(low, 8) + high + fold(low, high) & M64)


def medium(data, seed):
    n = len(data)
    acc = n * P64_1
    if n <= 128:
        for i in range((n - 1) // 32 + 1):
            acc += mix16(data, 16 * i, 32 * i, seed)
            acc += mix16(data, n - 16 * (i + 1), 32 * i + 16, seed)
        return avalanche(acc & M64)
    for i in range(8):
        acc += mix16(data, 16 * i, 16 * i, seed)
    acc = avalanche(acc & M64)
    for i in range(8, n // 16):
        acc += mix16(data, 16 * i, 16 * (i - 8) + 3, seed)
    acc += mix16(data, n - 16, 136 - 17, seed)
    return avalanche(acc & M64)


def long(data, seed):
    secret = b"".join(
        (u64(SECRET, at) + (-seed if at % 16 else seed) & M64).to_bytes(8, "little") for at in range(0, 192, 8)
    )
    acc = [P32_3, P64_1, P64_2, P64_3, P64_4, P32_2, P64_5, P32_1]

    def accumulate(at, secret_at):
        for i in range(8):
            value = u64(data, at + 8 * i)
            key = value ^ u64(secret, secret_at + 8 * i)
            acc[i ^ 1] = acc[i ^ 1] + value & M64
            acc[i] = acc[i] + (key & M32) * (key >> 32) & M64

    n = len(data)
    stripes, blocks = (n - 1) // 64, (n - 1) // 1024
    for stripe in range(stripes):
        accumulate(64 * stripe, 8 * (stripe % 16))
        if stripe % 16 == 15:
            for i in range(8):
                acc[i] = ((acc[i] ^ (acc[i] >> 47)) ^ u64(secret, 128 + 8 * i)) * P32_1 & M64
    assert stripes // 16 == blocks
    accumulate(n - 64, 192 - 64 - 7)
    h = n * P64_1
    for i in range(4):
        h += fold(acc[2 * i] ^ u64(secret, 11 + 16 * i), acc[2 * i + 1] ^ u64(secret, 19 + 16 * i))
    return avalanche(h & M64)


def xxh3_64(data, seed=0):
    return (short if len(data) <= 16 else medium if len(data) <= 240 else long)(data, seed)


# --- Keys: text is a string, {"bytes": hex}, {"int": decimal} or a number, {"ip": address}, a tuple is a list ----------

STRUCTURED = int.from_bytes(b"buttress", "big")


def encode(key):
    if isinstance(key, str):
        key = key.encode()
    elif isinstance(key, dict) and "bytes" in key:
        key = bytes.fromhex(key["bytes"])
    if isinstance(key, bytes):
        return b"\x01" + len(key).to_bytes(8, "big") + key
    if isinstance(key, list):
        return bytes([8, len(key)]) + b"".join(map(encode, key))
    if isinstance(key, dict) and "ip" in key:
        ip = ipaddress.ip_address(key["ip"])
        ip = getattr(ip, "ipv4_mapped", None) or ip
        return b"\x06" + ip.packed if ip.version == 4 else b"\x07" + ip.packed[:8]
    n = int(key["int"]) if isinstance(key, dict) else key
    if 0 <= n < 1 << 64:
        return b"\x02" + n.to_bytes(8, "big")
    if -1 << 63 <= n < 0:
        return b"\x03" + n.to_bytes(8, "big", signed=True)
    return b"\x04" + n.to_bytes(16, "big") if n > 0 else b"\x05" + n.to_bytes(16, "big", signed=True)


def key_hash(key):
    encoding = encode(key)
    return xxh3_64(encoding[9:]) if encoding[0] == 1 else xxh3_64(encoding, STRUCTURED)


# --- SipHash, for keys with a secret, and for the hashring crate -----------------------------------------------------


def siphash(rounds, secret, data):
    k0, k1 = u64(secret, 0), u64(secret, 8)
    v = [k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D, k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573]

    def spin(count):
        a, b, c, d = v
        for _ in range(count):
            a, c = a + b & M64, c + d & M64
            b, d, a = rotl(b, 13) ^ a, rotl(d, 16) ^ c, rotl(a, 32)
            a, c = a + d & M64, c + b & M64
            d, b, c = rotl(d, 21) ^ a, rotl(b, 17) ^ c, rotl(c, 32)
        v[:] = a, b, c, d

    data += bytes(7 - len(data) % 8) + bytes([len(data) & 255])
    for at in range(0, len(data), 8):
        v[3] ^= u64(data, at)
        spin(rounds)
        v[0] ^= u64(data, at)
    v[2] ^= 255
    spin(rounds + 2)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


SECRET_OF_KEYS = bytes(range(16))


def keyed_hash(key):
    return siphash(1, SECRET_OF_KEYS, encode(key))


# --- SplitMix64 ------------------------------------------------------------------------------------------------------


def splitmix(state):
    while True:
        state = state + 0x9E3779B97F4A7C15 & M64
        z = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 & M64
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB & M64
        yield z ^ (z >> 31)


# --- The placements: what each says of a key's hash is a list of distinct names --------------------------------------


def point(name, number):
    return xxh3_64(b"\x09" + encode(name) + encode(number), STRUCTURED)


def distinct(names, count):
    found = {}
    for name in names:
        found[name] = True
        if len(found) == count:
            break
    return list(found)


class Points:
    """Points on a circle, as pairs of a hash and a name."""

    def __init__(self, points):
        self.points = sorted(points, key=lambda point: (point[0], point[1].encode()))

    def replicas(self, key, count):
        at = bisect_left(self.points, key, key=lambda point: point[0])
        return distinct((name for _, name in self.points[at:] + self.points[:at]), count)


class Ring(Points):
    def __init__(self, vnodes, nodes):
        super().__init__((point(name, i), name) for name, weight in nodes for i in range(weight * vnodes))


class Rendezvous:
    ONE = 1 << 48

    def __init__(self, _, nodes):
        self.log = [self.log2(i) for i in range(257)]
        self.seats = [(name, w, point(name, 0), point(name, 1) | 1) for name, w in nodes if w]
        self.seats.sort(key=lambda seat: seat[0].encode())

    @classmethod
    def log2(cls, i):
        """log2(1 + i / 256) in parts of ONE."""
        y, log = (256 + i) << 55, 0
        for _ in range(48 if i < 256 else 0):
            y = y * y >> 63
            log, y = log << 1 | y >> 64, y >> (y >> 64)
        return log if i < 256 else cls.ONE

    def cost(self, draw):
        zeros = 64 - (draw | 1).bit_length()
        mantissa = ((draw | 1) << zeros << 1) & M64
        at, rest = mantissa >> 56, mantissa << 8 & M64
        return (zeros + 1) * self.ONE - self.log[at] - ((self.log[at + 1] - self.log[at]) * rest >> 64)

    def replicas(self, key, count):
        def score(seat):
            _, weight, mask, factor = seat
            draw = fold(key ^ mask, factor)
            # Costs per weight, compared as fractions of one denominator.
            return self.cost(draw) * common // weight, -draw

        common = 1
        for weight in {seat[1] for seat in self.seats}:
            common *= weight
        return [seat[0] for seat in sorted(self.seats, key=score)[:count]]


class Slots:
    """Slots after a history of lists of nodes. `which` are the owners, by name."""

    def __init__(self, slots, history):
        self.bits = slots.bit_length() - 1
        self.which, before = [None] * slots, {}
        for nodes in history:
            self.level(dict(nodes), before)
            before = dict(nodes)
        self.others = Rendezvous(None, history[-1])

    def level(self, weights, before):
        total, slots = sum(weights.values()), len(self.which)
        which = [name if weights.get(name) else None for name in self.which]
        missing = {name: slots * weight - which.count(name) * total for name, weight in weights.items()}
        able = sorted((name for name in weights if weights[name]), key=str.encode)

        def give(slot, name):
            if which[slot] is not None:
                missing[which[slot]] += total
            which[slot] = name
            missing[name] -= total

        def even_out(takers, givers):
            movable = {name: [s for s in range(slots) if which[s] == name] for name in givers}
            while True:
                givers = [name for name in givers if movable[name]]
                if not takers or not givers:
                    return
                taker, giver = max(takers, key=missing.get), min(givers, key=missing.get)
                if missing[taker] - missing[giver] <= total:
                    return
                give(movable[giver].pop(), taker)

        for slot in range(slots):
            if which[slot] is None and able:
                give(slot, max(able, key=missing.get))
        even_out([name for name in able if weights[name] > before.get(name, 0)], able)
        even_out(able, [name for name in able if weights[name] < before.get(name, 0)])
        self.which = which

    def replicas(self, key, count):
        slot = key >> 64 - self.bits
        others = self.others.replicas(key_hash(slot), count)
        return distinct([self.which[slot], *others], count)


class Maglev:
    def __init__(self, size, nodes):
        nodes = sorted(((name, weight) for name, weight in nodes if weight), key=lambda node: node[0].encode())
        most = max(weight for _, weight in nodes)
        entries = [self.permutation(name, size) for name, _ in nodes]
        self.table, left, taken, r = [None] * size, size, [0] * len(nodes), 0
        while left:
            r += 1
            for i, (name, weight) in enumerate(nodes):
                if left and taken[i] < -(-r * weight // most):
                    entry = next(entry for entry in entries[i] if self.table[entry] is None)
                    self.table[entry] = name
                    taken[i] += 1
                    left -= 1

    @staticmethod
    def permutation(name, size):
        at, step = point(name, 0) % size, 1 + point(name, 1) % (size - 1)
        while True:
            yield at
            at = (at + step) % size

    def replicas(self, key, count):
        at = key * len(self.table) >> 64
        return distinct(self.table[at:] + self.table[:at], count)


class Jump:
    """`nodes` are only there to be counted; their positions are the numbers of the shards."""

    def __init__(self, _, nodes):
        self.names = [name for name, _ in nodes]

    def shard(self, key):
        """JumpBackHash: the highest level on which the key jumps, and there the first jump that is not too far."""
        last = len(self.names) - 1
        random = splitmix(key)
        first = next(random)
        jumps = (first ^ first >> 32) & (1 << last.bit_length()) - 1
        while jumps:
            level = 1 << jumps.bit_length() - 1
            half = first >> 32 if jumps.bit_count() % 2 else first
            shard = level + (half & level - 1)
            while shard >= level:
                if shard <= last:
                    return shard
                both = next(random)
                shard = both & 2 * level - 1
                if level <= shard <= last:
                    return shard
                if shard > last:
                    shard = both >> 32 & 2 * level - 1
            jumps ^= level
        return 0

    def replicas(self, key, count):
        # Enough draws for a few; the crate has a bound and then goes on in order.
        random = splitmix(key)
        shards = distinct((self.shard(key if i == 0 else next(random)) for i in range(1000)), count)
        return [self.names[shard] for shard in shards]


class Ketama(Points):
    def __init__(self, _, nodes):
        points = {}
        for name, weight in sorted(nodes, key=lambda node: node[0].encode()):
            host, colon, port = name.rpartition(":")
            if not colon or not all(byte in "0123456789" for byte in port):
                host, port = name, ""
            last = 0
            for _ in range(160 * weight):
                last = zlib.crc32(host.encode() + b"\0" + port.encode() + last.to_bytes(4, "little"))
                points.setdefault(last << 32, name)
        super().__init__(points.items())

    @staticmethod
    def key(text):
        return zlib.crc32(text.encode()) << 32


class Hashring(Points):
    """Entries `(name, copy)`, a `String` and a `u32`, as `std::hash::Hash` feeds them to SipHash-2-4."""

    def __init__(self, copies, nodes):
        super().__init__(
            (siphash(2, bytes(16), name.encode() + b"\xff" + i.to_bytes(4, "little")), name)
            for name, weight in nodes
            for i in range(weight * copies)
        )

    @staticmethod
    def key(text):
        return siphash(2, bytes(16), text.encode() + b"\xff")


# --- The vectors --------------------------------------------------------------------------------------------------------

PLAIN = [(f"node-{i}", 1) for i in range(100)]
WEIGHTED = [(f"10.0.0.{i}:8080", i % 6) for i in range(12)] + [("größe", 2), ("x" * 250, 1), ("", 1)]
GROWN = [(name, 3 if name == "node-7" else 1) for name, _ in PLAIN[5:]] + [("größe", 2), ("drained", 0)]
SHRUNK = [(name, weight if name != "node-7" else 1) for name, weight in reversed(GROWN[:-2])]

# Name, placement, its setting, its nodes.
PLACEMENTS = [
    ("plain", Ring, 160, PLAIN),
    ("weighted", Ring, 40, WEIGHTED),
    ("few", Ring, 1, [("c", 1), ("a", 3), ("b", 1)]),
    ("rendezvous", Rendezvous, 0, PLAIN[:30]),
    ("rendezvous-weighted", Rendezvous, 0, WEIGHTED),
    ("slots", Slots, 1 << 14, [PLAIN]),
    ("slots-moved", Slots, 1 << 12, [PLAIN, GROWN, SHRUNK, WEIGHTED]),
    ("maglev", Maglev, 65537, PLAIN),
    ("maglev-weighted", Maglev, 1009, WEIGHTED),
    ("jump", Jump, 0, PLAIN),
    ("jump-few", Jump, 0, PLAIN[:5]),
    ("ketama", Ketama, 0, WEIGHTED),
    ("hashring", Hashring, 40, PLAIN[:20]),
]


def keys():
    random = splitmix(42)
    yield from ("", "a", "user:42", "größe", "日本語", "🦀", 0, 1, -1)
    for bits in (8, 16, 31, 32, 53, 63, 64, 65, 127):
        for n in (1 << bits, (1 << bits) - 1, -(1 << bits), -(1 << bits) - 1):
            if -1 << 127 <= n:
                yield {"int": str(n)}
    yield {"int": str((1 << 128) - 1)}
    # Every length up to past the last change of method, and around whole blocks of the long one.
    for length in [*range(300), *range(1020, 1030), 1088, 2047, 2048, 2049, 4096, 5000]:
        yield {"bytes": bytes(next(random) & 255 for _ in range(length)).hex()}
    for i in range(3000):
        yield f"user:{i}"
    for _ in range(2500):
        yield f"/tenants/{next(random) % 1000}/documents/{next(random):016x}"
    for _ in range(1500):
        yield next(random) >> 11 + next(random) % 50
    for i in range(1500):
        yield [f"tenant-{next(random) % 100}", i]
    for _ in range(500):
        yield [next(random) % 1000, "a" * (next(random) % 120), -(next(random) % 1000)]
    for _ in range(250):
        yield [["eu", next(random) % 9], [{"bytes": f"{next(random):016x}"}, "x", 1, 2]]
    for _ in range(500):
        yield {"ip": str(ipaddress.IPv4Address(next(random) & M32))}
    for _ in range(250):
        yield {"ip": "::ffff:" + str(ipaddress.IPv4Address(next(random) & M32))}
        yield {"ip": str(ipaddress.IPv6Address(0x2001 << 112 | (next(random) << 48)))}


def lines():
    yield "# Keys, their hashes and their first two owners under some placements. Written by placement.py; see there."
    placements = []
    for name, kind, setting, nodes in PLACEMENTS:
        yield "\t".join([kind.__name__.lower(), name, str(setting), json.dumps(nodes, ensure_ascii=False)])
        listed = nodes[-1] if kind is Slots else nodes
        placements.append((kind(setting, nodes), {node: i for i, (node, _) in enumerate(listed)}))
    yield "\t".join(["key", "hash", "keyed", "rehashed", *(name for name, *_ in PLACEMENTS)])
    for key in keys():
        h = key_hash(key)
        owners = []
        for placement, index in placements:
            own = getattr(placement, "key", None)
            if own and not isinstance(key, str):
                owners.append("-")
                continue
            owners.append(",".join(str(index[n]) for n in placement.replicas(own(key) if own else h, 2)))
        hashes = [f"{n:016x}" for n in (h, keyed_hash(key), next(splitmix(h)))]
        yield "\t".join([json.dumps(key, ensure_ascii=False, separators=(",", ":")), *hashes, *owners])


def main():
    for data, seed, expected in [
        (b"", 0, 0x2D06800538D394C2),
        (b"a", 0, 0xE6C632B61E964E1F),
        (b"user:42", 0, 0x9FC1E605FA7174AA),
    ]:
        assert xxh3_64(data, seed) == expected, data
    # From the paper.
    assert siphash(2, bytes(range(16)), bytes(range(15))) == 0xA129CA6149BE45E5
    text = "".join(line + "\n" for line in lines())
    if sys.argv[1:] == ["--write"]:
        FILE.write_text(text, encoding="utf-8")
    elif sys.argv[1:]:
        sys.exit(__doc__)
    elif FILE.read_text(encoding="utf-8") != text:
        sys.exit(f"{FILE.name} does not hold what the scheme says")
    print(f"{FILE.name}: {len(text.splitlines()) - len(PLACEMENTS) - 2} keys agree")


if __name__ == "__main__":
    main()
