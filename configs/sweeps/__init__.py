"""Families of runs as data, for `python -m experiments.sweep`."""
