"""Experiments as data: base.py holds every field, the others hold what differs from it."""
