"""The records that every client writes, and the check that what is read is what was written.

Record i of a writer is the same wherever it is computed: its key, value, headers, timestamp and
partition follow from (writer, i), so a reader needs nothing from the writer.
"""

import random
from typing import NamedTuple, Optional

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
WRITERS = ["confluent", "kafka_python", "aio", "kcat"]

# kcat prints headers as C strings on a line.
HEADER_BYTES = [byte for byte in range(256) if byte not in b"\0\n"]


class Record(NamedTuple):
    partition: int
    offset: int
    key: Optional[bytes]
    value: Optional[bytes]
    headers: list
    timestamp_ms: Optional[int]  # None: the client chose it


class Plan(NamedTuple):
    """What is written: to one topic per (writer, codec), partitions in turn."""

    prefix: str
    count: int
    partitions: int
    base_ms: int

    def topic(self, writer, codec):
        return f"{self.prefix}-{writer}-{codec}"

    def records(self, writer):
        made = make_text if writer == "kcat" else make
        return (made(self, writer, i) for i in range(self.count))


def make(plan, writer, i):
    """A record with everything that the protocol allows: bytes that are no text, null and empty
    keys, tombstones and empty values, headers twice with one name or with no value, time that
    runs backwards."""
    rng = random.Random(f"{writer}/{i}")
    key = None if i % 7 == 0 else b"" if i % 41 == 1 else b"key-%d-" % (i % 997) + rng.randbytes(3)
    if i % 10 == 3 and key is not None:
        value = None
    elif i % 43 == 2:
        value = b""
    else:
        value = rng.randbytes(rng.randrange(24)) + b" GET /index.html 200 " * rng.randrange(1, 12)
    headers = []
    if i % 3:
        headers.append(("trace", bytes(rng.choice(HEADER_BYTES) for _ in range(8))))
    if i % 5 == 0:
        headers += [("zone", b"eu-1"), ("zone", b""), ("größe", b"1")]
    if i % 11 == 0 and writer != "kafka_python":  # it has no headers without a value
        headers.append(("nothing", None))
    timestamp_ms = plan.base_ms + i * 3 - (i * 7919) % 1009
    return Record(i % plan.partitions, i // plan.partitions, key, value, headers, timestamp_ms)


KCAT_HEADERS = [("source", b"kcat"), ("empty", b"")]


def make_text(plan, writer, i):
    """What kcat can write from lines: text, the same headers everywhere, its own time."""
    rng = random.Random(f"{writer}/{i}")
    key = None if i % 7 == 0 else b"key-%d" % (i % 997)
    value = None if i % 10 == 3 else b"%d %d GET /index.html" % (i, rng.randrange(1 << 40))
    return Record(i % plan.partitions, i // plan.partitions, key, value, KCAT_HEADERS, None)


class Difference(Exception):
    """What was read is not what was written."""


class Check:
    """Takes records as they are read, per partition in order, and compares each."""

    def __init__(self, plan, writer):
        self.plan = plan
        self.expected = [[] for _ in range(plan.partitions)]
        for record in plan.records(writer):
            self.expected[record.partition].append(record)
        self.seen = [0] * plan.partitions
        self.left = plan.count

    def take(self, read):
        place = f"partition {read.partition}, record {self.seen[read.partition]}"
        partition = self.expected[read.partition]
        if self.seen[read.partition] >= len(partition):
            raise Difference(f"{place}: one more than was written, offset {read.offset}")
        wanted = partition[self.seen[read.partition]]
        if wanted.timestamp_ms is None:
            if not self.plan.base_ms - 3_600_000 < read.timestamp_ms < self.plan.base_ms + 36_000_000:
                raise Difference(f"{place}: timestamp {read.timestamp_ms} is not of today")
            read = read._replace(timestamp_ms=None)
        if read != wanted:
            raise Difference(f"{place}:\n  read    {read}\n  written {wanted}")
        self.seen[read.partition] += 1
        self.left -= 1

    def finish(self):
        if self.left:
            raise Difference(f"{self.left} records are missing, read per partition: {self.seen}")
