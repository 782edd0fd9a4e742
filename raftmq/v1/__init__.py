"""Generated: the public API. Never edited; `make proto` makes it anew."""
