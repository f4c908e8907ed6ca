"""A run as a process of a sweep launches it: whatever it raises becomes the cause that its status tells."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.running.workdir import Workdir, in_use, read, write


def run(config: dict[str, Any], folder: Path) -> tuple[dict[str, Any], str]:
    """The summary of the config run in the folder, and "" or {} and the cause why there is none."""
    from experiments.running.launch import Session

    return within(config, folder, Session(say=lambda text: None))


def within(config: dict[str, Any], folder: Path, session: Any) -> tuple[dict[str, Any], str]:
    """The same in a session of one's own."""
    from experiments.running.launch import launch

    try:
        return launch(config, folder, session), ""
    except Exception as error:  # noqa: BLE001 - whatever a run raises, the others go on
        cause = f"{type(error).__name__}: {error}"
        record(config, folder, cause)
        return {}, cause


def record(config: Mapping[str, Any], folder: Path, cause: str) -> None:
    """Writes that a run has failed, where its own launch could not: before its directory, or killed."""
    here = Workdir(folder)
    try:
        status = read(here.status) if here.status.exists() else {}
        if in_use(here) or status.get("status", "running") not in ("running", "failed"):
            return
        folder.mkdir(parents=True, exist_ok=True)
        if not here.config.exists():
            write(here.config, config)
        write(here.status, {**status, "status": "failed", "cause": cause})
    except (OSError, ValueError):
        return  # a directory that cannot be written is itself the cause, and it is told to the caller
