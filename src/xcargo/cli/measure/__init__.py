"""Measuring a store, and what the numbers say about settings: the parts of ``xcargo bench``."""
