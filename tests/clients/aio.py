"""aiokafka."""

import asyncio

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from records import Record


def write(bootstrap, topic, codec, records):
    asyncio.run(_write(bootstrap, topic, codec, records))


def read(bootstrap, topic, partitions, check):
    asyncio.run(_read(bootstrap, topic, partitions, check))


async def _write(bootstrap, topic, codec, records):
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap,
        enable_idempotence=True,
        compression_type=None if codec == "none" else codec,
        linger_ms=5,
        max_batch_size=65_536,
    )
    await producer.start()
    try:
        sent = []
        for record in records:
            sent.append(
                await producer.send(
                    topic,
                    key=record.key,
                    value=record.value,
                    partition=record.partition,
                    timestamp_ms=record.timestamp_ms,
                    headers=record.headers,
                )
            )
        await producer.flush()
        await asyncio.gather(*sent)
    finally:
        await producer.stop()


async def _read(bootstrap, topic, partitions, check):
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, group_id=None, enable_auto_commit=False
    )
    await consumer.start()
    try:
        assigned = [TopicPartition(topic, p) for p in range(partitions)]
        consumer.assign(assigned)
        for partition in assigned:
            consumer.seek(partition, 0)
        while check.left:
            polled = await consumer.getmany(timeout_ms=15_000, max_records=10_000)
            if not polled:
                break
            for messages in polled.values():
                for m in messages:
                    check.take(
                        Record(m.partition, m.offset, m.key, m.value, list(m.headers), m.timestamp)
                    )
    finally:
        await consumer.stop()
