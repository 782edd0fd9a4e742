"""Raft, as a library without IO."""
