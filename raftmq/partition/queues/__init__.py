"""Delivery state of queue groups in one partition: pure, compact, decided at apply. See README.md."""
