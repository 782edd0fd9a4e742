"""What a run looks like to people: on the terminal, and as one page with pictures."""
