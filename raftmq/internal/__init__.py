"""Generated: messages between nodes and on disk. Never edited; `make proto` makes it anew."""
