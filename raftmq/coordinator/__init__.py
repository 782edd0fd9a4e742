"""Coordinates the consumer groups of this node: those whose Raft group it leads. See README.md of raftmq/groups."""
