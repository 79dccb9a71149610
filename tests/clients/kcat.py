"""kcat: lines in, lines out."""

import subprocess

from records import KCAT_HEADERS, Record

DELIMITER = b"\t"


def write(bootstrap, topic, codec, records):
    lines = {}
    for record in records:
        line = (record.key or b"") + DELIMITER + (record.value or b"") + b"\n"
        lines.setdefault(record.partition, []).append(line)
    headers = [word for name, value in KCAT_HEADERS for word in ("-H", f"{name}={value.decode()}")]
    for partition, text in sorted(lines.items()):
        command = ["kcat", "-P", "-b", bootstrap, "-t", topic, "-p", str(partition), "-z", codec]
        command += ["-X", "enable.idempotence=true", "-X", "message.timeout.ms=60000"]
        command += ["-Z", "-K", DELIMITER.decode(), *headers]
        done = subprocess.run(command, input=b"".join(text), stderr=subprocess.PIPE)
        if done.returncode or b"ERROR" in done.stderr:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr.decode()}")


def read(bootstrap, topic, partitions, check):
    for partition in range(partitions):
        command = ["kcat", "-C", "-b", bootstrap, "-t", topic, "-p", str(partition)]
        command += ["-o", "0", "-e", "-q", "-X", "check.crcs=true", "-X", "fetch.wait.max.ms=10"]
        command += ["-f", "%p %o %T %K %S %h\\n%k%s\\n"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        try:
            while line := process.stdout.readline():
                check.take(_record(line, process.stdout, check))
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


def _record(line, stream, check):
    partition, offset, timestamp, key_len, value_len, headers = line[:-1].split(b" ", 5)
    key = _bytes(stream, int(key_len))
    value = _bytes(stream, int(value_len))
    stream.read(1)
    partition, offset = int(partition), int(offset)
    expected = check.expected[partition]
    wanted = expected[offset].headers if offset < len(expected) else []
    # kcat prints headers as text that cannot be split with certainty: compared as that text.
    read = wanted if headers == _rendered(wanted) else headers
    return Record(partition, offset, key, value, read, int(timestamp))


def _bytes(stream, length):
    return None if length < 0 else stream.read(length)


def _rendered(headers):
    values = [(name.encode(), b"NULL" if value is None else value) for name, value in headers]
    return b",".join(name + b"=" + value for name, value in values)
