"""Runs one client against a broker: `run.py COMMAND CLIENT BOOTSTRAP PREFIX COUNT PARTITIONS BASE_MS`.

COMMAND is `create` (the topics; CLIENT does not matter), `write` (this client's topics, one per
codec) or `read` (every writer's topics, record by record). Prints a line per topic; exits with 1
at the first difference.
"""

import importlib
import sys
import time

from records import CODECS, WRITERS, Check, Difference, Plan


def create(plan, bootstrap):
    from confluent_kafka.admin import AdminClient, NewTopic

    names = [plan.topic(writer, codec) for writer in WRITERS for codec in CODECS]
    topics = [NewTopic(name, plan.partitions, 1) for name in names]
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for future in admin.create_topics(topics).values():
        future.result(30)


def timed(what, count, work):
    start = time.monotonic()
    work()
    seconds = time.monotonic() - start
    print(f"{what}: {count} records, {count / seconds:.0f}/s", flush=True)


def read(plan, client, bootstrap, writer, codec):
    check = Check(plan, writer)
    topic = plan.topic(writer, codec)

    def compare():
        client.read(bootstrap, topic, plan.partitions, check)
        check.finish()

    try:
        timed(f"{client.__name__} reads {topic}", plan.count, compare)
    except Difference as difference:
        sys.exit(f"{client.__name__} reads {topic}: {difference}")


def main():
    command, name, bootstrap, prefix, count, partitions, base_ms = sys.argv[1:]
    plan = Plan(prefix, int(count), int(partitions), int(base_ms))
    if command == "create":
        return create(plan, bootstrap)
    client = importlib.import_module(name)
    for codec in CODECS:
        if command == "write":
            topic, records = plan.topic(name, codec), plan.records(name)
            write = lambda: client.write(bootstrap, topic, codec, records)
            timed(f"{name} writes {topic}", plan.count, write)
        else:
            for writer in WRITERS:
                read(plan, client, bootstrap, writer, codec)


if __name__ == "__main__":
    main()
