"""Criteo's display-advertising click logs: their text, its prepared form, and files that look like them."""
