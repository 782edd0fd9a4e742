"""The data format, pure: entries of the log, batches of records, hash slots."""
