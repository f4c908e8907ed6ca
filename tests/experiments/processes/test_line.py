"""What is said over the line arrives; the far end's closing is heard by who watches, and by JAX only where none does."""

import contextlib
import os
import socket
import threading

import pytest

from experiments.processes.line import HERE, Line

SECONDS = 20  # for anything at all


@pytest.fixture
def pair():
    """(line, JAX's end, process 0's end) of a connection that has been made."""
    with contextlib.ExitStack() as stack:
        ear = stack.enter_context(socket.create_server((HERE, 0)))
        line = Line()
        host, port = line.to(f"{HERE}:{ear.getsockname()[1]}").split(":")
        near = stack.enter_context(socket.create_connection((host, int(port)), SECONDS))
        far, _ = ear.accept()
        far.settimeout(SECONDS)
        stack.enter_context(far)
        yield line, near, far


def test_bytes_go_both_ways(pair):
    _, near, far = pair
    near.sendall(b"there")
    assert far.recv(5) == b"there"
    sent = os.urandom(2**20)
    sending = threading.Thread(target=far.sendall, args=[sent])
    sending.start()
    got = b""
    while len(got) < len(sent):
        got += near.recv(2**16)
    sending.join()
    assert got == sent


def test_who_watches_hears_the_end_of_process_0_and_jax_does_not(pair):
    line, near, far = pair
    heard = threading.Event()
    line.broken = heard.set
    far.close()
    assert heard.wait(SECONDS)
    near.settimeout(0.2)
    with pytest.raises(TimeoutError):
        near.recv(1)


def test_where_nobody_watches_jax_hears_the_end(pair):
    _, near, far = pair
    far.close()
    assert near.recv(1) == b""


def test_jax_may_hang_up(pair):
    line, near, far = pair
    heard = threading.Event()
    line.broken = heard.set
    near.close()
    assert far.recv(1) == b"" and not heard.wait(0.2)


def test_a_process_0_that_is_not_there_yet_is_tried_again_by_jax():
    with socket.create_server((HERE, 0)) as ear:
        port = ear.getsockname()[1]
    host, near = Line().to(f"{HERE}:{port}").split(":")
    with socket.create_connection((host, int(near)), SECONDS) as connection:
        assert connection.recv(1) == b""


def test_a_proxy_for_http_is_not_asked_for_this_process(monkeypatch):
    monkeypatch.setenv("no_proxy", "cluster")
    monkeypatch.delenv("no_grpc_proxy", raising=False)
    Line().to(f"{HERE}:1")
    assert os.environ["no_proxy"] == f"cluster,{HERE}" and "no_grpc_proxy" not in os.environ
