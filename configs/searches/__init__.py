"""Adaptive searches as data: the space, how it is sampled, and what ends a run early."""
