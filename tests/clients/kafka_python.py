"""kafka-python."""

from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from records import Record


def write(bootstrap, topic, codec, records):
    producer = KafkaProducer(
        bootstrap_servers=bootstrap,
        enable_idempotence=True,
        acks="all",
        compression_type=None if codec == "none" else codec,
        linger_ms=5,
    )
    sent = [
        producer.send(
            topic,
            key=record.key,
            value=record.value,
            partition=record.partition,
            timestamp_ms=record.timestamp_ms,
            headers=record.headers,
        )
        for record in records
    ]
    producer.flush(60)
    for future in sent:
        future.get(timeout=1)
    producer.close()


def read(bootstrap, topic, partitions, check):
    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap,
        group_id=None,
        enable_auto_commit=False,
        consumer_timeout_ms=15_000,
    )
    assigned = [TopicPartition(topic, p) for p in range(partitions)]
    consumer.assign(assigned)
    for partition in assigned:
        consumer.seek(partition, 0)
    while check.left:
        polled = consumer.poll(timeout_ms=15_000, max_records=10_000)
        if not polled:
            break
        for messages in polled.values():
            for m in messages:
                check.take(
                    Record(m.partition, m.offset, m.key, m.value, list(m.headers), m.timestamp)
                )
    consumer.close()
