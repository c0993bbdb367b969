#!/usr/bin/env python3
"""Places keys as `buttress::placement` does, from the documented scheme alone; needs nothing but Python 3.

    placement.py            verify placement.tsv
    placement.py --write    write it anew

A changed line in that file means that data would move: such a change is a new scheme, never a fix.
"""

import ipaddress
import json
import sys
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


# --- The ring -----------------------------------------------------------------------------------------------------------


class Ring:
    def __init__(self, vnodes, nodes):
        self.points = sorted(
            (xxh3_64(b"\x09" + encode(name) + encode(i), STRUCTURED), name.encode())
            for name, weight in nodes
            for i in range(weight * vnodes)
        )

    def replicas(self, key, count):
        at = bisect_left(self.points, (key, b""))
        found = {}
        for i in range(len(self.points)):
            found[self.points[(at + i) % len(self.points)][1].decode()] = True
            if len(found) == count:
                break
        return list(found)


# --- The vectors --------------------------------------------------------------------------------------------------------

RINGS = {
    "plain": (160, [(f"node-{i}", 1) for i in range(100)]),
    "weighted": (40, [(f"10.0.0.{i}:8080", i % 6) for i in range(12)] + [("größe", 2), ("x" * 250, 1), ("", 1)]),
    "few": (1, [("c", 1), ("a", 3), ("b", 1)]),
}


def numbers():
    """SplitMix64, so that the vectors are the same under every Python."""
    state = 42
    while True:
        state = state + 0x9E3779B97F4A7C15 & M64
        z = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 & M64
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB & M64
        yield z ^ (z >> 31)


def keys():
    random = numbers()
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
    yield "# Keys, their hashes and their first two owners on some rings. Written by placement.py; see there."
    rings = []
    for name, (vnodes, nodes) in RINGS.items():
        yield "\t".join(["ring", name, str(vnodes), json.dumps(nodes, ensure_ascii=False)])
        rings.append((Ring(vnodes, nodes), {node: i for i, (node, _) in enumerate(nodes)}))
    yield "\t".join(["key", "hash", *RINGS])
    for key in keys():
        h = key_hash(key)
        owners = [",".join(str(index[n]) for n in ring.replicas(h, 2)) for ring, index in rings]
        yield "\t".join([json.dumps(key, ensure_ascii=False, separators=(",", ":")), f"{h:016x}", *owners])


def main():
    for data, seed, expected in [
        (b"", 0, 0x2D06800538D394C2),
        (b"a", 0, 0xE6C632B61E964E1F),
        (b"user:42", 0, 0x9FC1E605FA7174AA),
    ]:
        assert xxh3_64(data, seed) == expected, data
    text = "".join(line + "\n" for line in lines())
    if sys.argv[1:] == ["--write"]:
        FILE.write_text(text, encoding="utf-8")
    elif sys.argv[1:]:
        sys.exit(__doc__)
    elif FILE.read_text(encoding="utf-8") != text:
        sys.exit(f"{FILE.name} does not hold what the scheme says")
    print(f"{FILE.name}: {len(text.splitlines()) - len(RINGS) - 2} keys agree")


if __name__ == "__main__":
    main()
