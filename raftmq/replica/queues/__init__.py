"""Queues of the partitions that are led here: who waits for messages, and what goes into the log for them.

    host     calls that await: receive, settle, extend
      └ desk     one partition, one term: gathers what all callers of a moment ask into one entry of the log
          └ line     one group: who waits, what is ready, what is to be introduced
      └ records  the records themselves, decoded once for all who deliver them

Nothing is decided here about any message. Each entry holds requests, which every replica decides alike when it applies
them (``raftmq.partition.queues``); what is kept here is who asked, and goes with the leadership.
"""
