#!/usr/bin/env python3
"""A reader of frame format 1, written from docs/wire_format.md (sections 2 and 3) and eden_levels.csv alone.

It shares no code with the C++ reader and is meant to be read beside the page: each part names its section.
It is slow, strict, and exact: the float32 values have the bits that the C++ reader gives.

    decoder.py golden                               check all frames of golden/manifest.json
    decoder.py FRAME --schema SCHEMA.json [--out F] print the header and the SHA-256 of the values

SCHEMA.json is a list of {"name": ..., "shape": [...], "kind": "weight" | "bias" | "norm"}.
Refused frames raise Refused, a ValueError whose text says why. Needs Python 3.11 and numpy.
"""

import argparse
import csv
import dataclasses
import hashlib
import json
import math
import pathlib
import sys

try:
    import numpy as np
except ImportError:
    print("decoder.py: skipped, there is no numpy (Debian: python3-numpy)")
    sys.exit(77)

HERE = pathlib.Path(__file__).resolve().parent
EDEN_LEVELS = HERE.parents[2] / "docs" / "eden_levels.csv"
CHUNK = 65536
GROUP = 1024
MASK32 = 2**32 - 1
MASK64 = 2**64 - 1


class Refused(ValueError):
    """A frame that a reader must refuse."""


def require(condition, reason):
    if not condition:
        raise Refused(reason)


# ---------------------------------------------------------------------------------------------------------
# Schema: names, shapes and kinds (sections 2.2, 2.7 and 2.8)


@dataclasses.dataclass(frozen=True)
class Tensor:
    name: str
    shape: tuple
    kind: str

    @property
    def elements(self):
        return math.prod(self.shape)

    @property
    def matrix(self):
        """Rows and columns: one element a row unless there are two dimensions or more (section 2.7)."""
        if len(self.shape) < 2:
            return self.elements, 1
        return self.shape[0], math.prod(self.shape[1:])


KINDS = {"weight": 0, "bias": 1, "norm": 2}


def parse_schema(rows):
    return [Tensor(row["name"], tuple(row["shape"]), row["kind"]) for row in rows]


def schema_hash(schema):
    text = len(schema).to_bytes(8, "little")
    for tensor in schema:
        name = tensor.name.encode()
        text += len(name).to_bytes(8, "little") + name
        text += len(tensor.shape).to_bytes(8, "little")
        text += b"".join(d.to_bytes(8, "little") for d in tensor.shape)
        text += bytes([KINDS[tensor.kind]])
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "little")


# ---------------------------------------------------------------------------------------------------------
# Bytes and bits


def crc32c_table():
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


CRC32C = crc32c_table()


def crc32c(data):
    crc = MASK32
    for byte in data:
        crc = (crc >> 8) ^ CRC32C[(crc ^ byte) & 0xFF]
    return crc ^ MASK32


class Bytes:
    """Takes fields off the front of a byte string."""

    def __init__(self, data, what):
        self.data = bytes(data)
        self.what = what
        self.at = 0

    def left(self):
        return len(self.data) - self.at

    def take(self, count):
        require(count <= self.left(), f"{self.what} ends too early")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, size):
        return int.from_bytes(self.take(size), "little")

    def rest(self):
        return self.take(self.left())

    def finish(self):
        require(self.left() == 0, f"{self.what} has {self.left()} bytes too many")


def bits_of(data):
    return np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")


def fields_of(bits, width):
    """Consecutive fields of `width` bits, as numbers."""
    if width == 0:
        return np.zeros(0, np.int64)
    return bits.reshape(-1, width).astype(np.int64) @ (1 << np.arange(width, dtype=np.int64))


def take_fields(source, count, width):
    """`count` fields of `width` bits, then zero bits to the end of the byte."""
    bits = bits_of(source.take((count * width + 7) // 8))
    require(not bits[count * width :].any(), f"{source.what}: padding bits are not zero")
    return fields_of(bits[: count * width], width)


def floats_from_bfloat16(data):
    return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)


# ---------------------------------------------------------------------------------------------------------
# Random numbers (section 2.6)

PURPOSE_ROTATE = 7
PURPOSE_RANDK = 8
PURPOSE_SKETCH = 17


def mix(a, b):
    z = (a + 0x9E3779B97F4A7C15 * (b + 1)) & MASK64
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK64
    return z ^ (z >> 31)


def mix_many(a, count):
    """mix(a, b) for b = 0, 1, ..., count - 1."""
    with np.errstate(over="ignore"):
        z = np.uint64(a) + np.uint64(0x9E3779B97F4A7C15) * (np.arange(count, dtype=np.uint64) + np.uint64(1))
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def philox_words(seed, purpose, index, first_block, blocks):
    """Words 4 first_block, ... of a stream: Philox4x32-10, four words a block."""
    key = mix(seed, purpose)
    k0, k1 = key & MASK32, key >> 32
    mask = np.uint64(MASK32)
    shift = np.uint64(32)
    x0 = np.arange(first_block, first_block + blocks, dtype=np.uint64)
    x1 = np.zeros(blocks, np.uint64)
    x2 = np.zeros(blocks, np.uint64)
    x3 = np.full(blocks, index, np.uint64)
    for _ in range(10):
        p0 = x0 * np.uint64(0xD2511F53)
        p1 = x2 * np.uint64(0xCD9E8D57)
        x0 = (p1 >> shift) ^ x1 ^ np.uint64(k0)
        x1 = p1 & mask
        x2 = (p0 >> shift) ^ x3 ^ np.uint64(k1)
        x3 = p0 & mask
        k0 = (k0 + 0x9E3779B9) & MASK32
        k1 = (k1 + 0xBB67AE85) & MASK32
    return np.stack([x0, x1, x2, x3], axis=1).reshape(-1)


class Random:
    """One stream, word after word."""

    def __init__(self, seed, purpose, index):
        self.stream = (seed, purpose, index)
        self.block = 0
        self.words = iter(())

    def word(self):
        for word in self.words:
            return word
        self.words = iter(philox_words(*self.stream, self.block, 1024).tolist())
        self.block += 1024
        return next(self.words)

    def number64(self):
        low = self.word()
        return low | (self.word() << 32)

    def below(self, bound):
        smallest = (2**32 - bound) % bound
        product = self.word() * bound
        while (product & MASK32) < smallest:
            product = self.word() * bound
        return product >> 32


# ---------------------------------------------------------------------------------------------------------
# Stages and chains (sections 2.1 and 2.9)

FAMILIES = ["state", "exempt", "principal", "basis", "band", "transform", "select", "quantize", "index", "value"]

# id: name, family, bytes of the argument, lowest, highest
STAGES = {
    0x01: ("ef", "state", 0, 0, 0),
    0x02: ("ef21", "state", 0, 0, 0),
    0x03: ("dgc", "state", 1, 1, 99),
    0x08: ("small16", "exempt", 1, 1, 24),
    0x0A: ("principal", "principal", 1, 1, 32),
    0x0B: ("components", "principal", 2, None, None),
    0x0C: ("dct", "basis", 1, 2, 32),
    0x0D: ("lowpass", "band", 1, 1, 99),
    0x10: ("rotate", "transform", 1, 4, 16),
    0x12: ("lowrank", "transform", 1, 1, 32),
    0x13: ("sketch", "transform", 4, None, None),
    0x20: ("topk", "select", 4, 1, 10**9),
    0x21: ("topk-per-tensor", "select", 4, 1, 10**9),
    0x22: ("randk", "select", 4, 1, 10**9),
    0x24: ("randk-by-norm", "select", 4, 1, 10**9),
    0x23: ("threshold", "select", 4, None, None),
    0x30: ("float32", "quantize", 0, 0, 0),
    0x31: ("float16", "quantize", 0, 0, 0),
    0x32: ("bfloat16", "quantize", 0, 0, 0),
    0x33: ("int", "quantize", 1, 2, 16),
    0x34: ("ternary", "quantize", 0, 0, 0),
    0x35: ("sign", "quantize", 0, 0, 0),
    0x36: ("qsgd", "quantize", 2, 1, 32767),
    0x37: ("natural", "quantize", 0, 0, 0),
    0x38: ("eden", "quantize", 1, 1, 8),
    0x50: ("rice", "index", 0, 0, 0),
    0x51: ("cabac", "index", 0, 0, 0),
    0x60: ("rans", "value", 0, 0, 0),
    0x61: ("zstd", "value", 0, 0, 0),
}


@dataclasses.dataclass(frozen=True)
class Stage:
    name: str
    argument: object = None

    def __str__(self):
        return self.name if self.argument is None else f"{self.name}:{self.argument}"


def take_stage(source):
    code = source.number(1)
    require(code in STAGES, f"unknown stage {code:#04x}")
    name, family, size, lowest, highest = STAGES[code]
    argument = source.number(size) if size else None
    if name == "sketch":
        rows, columns = argument >> 28, argument & (2**28 - 1)
        require(rows >= 1 and columns >= 1, "sketch without rows or columns")
        argument = (rows, columns)
    elif name == "components":
        rank, step = argument & 255, argument >> 8
        require(1 <= rank <= 64 and 5 <= step <= 200, "components of an odd rank or step")
        argument = (rank, step)
    elif name == "threshold":
        argument = float(np.uint32(argument).view(np.float32))
        require(2.0**-100 <= argument <= 2.0**100, "threshold out of range")  # NaN fails, too
    elif size:
        require(lowest <= argument <= highest, f"argument {argument} of {name} is out of range")
    return family, Stage(name, argument)


class Chain:
    """The stages of a frame, at most one a family."""

    def __init__(self, stages):
        order = [FAMILIES.index(family) for family, _ in stages]
        require(order == sorted(order), "stages are out of order")
        require(len(order) == len(set(order)), "two stages of a family")
        self.stages = [stage for _, stage in stages]
        by_family = dict(stages)
        none = Stage("")
        self.state = by_family.get("state", none)
        self.exempt = by_family.get("exempt", none)
        self.principal = by_family.get("principal", none)
        self.basis = by_family.get("basis", none)
        self.band = by_family.get("band", none)
        self.transform = by_family.get("transform", none)
        self.select = by_family.get("select", none)
        self.quantize = by_family.get("quantize", Stage("float32"))
        self.index = by_family.get("index", none)
        self.value = by_family.get("value", none)
        self.positions_travel = self.select.name in ("topk", "topk-per-tensor", "threshold")
        self.check(by_family)

    def check(self, given):
        """Section 2.9, and one spelling a chain."""
        state, transform, select, quantize = self.state, self.transform, self.select, self.quantize
        travel = self.positions_travel
        require(
            given.keys() & {"exempt", "basis", "transform", "select", "quantize"},
            "a chain needs a stage that is exempt, of a basis, transforms, selects or quantizes",
        )
        if self.principal.name:
            require(given.keys() & {"select", "quantize"}, "principal without select or quantize")
            require(transform.name in ("", "rotate"), f"principal with {transform.name}")
        if self.basis.name:
            require(given.keys() & {"select", "quantize"}, "dct without select or quantize")
            require(transform.name in ("", "rotate"), f"dct with {transform.name}")
        if self.band.name:
            require(self.basis.name, "lowpass without dct")
            require(not state.name, f"lowpass under {state.name}")
            require(select.name != "topk-per-tensor", "lowpass with topk-per-tensor")
        if select.name == "randk-by-norm" and transform.name:
            require(transform.argument == 10, "randk-by-norm after other blocks than of its groups")
        if "quantize" in given and quantize.name == "float32":
            require(self.stages[0] == quantize, "float32 is written only as the first stage")
        if self.index.name:
            require(travel, f"{self.index.name} where no positions travel")
        if transform.name == "rotate":
            require(not travel, "rotate where positions travel")
            require(given.keys() & {"select", "quantize"}, "rotate without select or quantize")
        if transform.name in ("lowrank", "sketch"):
            require(not select.name, f"{transform.name} with a select stage")
            require(quantize.name not in ("ternary", "sign"), f"{transform.name} with {quantize.name}")
        if quantize.name == "eden":
            require(
                transform.name == "rotate" and transform.argument >= 10, "eden without rotate:1024 or larger"
            )
        if self.value.name == "rans":
            require(not self.floats and 3 <= self.alphabet <= 512, "rans of this alphabet")
        if self.value.name == "zstd":
            require(quantize.name in ("float32", "float16", "bfloat16"), "zstd of symbols")
        if state.name:
            coarse = quantize.name == "ternary" or quantize == Stage("int", 2)
            require(travel or not coarse, f"{quantize} after a state stage")
            if quantize.name == "qsgd":
                require(quantize.argument >= (256 if travel else 32), f"{quantize} after a state stage")
        if state.name == "dgc":
            require(select.name, "dgc without a select stage")
            mixed = self.exempt.name or self.principal.name or self.basis.name or transform.name
            require(not mixed, "dgc with an exempt, principal, basis or transform stage")

    @property
    def floats(self):
        """Bytes of a float, or 0 where the quantizer makes symbols."""
        return {"float32": 4, "float16": 2, "bfloat16": 2}.get(self.quantize.name, 0)

    @property
    def alphabet(self):
        """A of section 2.4."""
        argument = self.quantize.argument
        return {
            "int": lambda: 2**argument - 1,
            "qsgd": lambda: 2 * argument + 1,
            "sign": lambda: 2,
            "ternary": lambda: 2 if self.positions_travel else 3,
            "natural": lambda: 510,
            "eden": lambda: 2**argument,
        }[self.quantize.name]()

    @property
    def has_scales(self):
        return not self.floats and self.quantize.name != "natural"

    def __str__(self):
        return ",".join(str(stage) for stage in self.stages)


# ---------------------------------------------------------------------------------------------------------
# Header and chunk table (sections 2.1 and 2.2)


@dataclasses.dataclass
class Header:
    frame_bytes: int
    elements: int
    schema: int
    seed: int
    base_version: int
    round: int
    chain: Chain


@dataclasses.dataclass
class Chunk:
    number: int  # within its stream
    elements: int
    bytes: int
    mode: int
    coded: bool
    parameter: int
    checksum: int


def take_header(frame, schema):
    """The header, and its length."""
    source = Bytes(frame, "the header")
    require(source.take(4) == b"TRNF", "the magic is not TRNF")
    require(source.number(1) == 1, "another major version")
    source.number(1)  # any minor version
    length = source.number(2)
    require(49 <= length <= 255, f"a header of {length} bytes")
    source = Bytes(frame[:length], "the header")
    require(len(frame) >= length, "the header ends too early")
    source.take(8)
    frame_bytes = source.number(6)
    require(frame_bytes == len(frame), f"{len(frame)} bytes of a frame of {frame_bytes}")
    elements = source.number(6)
    require(elements <= 2**40, "more than 2^40 elements")
    require(elements == sum(t.elements for t in schema), "another number of elements than the schema's")
    hash_ = source.number(8)
    require(hash_ == schema_hash(schema), "a frame of another schema")
    seed = source.number(8)
    base_version = source.number(4)
    round_ = source.number(4)
    source.number(4)  # the checksum: see check_header
    count = source.number(1)
    require(count <= 8, f"{count} stages")
    chain = Chain([take_stage(source) for _ in range(count)])
    while source.left():
        kind = source.number(1)
        source.take(source.number(1))
        require(kind < 0x80, f"critical extension field {kind:#04x}")
    return Header(frame_bytes, elements, hash_, seed, base_version, round_, chain), length


def take_table(frame, at, streams):
    """The chunk table's entries, a list for each stream, and the end of the table. `streams`: of each its length,
    and what its chunks are numbered from."""
    source = Bytes(frame, "the chunk table")
    source.take(at)
    tables = []
    for elements, first in streams:
        table = []
        for number, begin in enumerate(range(0, elements, CHUNK), first):
            size = source.number(3)
            byte = source.number(1)
            table.append(
                Chunk(
                    number,
                    min(CHUNK, elements - begin),
                    size,
                    byte & 7,
                    bool(byte & 8),
                    byte >> 4,
                    source.number(4),
                )
            )
        tables.append(table)
    return tables, source.at


EMPTY, DENSE, PLAIN, RICE, BITMAP, RAW, HALF, CABAC = range(8)


def check_entry(chunk, chain, small):
    """The last column of the table of modes."""
    travel = chain.positions_travel
    coded = {"": PLAIN, "rice": RICE, "cabac": CABAC}[chain.index.name]
    allowed = (
        {EMPTY, HALF}
        if small
        else {EMPTY, DENSE, RAW} | ({coded, BITMAP} if travel else set())
    )
    require(chunk.mode in allowed, f"mode {chunk.mode} where it is not allowed")
    if chunk.coded:
        require(chain.value.name, "coded values without a value code")
        require(chunk.mode in (DENSE, PLAIN, RICE, BITMAP, CABAC), f"coded values in mode {chunk.mode}")
    if chunk.mode == RICE:
        require(chunk.parameter >= 1, "parameter 0 in mode rice")
    else:
        require(chunk.parameter == 0, f"a parameter in mode {chunk.mode}")


# ---------------------------------------------------------------------------------------------------------
# Positions (sections 2.3 and 2.6)


def take_positions(source, chunk, m):
    """Positions that travel."""
    count = source.number(2) + 1
    require(count <= m, f"{count} values of {m} elements")
    if chunk.mode == PLAIN:
        positions = np.frombuffer(source.take(2 * count), "<u2").astype(np.int64)
    elif chunk.mode == BITMAP:
        positions = np.flatnonzero(take_fields(source, m, 1))
        require(len(positions) == count, f"{len(positions)} bits are set, not {count}")
    elif chunk.mode == CABAC:
        positions = take_cabac(source, count, m)
    else:
        positions = take_rice(source, count, chunk.parameter)
    require((np.diff(positions) > 0).all(), "positions that do not increase")
    require(positions[-1] < m, f"position {positions[-1]} of {m}")
    return positions


def take_rice(source, count, b):
    """All low parts, then all quotients, then zero bits to the end of the byte."""
    bits = bits_of(source.data[source.at :])
    require(len(bits) >= count * b, f"{source.what} ends too early")
    low = fields_of(bits[: count * b], b)
    ones = np.flatnonzero(bits[count * b :])[:count]
    require(len(ones) == count, f"{source.what} ends too early")
    quotients = np.diff(ones, prepend=-1) - 1
    used = count * b + int(ones[-1]) + 1
    require(not bits[used : (used + 7) // 8 * 8].any(), "padding bits of rice are not zero")
    source.take((used + 7) // 8)
    gaps = low + (quotients << b)
    return np.cumsum(gaps + 1) - 1


class RangeCoder:
    """Bits; one that is 1 has the lower part of the range."""

    def __init__(self, source):
        self.source, self.span, self.code = source, 2**32 - 1, int.from_bytes(source.take(4), "big")
        require(self.code < self.span, "a code outside of its range")

    def fixed(self, probability):
        bound = (self.span >> 16) * probability
        one = self.code < bound
        if one:
            self.span = bound
        else:
            self.code, self.span = self.code - bound, self.span - bound
        while self.span < 2**24:
            self.span, self.code = self.span << 8, self.code << 8 | self.source.number(1)
        return one

    def adaptive(self, pair):
        """With a pair [quick, slow], which learns."""
        quick, slow = pair
        one = self.fixed((quick + slow) // 2)
        pair[:] = (
            [quick + (2**16 - quick >> 5), slow + (2**16 - slow >> 7)]
            if one
            else [quick - (quick >> 5), slow - (slow >> 7)]
        )
        return one

    def number(self, bits):
        value = 0
        for _ in range(bits):
            value = 2 * value + self.fixed(2**15)
        return value

    def finish(self):
        require(self.code == 0, "not the low end of the last range")


def take_cabac(source, count, m):
    first = min(max(count * 2**16 // m, 2**6), 2**16 - 2**6)
    kept = [[first, first], [first, first]]  # after a dropped and after a kept position
    coder = RangeCoder(source)
    positions, position, before = [], 0, 0
    while len(positions) < count:
        require(position < m, "fewer positions than the count")
        before = coder.adaptive(kept[before])
        if before:
            positions.append(position)
        position += 1
    coder.finish()
    return np.array(positions, np.int64)


def take_factors(source, lengths, begin, n):
    """n factors on a grid from number `begin` on; `lengths`: of all columns."""
    step = floats_from_bfloat16(source.take(2))[0]
    require(np.isfinite(step) and step > 0, "a step that is not above 0, or not finite")
    coder = RangeCoder(source)
    questions = [[[2**15, 2**15] for _ in range(4)] for _ in range(12)]
    column, left = 0, begin
    while left >= lengths[column]:
        left -= lengths[column]
        column += 1
    place, memory, before = left, {}, (0, 0)
    steps = []
    while len(steps) < n:
        around = memory.get(place % 65536, 0) + 4 * before[0] + 2 * before[1]
        mine = questions[min(around // 5, 11)]
        size = 0
        while size < 15 and coder.adaptive(mine[min(size, 3)]):
            size += 1
        if size == 15:
            zeros = 0
            while not coder.fixed(2**15):
                zeros += 1
                require(zeros < 10, "a factor of too many steps")
            size += 2**zeros + coder.number(zeros) - 1
            require(size <= 1023, "a factor of too many steps")
        steps.append(-size if size and coder.number(1) else size)
        seen = min(size, 15)
        memory[place % 65536] = memory.get(place % 65536, 0) + 2 * seen - memory.get(place % 65536, 0) // 8
        before = (seen, before[0])
        place += 1
        if place == lengths[column] and column + 1 < len(lengths):
            column, place, before = column + 1, 0, (0, 0)
            if lengths[column] != lengths[column - 1]:
                memory = {}
    coder.finish()
    source.finish()
    require(any(steps), "coded factors that are all zero")
    return np.array(steps, np.float32) * step


def draw(random, n, k):
    """k of n positions, in order: those that are drawn or, where that is fewer, those that aren't."""
    few = k <= n // 2
    marked = np.zeros(n, bool)
    for _ in range(k if few else n - k):
        position = random.below(n)
        while marked[position]:
            position = random.below(n)
        marked[position] = True
    return np.flatnonzero(marked == few)


def seeded_positions(seed, chunk, m, rate):
    """randk: what follows from the seed."""
    k = max(1, (m * rate + 500_000_000) // 10**9)
    return draw(Random(seed, PURPOSE_RANDK, chunk.number), m, k)


def counted_positions(source, seed, chunk, m):
    """randk-by-norm: what follows from the counts and the seed."""
    lengths = [min(GROUP, m - at) for at in range(0, m, GROUP)]
    counts = source.take(len(lengths))
    random = Random(seed, PURPOSE_RANDK, chunk.number)
    kept = []
    for group, (length, code) in enumerate(zip(lengths, counts)):
        k = code if code < 16 else (16 + code % 16) << (code // 16 - 1)
        require(k <= length, f"{k} kept of {length}")
        kept.append(group * GROUP + draw(random, length, k))
    return np.concatenate(kept)


# ---------------------------------------------------------------------------------------------------------
# Values (sections 2.4 and 2.5)


def load_centroids():
    levels = {}
    with open(EDEN_LEVELS, newline="") as file:
        for row in csv.DictReader(file):
            bits = int(row["centroid_float32_hex"], 16)
            levels.setdefault(int(row["bits"]), []).append((int(row["level"]), bits))
    return {b: np.array([v for _, v in sorted(rows)], np.uint32).view(np.float32) for b, rows in levels.items()}


def take_values(source, chain, coded, positions, m):
    """The float32 values at `positions`, to the end of the body."""
    if chain.floats:
        return take_floats(source, chain, coded, len(positions))
    if chain.has_scales:
        groups = 1 if chain.positions_travel else (m + GROUP - 1) // GROUP
        raw = source.take(2 * groups)
        require((np.frombuffer(raw, "<u2") < 0x7F80).all(), "a scale that is negative or not finite")
        scales = floats_from_bfloat16(raw)
        scale = scales[np.zeros_like(positions) if chain.positions_travel else positions // GROUP]
    symbols = take_symbols(source, chain, coded, len(positions))
    argument = chain.quantize.argument
    match chain.quantize.name:
        case "int":
            return (symbols - (2 ** (argument - 1) - 1)).astype(np.float32) * scale
        case "qsgd":
            return (symbols - argument).astype(np.float32) * scale
        case "ternary" if chain.alphabet == 3:
            return (symbols - 1).astype(np.float32) * scale
        case "ternary" | "sign":
            return np.where(symbols == 1, -scale, scale)
        case "natural":
            return ((symbols // 2 << 23) | ((symbols & 1) << 31)).astype(np.uint32).view(np.float32)
        case "eden":
            top = 1 << (argument - 1)
            value = scale * load_centroids()[argument][symbols & (top - 1)]
            return np.where(symbols & top, -value, value)
    raise AssertionError(chain.quantize)


def take_floats(source, chain, coded, k):
    width = chain.floats
    if coded:
        data = source.rest()
        require(len(data) < width * k, "coded values that are not shorter")
        planes = np.frombuffer(zstd_decode(data, width * k), np.uint8)
        data = planes.reshape(width, k).T.tobytes()
    else:
        data = source.take(width * k)
        source.finish()
    match chain.quantize.name:
        case "float32":
            values = np.frombuffer(data, "<f4")
        case "float16":
            values = np.frombuffer(data, "<f2").astype(np.float32)
        case _:
            values = floats_from_bfloat16(data)
    return values


def packed_bytes(count, alphabet):
    return (count + 4) // 5 if alphabet == 3 else (count * (alphabet - 1).bit_length() + 7) // 8


def take_symbols(source, chain, coded, count):
    alphabet = chain.alphabet
    if coded:
        require(source.left() < packed_bytes(count, alphabet), "coded values that are not shorter")
        symbols = rans_decode(source, alphabet, count)
    elif alphabet == 3:
        packed = np.frombuffer(source.take((count + 4) // 5), np.uint8).astype(np.int64)
        require((packed < 243).all(), "a byte of ternary digits above 242")
        symbols = (packed[:, None] // 3 ** np.arange(5) % 3).reshape(-1)
        require(not symbols[count:].any(), "missing digits are not zero")
        symbols = symbols[:count]
    else:
        symbols = take_fields(source, count, (alphabet - 1).bit_length())
    source.finish()
    require((symbols < alphabet).all(), f"a symbol outside of the alphabet of {alphabet}")
    return symbols


def rans_decode(source, alphabet, count):
    lowest, highest = source.number(2), source.number(2)
    require(lowest <= highest < alphabet, "rans: symbols out of range")
    if lowest == highest:
        return np.full(count, lowest, np.int64)
    frequencies = take_fields(source, highest - lowest + 1, 12).tolist()
    require(frequencies[0] and frequencies[-1], "rans: the first or last symbol does not occur")
    require(sum(frequencies) == 4096, "rans: frequencies do not add up to 4096")
    starts = [sum(frequencies[:s]) for s in range(len(frequencies))]
    symbol_of_slot = [s for s, f in enumerate(frequencies) for _ in range(f)]
    states = [source.number(4) for _ in range(4)]
    require(all(x >= 65536 for x in states), "rans: a state below 65536")
    symbols = []
    for i in range(count):
        x = states[i % 4]
        slot = x % 4096
        s = symbol_of_slot[slot]
        x = frequencies[s] * (x // 4096) + slot - starts[s]
        if x < 65536:
            x = 65536 * x + source.number(2)
        states[i % 4] = x
        symbols.append(lowest + s)
    require(states == [65536] * 4, "rans: the last states are not 65536")
    source.finish()
    return np.array(symbols, np.int64)


# ---------------------------------------------------------------------------------------------------------
# Chunks: from a body to elements of a stream


def take_grid_chunk(body, chunk, lengths):
    """A chunk of the components of `components`; `lengths`: of all columns of factors."""
    n = chunk.elements
    coded = chunk.mode == DENSE and chunk.coded
    require(coded or (chunk.mode in (EMPTY, RAW) and not chunk.coded), f"mode {chunk.mode} on a grid")
    require(chunk.parameter == 0, "a parameter on a grid")
    require(crc32c(body) == chunk.checksum, "the checksum of a body is wrong")
    source = Bytes(body, f"chunk {chunk.number} of the components")
    if not coded:
        values = np.frombuffer(source.take(4 * n), "<f4") if chunk.mode == RAW else np.zeros(n, np.float32)
        source.finish()
    else:
        require(len(body) < 4 * n, "coded factors as long as floats")
        with np.errstate(over="ignore"):
            values = take_factors(source, lengths, (chunk.number - COMPONENT_CHUNKS) * CHUNK, n)
    require(np.isfinite(values).all(), "a factor is not finite")
    return values


def take_chunk(body, chunk, header, small):
    chain, n = header.chain, chunk.elements
    check_entry(chunk, chain, small)
    require(crc32c(body) == chunk.checksum, "the checksum of a body is wrong")
    what = f"chunk {chunk.number} of the {'small' if small else 'components' if chain is COMPONENTS else 'main'} stream"
    source = Bytes(body, what)
    if chunk.mode == EMPTY:
        source.finish()
        return np.zeros(n, np.float32)
    if chunk.mode in (RAW, HALF):
        values = (
            np.frombuffer(source.take(4 * n), "<f4")
            if chunk.mode == RAW
            else floats_from_bfloat16(source.take(2 * n))
        )
        source.finish()
        require(np.isfinite(values).all(), f"{what}: a value is not finite")
        return values

    rotate = chain.transform.name == "rotate"
    blocks = rotation_blocks(n, 2**chain.transform.argument) if rotate else []
    m = sum(blocks) if rotate else n
    if chunk.mode != DENSE:
        positions = take_positions(source, chunk, m)
    elif chain.select.name == "randk":
        positions = seeded_positions(header.seed, chunk, m, chain.select.argument)
    elif chain.select.name == "randk-by-norm":
        positions = counted_positions(source, header.seed, chunk, m)
    else:
        positions = np.arange(m)
    with np.errstate(over="ignore", invalid="ignore"):
        values = take_values(source, chain, chunk.coded, positions, m)
        elements = np.zeros(m, np.float32)
        elements[positions] = values
        require(np.isfinite(elements).all(), f"{what}: a value is not finite")
        if rotate:
            elements = rotate_back(elements, blocks, header.seed, chunk)[:n]
            require(np.isfinite(elements).all(), f"{what}: a rotated value is not finite")
    return elements


def rotation_blocks(n, block):
    """Lengths of the blocks of a padded chunk."""
    partial = n % block
    return [block] * (n // block) + ([1 << (partial - 1).bit_length()] if partial else [])


def rotate_back(x, blocks, seed, chunk):
    words = philox_words(seed, PURPOSE_ROTATE, chunk.number, 0, (len(x) + 127) // 128)
    signs = bits_of(words.astype("<u4").tobytes())[: len(x)]
    out = []
    at = 0
    for length in blocks:
        block = x[at : at + length]
        h = 1
        while h < length:
            pairs = block.reshape(-1, 2, h)
            block = np.stack([pairs[:, 0] + pairs[:, 1], pairs[:, 0] - pairs[:, 1]], axis=1).reshape(-1)
            h *= 2
        out.append(block * np.float32(1.0 / math.sqrt(length)))
        at += length
    x = np.concatenate(out)
    return np.where(signs, -x, x)


# ---------------------------------------------------------------------------------------------------------
# Streams: from streams to tensors (sections 2.2 and 2.7)


def deal(schema, chain):
    """Whether each tensor goes to the small stream."""
    if not chain.exempt.name:
        return [False] * len(schema)
    return [t.kind != "weight" or t.elements < 2**chain.exempt.argument for t in schema]


def is_factored(tensor, rank):
    rows, columns = tensor.matrix
    return rank * (rows + columns) < rows * columns


def main_length(tensors, chain):
    """Elements of the main stream after lowpass, lowrank or sketch."""
    whole = sum(t.elements for t in tensors)
    if chain.band.name:
        side = chain.basis.argument
        kept = frequencies(side, chain.band.argument)
        return sum(t.elements if t.matrix[1] % side**2 else t.elements // side**2 * kept for t in tensors)
    if chain.transform.name == "lowrank":
        r = chain.transform.argument
        return sum(r * sum(t.matrix) if is_factored(t, r) else t.elements for t in tensors)
    if chain.transform.name == "sketch":
        return min(whole, math.prod(chain.transform.argument))
    return whole


def frequencies(side, percent):
    """How many of a block's travel."""
    size = side * side
    return size if percent is None else max(1, (size * percent + 50) // 100)


def undo_dct(stream, tensors, side, percent):
    """The main stream before dct and lowpass."""
    size = side * side
    kept = frequencies(side, percent)
    basis = np.empty((side, side), np.float32)
    for k in range(side):
        for i in range(side):
            angle = (2 * i + 1) * k % (4 * side)
            cosine = math.cos(math.pi * (angle / (2.0 * side))) if angle % (2 * side) != side else 0.0
            basis[k, i] = math.sqrt((2 if k else 1) / side) * cosine
    order = sorted(range(size), key=lambda e: (e // side + e % side, e // side))
    out = [np.zeros(0, np.float32)]
    at = 0
    for tensor in tensors:
        if tensor.elements == 0 or tensor.matrix[1] % size:
            out.append(stream[at : at + tensor.elements])
            at += tensor.elements
            continue
        count = tensor.elements // size
        blocks = np.zeros((count, size), np.float32)
        blocks[:, order[:kept]] = stream[at : at + kept * count].reshape(kept, -1).T
        at += kept * count
        blocks = blocks.reshape(-1, side, side)
        for axis in (1, 2):  # down each column, then along each row
            lines = np.moveaxis(blocks, axis, 1)
            sums = np.zeros_like(lines)
            for k in range(side):
                sums = sums + basis[k][None, :, None] * lines[:, k : k + 1, :]
            blocks = np.moveaxis(sums, 1, axis)
        out.append(np.ascontiguousarray(blocks).reshape(-1))
    return np.concatenate(out)


def restore_main(stream, tensors, header):
    """The main stream before dct, lowrank or sketch."""
    chain = header.chain
    if chain.basis.name:
        return undo_dct(stream, tensors, chain.basis.argument, chain.band.argument)
    whole = sum(t.elements for t in tensors)
    if chain.transform.name == "sketch" and math.prod(chain.transform.argument) < whole:
        return unsketch(stream, whole, *chain.transform.argument, header.seed)
    if chain.transform.name != "lowrank":
        return stream
    r = chain.transform.argument
    out = [np.zeros(0, np.float32)]
    at = 0
    for tensor in tensors:
        if not is_factored(tensor, r):
            out.append(stream[at : at + tensor.elements])
            at += tensor.elements
            continue
        rows, columns = tensor.matrix
        p = stream[at : at + r * rows].reshape(r, rows)
        at += r * rows
        q = stream[at : at + r * columns].reshape(r, columns)
        at += r * columns
        total = np.zeros((rows, columns), np.float32)
        for t in range(r):
            total = total + p[t][:, None] * q[t][None, :]
        out.append(total.reshape(-1))
    return np.concatenate(out)


COMPONENT_CHUNKS = 2**31  # their numbers begin here
COMPONENTS = Chain([("transform", Stage("rotate", 10)), ("quantize", Stage("eden", 4))])


def rank_of(chain):
    argument = chain.principal.argument
    return argument[0] if chain.principal.name == "components" else argument


def component_columns(tensors, chain):
    """Lengths of the columns of the factors of principal components."""
    if not chain.principal.name:
        return []
    r = rank_of(chain)
    return [c for t in tensors if is_factored(t, r) for side in t.matrix for c in [side] * r]


def add_components(stream, factors, tensors, r):
    """The main stream, of which only the rest was in the chunks."""
    out = [np.zeros(0, np.float32)]
    at = from_ = 0
    for tensor in tensors:
        part = stream[at : at + tensor.elements]
        at += tensor.elements
        if is_factored(tensor, r):
            rows, columns = tensor.matrix
            p = factors[from_ : from_ + r * rows].reshape(r, rows)
            from_ += r * rows
            q = factors[from_ : from_ + r * columns].reshape(r, columns)
            from_ += r * columns
            part = part.reshape(rows, columns)
            for t in range(r):
                part = part + p[t][:, None] * q[t][None, :]
            part = part.reshape(-1)
        out.append(part)
    return np.concatenate(out)


def unsketch(cells, elements, rows, columns, seed):
    cells = cells.reshape(rows, columns)
    guesses = []
    for t in range(rows):
        h = mix_many(Random(seed, PURPOSE_SKETCH, t).number64(), elements)
        cell = ((h >> np.uint64(32)) * np.uint64(columns)) >> np.uint64(32)
        guess = cells[t][cell.astype(np.int64)]
        guesses.append(np.where(h & np.uint64(1), -guess, guess))
    guesses = np.sort(np.array(guesses), axis=0)
    middle = rows // 2
    if rows % 2:
        estimate = guesses[middle]
    else:
        estimate = np.float32(0.5) * (guesses[middle - 1] + guesses[middle])
    best = np.argsort(-np.abs(estimate), kind="stable")[: max(1, columns // 10)]
    out = np.zeros(elements, np.float32)
    out[best] = np.where(estimate[best] == 0, np.float32(0), estimate[best])
    return out


# ---------------------------------------------------------------------------------------------------------
# Frames


def decode(frame, schema):
    """The header, the chunks (main, small, components), and the values as float32 in the order of the schema."""
    header, header_bytes = take_header(frame, schema)
    chain = header.chain
    is_small = deal(schema, chain)
    main = [t for t, small in zip(schema, is_small) if not small]
    small = [t for t, small in zip(schema, is_small) if small]
    lengths = [
        (main_length(main, chain), 0),
        (sum(t.elements for t in small), 0),
        (sum(component_columns(main, chain)), COMPONENT_CHUNKS),
    ]
    tables, at = take_table(frame, header_bytes, lengths)
    (checksum,) = np.frombuffer(frame[44:48], "<u4")
    require(crc32c(frame[:44] + bytes(4) + frame[48:at]) == checksum, "the checksum of header and table is wrong")
    end = at + sum(chunk.bytes for table in tables for chunk in table)
    require(end == len(frame), f"the chunks end at {end} of {len(frame)} bytes")

    streams = []
    headers = (header, header, dataclasses.replace(header, chain=COMPONENTS))
    for table, own, is_small_stream in zip(tables, headers, (False, True, False)):
        stream = [np.zeros(0, np.float32)]
        for chunk in table:
            body = frame[at : at + chunk.bytes]
            if own.chain is COMPONENTS and chain.principal.name == "components":
                stream.append(take_grid_chunk(body, chunk, component_columns(main, chain)))
            else:
                stream.append(take_chunk(body, chunk, own, is_small_stream))
            at += chunk.bytes
        streams.append(np.concatenate(stream))
    with np.errstate(over="ignore", invalid="ignore"):
        streams[0] = restore_main(streams[0], main, header)
        if chain.principal.name:
            streams[0] = add_components(streams[0], streams[2], main, rank_of(chain))
    require(np.isfinite(streams[0]).all(), "a value is not finite")

    values = [np.zeros(0, np.float32)]
    taken = [0, 0]
    for tensor, stream in zip(schema, is_small):
        values.append(streams[stream][taken[stream] : taken[stream] + tensor.elements])
        taken[stream] += tensor.elements
    return header, tables, np.concatenate(values)


def apply_delta(values, parameters, g):
    """The parameters that a delta or snapshot makes of those of its base version (section 3)."""
    on_grid = np.rint(values.astype(np.float64) * 2.0**g) * 2.0**-g  # ties to even
    return parameters + on_grid.astype(np.float32)


# ---------------------------------------------------------------------------------------------------------
# Zstandard (RFC 8878), without dictionaries


def zstd_decode(data, size):
    """One frame that fills `data`, says its content size, and has no dictionary."""
    source = Bytes(data, "zstd")
    require(source.take(4) == b"\x28\xb5\x2f\xfd", "zstd: the magic is wrong")
    descriptor = source.number(1)
    single_segment = descriptor >> 5 & 1
    require(not descriptor & 8, "zstd: a reserved bit is set")
    window = None
    if not single_segment:
        byte = source.number(1)
        window = (1 << 10 + (byte >> 3)) // 8 * (8 + (byte & 7))
    require(source.number([0, 1, 2, 4][descriptor & 3]) == 0, "zstd: a dictionary")
    size_flag = descriptor >> 6
    require(size_flag or single_segment, "zstd: no content size")
    content = source.number(1 << size_flag) + (256 if size_flag == 1 else 0)
    require(content == size, f"zstd: a content of {content} bytes, not {size}")
    block_limit = min(window if window is not None else content, 128 * 1024)

    state = ZstdState()
    out = bytearray()
    last = False
    while not last:
        block = source.number(3)
        last, kind, length = bool(block & 1), block >> 1 & 3, block >> 3
        require(length <= block_limit, "zstd: a block that is too long")
        before = len(out)
        if kind == 0:
            out += source.take(length)
        elif kind == 1:
            out += source.take(1) * length
        elif kind == 2:
            zstd_block(source.take(length), state, out, block_limit)
        else:
            raise Refused("zstd: a reserved block type")
        require(len(out) - before <= block_limit, "zstd: a block that is too long")
        require(len(out) <= size, "zstd: more than the content size")
    require(len(out) == size, "zstd: less than the content size")
    if descriptor & 4:
        require(source.number(4) == xxh64(bytes(out)) & MASK32, "zstd: the checksum is wrong")
    source.finish()
    return bytes(out)


class ZstdState:
    """What one block leaves to the next."""

    def __init__(self):
        self.huffman = None
        self.tables = {}  # of sequences: literal lengths, offsets, match lengths
        self.offsets = [1, 4, 8]


class BackwardBits:
    """Bits from the end of a byte string; its last byte's highest set bit marks the end."""

    def __init__(self, data):
        require(data and data[-1], "zstd: a bit stream without end")
        self.data = data
        self.left = 8 * len(data) - 9 + data[-1].bit_length()

    def peek(self, count):
        """The next bits as a number, with zeros beyond the beginning."""
        low = self.left - count
        first = max(low, 0) // 8
        value = int.from_bytes(self.data[first : (self.left + 7) // 8], "little")
        shift = low - 8 * first
        value = value >> shift if shift >= 0 else value << -shift
        return value & ((1 << count) - 1)

    def read(self, count):
        require(count <= self.left, "zstd: a bit stream ends too early")
        value = self.peek(count)
        self.left -= count
        return value


def fse_counts(source, highest_log, highest_symbol):
    """A table description (RFC 8878, 4.1.1): accuracy log and normalized counts."""
    bits = int.from_bytes(source.data[source.at :], "little")
    used = 4
    log = (bits & 15) + 5
    require(log <= highest_log, "zstd: an accuracy that is too high")
    left = 1 << log
    counts = []
    while left > 0:
        width = (left + 1).bit_length()
        value = bits >> used & ((1 << width) - 1)
        short = (1 << width) - 2 - left
        low = value & ((1 << width - 1) - 1)
        if low < short:
            value = low
            used += width - 1
        else:
            used += width
            if value >= 1 << width - 1:
                value -= short
        counts.append(value - 1)
        left -= abs(value - 1)
        if value == 1:
            while True:
                repeat = bits >> used & 3
                used += 2
                counts += [0] * repeat
                require(len(counts) <= highest_symbol + 1, "zstd: too many symbols")
                if repeat != 3:
                    break
    require(left == 0 and len(counts) <= highest_symbol + 1, "zstd: bad counts")
    source.take((used + 7) // 8)
    return log, counts


def fse_table(log, counts):
    """A decoding table: (symbol, bits to read, what they are added to) for each state."""
    size = 1 << log
    symbols = [None] * size
    end = size
    for symbol, count in enumerate(counts):
        if count == -1:
            end -= 1
            symbols[end] = symbol
    at = 0
    for symbol, count in enumerate(counts):
        for _ in range(max(count, 0)):
            symbols[at] = symbol
            at = (at + (size >> 1) + (size >> 3) + 3) % size
            while at >= end:
                at = (at + (size >> 1) + (size >> 3) + 3) % size
    following = [abs(count) for count in counts]
    table = []
    for symbol in symbols:
        number = following[symbol]
        following[symbol] += 1
        width = log + 1 - number.bit_length()
        table.append((symbol, width, (number << width) - size))
    return log, table


def huffman_table(source):
    """Reads a tree: (bits of the longest code, (symbol, bits) for each value of that many bits)."""
    head = source.number(1)
    if head >= 128:
        count = head - 127
        packed = source.take((count + 1) // 2)
        weights = [packed[i // 2] >> (0 if i % 2 else 4) & 15 for i in range(count)]
    else:
        part = Bytes(source.take(head), "zstd: weights")
        log, table = fse_table(*fse_counts(part, 6, 12))
        bits = BackwardBits(part.rest())
        states = [bits.read(log), bits.read(log)]
        weights = []
        turn = 0
        while True:
            symbol, width, base = table[states[turn]]
            weights.append(symbol)
            require(len(weights) <= 255, "zstd: too many weights")
            if width > bits.left:
                weights.append(table[states[1 - turn]][0])
                break
            states[turn] = base + bits.read(width)
            turn = 1 - turn
        require(len(weights) <= 255, "zstd: too many weights")
    require(all(w <= 11 for w in weights), "zstd: a weight that is too large")
    total = sum(1 << w - 1 for w in weights if w)
    require(total, "zstd: no weights")
    longest = total.bit_length()
    rest = (1 << longest) - total
    require(rest & (rest - 1) == 0 and longest <= 11, "zstd: weights that do not fit")
    weights.append(rest.bit_length())
    table = []
    for weight in range(1, longest + 1):
        for symbol, w in enumerate(weights):
            if w == weight:
                table += [(symbol, longest + 1 - weight)] * (1 << weight - 1)
    return longest, table


def huffman_decode(data, count, tree):
    longest, table = tree
    bits = BackwardBits(data)
    out = bytearray()
    for _ in range(count):
        symbol, width = table[bits.peek(longest)]
        out.append(symbol)
        bits.left -= width
        require(bits.left >= 0, "zstd: literals end too early")
    require(bits.left == 0, "zstd: literals left over")
    return out


def zstd_literals(source, state, limit):
    first = source.data[source.at] if source.left() else 0
    kind, form = first & 3, first >> 2 & 3
    if kind < 2:
        header = source.number([1, 2, 1, 3][form])
        size = header >> (3 if form in (0, 2) else 4)
        require(size <= limit, "zstd: too many literals")
        return source.take(size) if kind == 0 else source.take(1) * size
    width = [10, 10, 14, 18][form]
    header = source.number([3, 3, 4, 5][form]) >> 4
    size, packed = header & ((1 << width) - 1), header >> width
    require(size <= limit, "zstd: too many literals")
    part = Bytes(source.take(packed), "zstd: literals")
    if kind == 2:
        state.huffman = huffman_table(part)
    require(state.huffman is not None, "zstd: no tree to use again")
    if form == 0:
        return huffman_decode(part.rest(), size, state.huffman)
    lengths = [part.number(2) for _ in range(3)]
    each = (size + 3) // 4
    require(3 * each <= size, "zstd: too few literals for four streams")
    out = bytearray()
    for length in lengths:
        out += huffman_decode(part.take(length), each, state.huffman)
    return out + huffman_decode(part.rest(), size - 3 * each, state.huffman)


# Codes of sequences: bits that follow, and what they are added to.
LITERAL_BITS = [0] * 16 + [1, 1, 1, 1, 2, 2, 3, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]
MATCH_BITS = [0] * 32 + [1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]


def baselines(bits, first):
    out = [first]
    for width in bits[:-1]:
        out.append(out[-1] + (1 << width))
    return out


LITERAL_BASE = baselines(LITERAL_BITS, 0)
MATCH_BASE = baselines(MATCH_BITS, 3)

# name: highest accuracy, highest symbol, accuracy and counts of the predefined table
SEQUENCE_CODES = {
    "literals": (
        9,
        35,
        6,
        [4, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 2, 1, 1, 1, 1, 1]
        + [-1] * 4,
    ),
    "offset": (8, 31, 5, [1, 1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1] + [-1] * 5),
    "match": (9, 52, 6, [1, 4, 3, 2, 2, 2, 2, 2, 2] + [1] * 37 + [-1] * 7),
}


def sequence_table(name, mode, source, state):
    highest_log, highest_symbol, log, counts = SEQUENCE_CODES[name]
    if mode == 0:
        state.tables[name] = fse_table(log, counts)
    elif mode == 1:
        symbol = source.number(1)
        require(symbol <= highest_symbol, "zstd: a code out of range")
        state.tables[name] = (0, [(symbol, 0, 0)])
    elif mode == 2:
        state.tables[name] = fse_table(*fse_counts(source, highest_log, highest_symbol))
    require(name in state.tables, "zstd: no table to use again")
    return state.tables[name]


def zstd_block(data, state, out, limit):
    source = Bytes(data, "zstd: a block")
    literals = bytes(zstd_literals(source, state, limit))
    count = source.number(1)
    if count == 255:
        count = source.number(2) + 0x7F00
    elif count >= 128:
        count = (count - 128 << 8) + source.number(1)
    if count == 0:
        source.finish()
        out += literals
        return
    modes = source.number(1)
    require(not modes & 3, "zstd: reserved bits are set")
    literal_log, literal_table = sequence_table("literals", modes >> 6, source, state)
    offset_log, offset_table = sequence_table("offset", modes >> 4 & 3, source, state)
    match_log, match_table = sequence_table("match", modes >> 2 & 3, source, state)
    bits = BackwardBits(source.rest())
    literal_state, offset_state, match_state = bits.read(literal_log), bits.read(offset_log), bits.read(match_log)
    end = len(out) + limit
    at = 0
    for i in range(count):
        code = offset_table[offset_state][0]
        offset = (1 << code) + bits.read(code)
        code = match_table[match_state][0]
        match_length = MATCH_BASE[code] + bits.read(MATCH_BITS[code])
        code = literal_table[literal_state][0]
        literal_length = LITERAL_BASE[code] + bits.read(LITERAL_BITS[code])
        if i + 1 < count:
            _, width, base = literal_table[literal_state]
            literal_state = base + bits.read(width)
            _, width, base = match_table[match_state]
            match_state = base + bits.read(width)
            _, width, base = offset_table[offset_state]
            offset_state = base + bits.read(width)
        offset = real_offset(offset, literal_length, state.offsets)
        require(at + literal_length <= len(literals), "zstd: too few literals")
        out += literals[at : at + literal_length]
        at += literal_length
        require(0 < offset <= len(out), "zstd: an offset before the beginning")
        require(len(out) + match_length <= end, "zstd: a block that is too long")
        if offset >= match_length:
            out += out[-offset : len(out) - offset + match_length]
        else:
            piece = bytes(out[-offset:])
            out += (piece * (match_length // offset + 1))[:match_length]
    require(bits.left == 0, "zstd: sequences left over")
    out += literals[at:]


def real_offset(value, literal_length, recent):
    """Repeated offsets (RFC 8878, 3.1.1.5); keeps the last three in `recent`."""
    if value > 3:
        recent[:] = [value - 3, recent[0], recent[1]]
        return recent[0]
    which = value - 1 + (literal_length == 0)
    offset = recent[which] if which < 3 else recent[0] - 1
    if which:
        recent[:] = [offset, recent[0], recent[2] if which == 1 else recent[1]]
    return offset


def xxh64(data):
    """XXH64 with seed 0: the checksum that a Zstandard frame may have."""
    p1, p2, p3, p4, p5 = (
        0x9E3779B185EBCA87,
        0xC2B2AE3D27D4EB4F,
        0x165667B19E3779F9,
        0x85EBCA77C2B2AE63,
        0x27D4EB2F165667C5,
    )

    def rotl(x, r):
        return (x << r | x >> 64 - r) & MASK64

    def step(acc, lane):
        return rotl((acc + lane * p2) & MASK64, 31) * p1 & MASK64

    at = 0
    if len(data) >= 32:
        acc = [(p1 + p2) & MASK64, p2, 0, -p1 & MASK64]
        while at + 32 <= len(data):
            for i in range(4):
                acc[i] = step(acc[i], int.from_bytes(data[at + 8 * i : at + 8 * i + 8], "little"))
            at += 32
        h = sum(rotl(a, r) for a, r in zip(acc, (1, 7, 12, 18))) & MASK64
        for a in acc:
            h = ((h ^ step(0, a)) * p1 + p4) & MASK64
    else:
        h = p5
    h = (h + len(data)) & MASK64
    while at + 8 <= len(data):
        h = (rotl(h ^ step(0, int.from_bytes(data[at : at + 8], "little")), 27) * p1 + p4) & MASK64
        at += 8
    if at + 4 <= len(data):
        h = (rotl(h ^ int.from_bytes(data[at : at + 4], "little") * p1 & MASK64, 23) * p2 + p3) & MASK64
        at += 4
    for byte in data[at:]:
        h = rotl(h ^ byte * p5 & MASK64, 11) * p1 & MASK64
    h = (h ^ h >> 33) * p2 & MASK64
    h = (h ^ h >> 29) * p3 & MASK64
    return h ^ h >> 32


# ---------------------------------------------------------------------------------------------------------
# Command line


def digest(values):
    return hashlib.sha256(values.astype("<f4").tobytes()).hexdigest()


def check_golden(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    schemas = {name: parse_schema(rows) for name, rows in manifest["schemas"].items()}
    grid_bits = manifest["applied"]["grid_bits"]
    failures = 0

    def fail(name, reason):
        nonlocal failures
        failures += 1
        print(f"{name}: {reason}")

    for entry in manifest["good"]:
        name = entry["file"]
        try:
            header, _, values = decode((folder / name).read_bytes(), schemas[entry["schema"]])
        except Refused as refused:
            fail(name, f"refused: {refused}")
            continue
        if digest(values) != entry["sha256"]:
            fail(name, "other values")
        parameters = ((np.arange(len(values)) % 257 - 128) / 1024).astype(np.float32)
        if digest(apply_delta(values, parameters, grid_bits)) != entry["applied_sha256"]:
            fail(name, "other parameters after the delta")
        for field in ("seed", "base_version", "round"):
            if getattr(header, field) != int(entry[field]):
                fail(name, f"another {field}")
    for entry in manifest["bad"]:
        name = entry["file"]
        try:
            decode((folder / name).read_bytes(), schemas[entry["schema"]])
            fail(name, f"accepted, although: {entry['why']}")
        except Refused as refused:
            entry["refused"] = str(refused)
    print(f"{len(manifest['good'])} good and {len(manifest['bad'])} bad frames, {failures} failures")
    return 1 if failures else 0


MODES = ["empty", "dense", "plain", "rice", "bitmap", "raw", "half", "cabac"]


def show(arguments):
    schema = parse_schema(json.loads(pathlib.Path(arguments.schema).read_text()))
    try:
        header, tables, values = decode(pathlib.Path(arguments.frame).read_bytes(), schema)
    except Refused as refused:
        print(f"refused: {refused}")
        return 1
    print(f"stages        {header.chain}")
    print(f"frame         {header.frame_bytes} bytes")
    print(f"elements      {header.elements}")
    print(f"schema        {header.schema:016x}")
    print(f"seed          {header.seed}")
    print(f"base version  {header.base_version}")
    print(f"round         {header.round}")
    for stream, table in zip(("main", "small", "components"), tables):
        for chunk in table:
            coded = ", coded" if chunk.coded else ""
            print(f"{stream + ' chunk':13} {chunk.elements} elements, {chunk.bytes} bytes, {MODES[chunk.mode]}{coded}")
    print(f"sha-256       {digest(values)}")
    if arguments.out:
        pathlib.Path(arguments.out).write_bytes(values.astype("<f4").tobytes())
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("frame", help="a frame, or: golden")
    parser.add_argument("--schema", help="JSON of the schema")
    parser.add_argument("--out", help="where to write the values, as float32")
    parser.add_argument("--folder", default=HERE / "golden", help="where the golden frames are")
    arguments = parser.parse_args()
    if arguments.frame == "golden":
        return check_golden(pathlib.Path(arguments.folder))
    if not arguments.schema:
        parser.error("a frame needs --schema")
    return show(arguments)


if __name__ == "__main__":
    sys.exit(main())
