"""confluent-kafka (librdkafka)."""

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from records import Record


def write(bootstrap, topic, codec, records):
    failures = []

    def delivered(error, _message):
        if error is not None:
            failures.append(error)

    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "enable.idempotence": True,
            "compression.type": codec,
            "linger.ms": 5,
            "queue.buffering.max.messages": 1_000_000,
            "message.timeout.ms": 60_000,
            "log_level": 2,
        }
    )
    for record in records:
        producer.produce(
            topic,
            key=record.key,
            value=record.value,
            partition=record.partition,
            timestamp=record.timestamp_ms,
            headers=record.headers,
            on_delivery=delivered,
        )
        producer.poll(0)
    left = producer.flush(60)
    if left or failures:
        raise KafkaException(f"{left} not sent, first failures: {failures[:3]}")


def read(bootstrap, topic, partitions, check):
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "unused",
            "enable.auto.commit": False,
            "log_level": 2,
        }
    )
    # All topics, as tools ask for them: librdkafka's request has bytes to spare behind its end.
    if topic not in consumer.list_topics(timeout=15).topics:
        raise KafkaException(f"{topic} is not listed")
    consumer.assign([TopicPartition(topic, p, 0) for p in range(partitions)])
    while check.left:
        messages = consumer.consume(min(10_000, check.left), timeout=15)
        if not messages:
            break
        for message in messages:
            if message.error():
                raise KafkaException(message.error())
            check.take(
                Record(
                    message.partition(),
                    message.offset(),
                    message.key(),
                    message.value(),
                    message.headers() or [],
                    message.timestamp()[1],
                )
            )
    consumer.close()
