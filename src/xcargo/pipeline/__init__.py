"""Push, pull and purge of values: the only door for everyone above."""
