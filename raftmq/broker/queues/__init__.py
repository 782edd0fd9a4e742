"""raftmq.v1.Queue: topics as queues, whose messages are leased, settled, and handed out again.

    groups      the rules, by topic and name: decided by the controller's leader
    receiving   Receive: from one partition, or from whichever has messages
    verdicts    Ack and its kin: a token says which partition they are for
    handing     AckAndPublish: messages acknowledged and records appended as one entry
    processed   FindProcessedKeys: work that is known to be done
    dead_letters  copies of parked messages in a topic of their own
    work        Work: both of them in one stream
    tokens      what a delivery token says

What becomes of a message is decided in its partition (``raftmq.replica.queues``); here requests are checked, sent on
their way, and answered.
"""
