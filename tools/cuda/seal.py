#!/usr/bin/env python3
"""seal.py FILE BUILD: writes a seal behind a plugin, so that the library can tell a whole one of its own build before it maps it.

The name of the build, its length (4 bytes), the check sum of all that (8), and a word (8). As `sealed` in src/backend/plugin/open.rs.
"""

import struct
import sys

# src/sys/checksum.rs
MIX = 0x9E3779B97F4A7C15
MASK = (1 << 64) - 1


def step(lane, word):
    product = (lane ^ word) * MIX & MASK
    return (product << 29 | product >> 35) & MASK


def checksum(data):
    lanes = [MIX * (1 + i) & MASK for i in range(4)]
    n_words = len(data) // 8
    for i, (word,) in enumerate(struct.iter_unpack("<Q", data[: n_words * 8])):
        lane = i & 3
        product = (lanes[lane] ^ word) * MIX & MASK
        lanes[lane] = (product << 29 | product >> 35) & MASK
    lanes[0] = step(lanes[0], int.from_bytes(data[n_words * 8 :], "little"))
    lanes[1] = step(lanes[1], len(data))
    total = 0
    for lane in lanes:
        total = step(total, lane)
    return total


def main(path, build):
    with open(path, "rb") as file:
        data = file.read()
    name = build.encode()
    data += name + struct.pack("<I", len(name))
    with open(path, "wb") as file:
        file.write(data + struct.pack("<Q", checksum(data)) + b"INF-PLUG")


main(*sys.argv[1:])
