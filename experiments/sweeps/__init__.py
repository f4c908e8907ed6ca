"""Families of runs as data, and the processes that run them."""
