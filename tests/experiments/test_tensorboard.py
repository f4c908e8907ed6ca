"""TensorBoard's files hold the numbers of the JSON lines, also after a run went on from a checkpoint."""

import struct

import pytest
from tensorboardX.proto import event_pb2

from experiments.running.launch import Session, launch
from sparsity.train.log import Lines, read


def shown(folder):
    """{(tag, step): value} as a viewer would show it: what a later file begins again is purged."""
    found = {}
    for path in sorted(folder.iterdir(), key=lambda p: p.name):
        data, place = path.read_bytes(), 0
        while place < len(data):
            (length,) = struct.unpack("<Q", data[place : place + 8])
            event = event_pb2.Event.FromString(data[place + 12 : place + 12 + length])
            place += 16 + length
            if event.session_log.status == event_pb2.SessionLog.START:
                found = {key: value for key, value in found.items() if key[1] < event.step}
            for value in event.summary.value:
                # Where one phase ends and the next begins, there are two ticks.
                assert value.tag.startswith("plan/") or (value.tag, event.step) not in found
                found[value.tag, event.step] = value.simple_value
    return found


def test_the_events_are_the_records_once_each(config_of, tmp_path, monkeypatch):
    config = config_of("sequential_attention,plan=gradual", log_every=3, save_every=9)
    session, write = Session(say=lambda text: None, events=True), Lines.write

    def until(lines, record):
        if record["step"] >= 30:
            raise KeyboardInterrupt
        write(lines, record)

    with monkeypatch.context() as patch:
        patch.setattr(Lines, "write", until)
        with pytest.raises(KeyboardInterrupt):
            launch(config, tmp_path, session)
    launch(config, tmp_path, session)
    found = shown(tmp_path / "tensorboard")
    records = list(read(tmp_path / "metrics.jsonl"))
    for record in records:
        if record["event"] == "train":  # also where the run went on, at step 27
            assert abs(found["train/loss", record["step"]] - record["loss"]) < 1e-6
    logged = [r["step"] for r in records if r["event"] == "train"]
    assert sorted(step for tag, step in found if tag == "train/loss") == logged
    kernel = "masks/alive/params/dense1/kernel"
    ticks = {r["step"]: r["groups"] for r in records if r["event"] == "tick" and r["groups"]}
    assert {step for tag, step in found if tag == kernel} == set(ticks)
