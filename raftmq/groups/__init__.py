"""Consumer groups, pure: who reads which partition, and how far each group has come. See README.md."""
