"""Notes reach every process, and all leave at one place; held by a real service, of threads as processes."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from jax._src.lib import _jax

from experiments.processes.accord import Accord
from experiments.processes.sameness import refuse_differing
from sparsity.train.board import ALONE, Board
from tests.experiments.processes.together import free_port

COUNT = 3


@pytest.fixture
def boards():
    """Those of three processes that have joined."""
    address = f"127.0.0.1:{free_port()}"
    service = _jax.get_distributed_runtime_service(address, COUNT)
    clients = [_jax.get_distributed_runtime_client(address, i) for i in range(COUNT)]
    at_once(lambda client: client.connect(), clients)
    yield [Board(client, i, COUNT) for i, client in enumerate(clients)]
    at_once(lambda client: client.shutdown(), clients)
    service.shutdown()


def at_once(act, values):
    """What each comes to, or raises, in a thread of its own."""

    def tried(value):
        try:
            return act(value)
        except Exception as error:  # noqa: BLE001 - it is what the test looks at
            return error

    with ThreadPoolExecutor(len(values)) as pool:
        return [*pool.map(tried, values)]


def test_all_are_told_what_process_0_makes(boards):
    made = at_once(lambda b: b.told("value", lambda: {"from": b.index}), boards)
    assert made == [{"from": 0}] * COUNT
    again = at_once(lambda b: b.told("value", lambda: b.index + 7), boards)
    assert again == [7] * COUNT

    def refuse():
        raise OSError("no room")

    raised = at_once(lambda b: b.told("value", refuse), boards)
    assert [type(error) for error in raised] == [OSError, ValueError, ValueError]
    assert str(raised[1]) == "process 0: no room"


def test_texts_are_gathered_in_the_order_of_the_processes(boards):
    assert at_once(lambda b: b.gather("x", str(b.index)), boards) == [["0", "1", "2"]] * COUNT
    with pytest.raises(TimeoutError, match="no word from a process within 0.2 s"):
        boards[0].gather("x", "", seconds=0.2)


def test_the_first_note_stands_unless_it_is_written_again(boards):
    assert boards[1].post("news/a", "1") and not boards[0].post("news/a", "2")
    assert boards[2].notes("news") == {"a": "1"}
    assert boards[0].post("news/a", "3", again=True) and boards[1].notes("news") == {"a": "3"}
    assert boards[1].notes("other") == {}


def test_one_alone_needs_nobody():
    assert ALONE.gather("x", "a") == ["a"] and ALONE.told("x", lambda: 3) == 3
    ALONE.meet("x")


@pytest.mark.parametrize("pauses", [(0, 0, 0), (0.001, 0.0005, 0.002)])
def test_all_leave_at_one_place_however_far_each_has_come(boards, pauses):
    accords = [Accord(board) for board in boards]

    def goes(index):
        places = 0
        while not accords[index].due():
            places += 1
            time.sleep(pauses[index])
        return places

    settling = threading.Timer(0.1, lambda: at_once(Accord.settle, accords))
    settling.start()
    left = at_once(goes, range(COUNT))
    settling.join()
    assert len({*left}) == 1 and left[0] > 10


def test_another_config_is_refused_in_every_process(boards):
    configs = [{"seed": 0, "data": {"root": str(i)}} for i in range(COUNT)]
    refuse = lambda b: refuse_differing(b, configs[b.index], 10)
    assert at_once(refuse, boards) == [None] * COUNT
    configs[2] = {"seed": 1, "data": {"root": "2"}}
    raised = at_once(refuse, boards)
    assert all("seed: 0 at process 0, 1 at process 2" in str(error) for error in raised)
