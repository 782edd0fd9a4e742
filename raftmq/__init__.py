"""raftmq: a Raft-replicated clustered message broker.

    async with raftmq.connect("127.0.0.1:9401") as client:
        async with client.producer("orders") as producer:
            receipt = await producer.send(b"hello", key=b"customer-7")

The client is imported from here; the broker lives in the packages below (see README.md for the layers).
"""

__version__ = "0.1.0"
