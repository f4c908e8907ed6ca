"""What is brought to the disk and what takes its name there, in order; all of it happens as ever."""

import os
import pathlib


def events(monkeypatch, naming):
    """A list that grows by ("sync", path) and by (naming, path), where naming is "rename" or "replace"."""
    seen, fsync, named = [], os.fsync, getattr(pathlib.Path, naming)

    def syncing(number):
        seen.append(("sync", os.readlink(f"/proc/self/fd/{number}")))
        return fsync(number)

    def renaming(path, target):
        seen.append((naming, str(path)))
        return named(path, target)

    monkeypatch.setattr(os, "fsync", syncing)
    monkeypatch.setattr(pathlib.Path, naming, renaming)
    return seen
