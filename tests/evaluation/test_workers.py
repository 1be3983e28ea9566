import threading

import pytest

from mattecli.evaluation import workers as module
from mattecli.evaluation.workers import Workers


@pytest.fixture(autouse=True)
def three(monkeypatch):
    monkeypatch.setattr(module, "processors", lambda: 3)


def test_results_come_in_order_and_maps_go_over_maps():
    with Workers() as workers:
        doubled = workers.map(lambda number: 2 * number, range(50))
        assert list(workers.map(str, doubled)) == [str(2 * number) for number in range(50)]


def test_several_at_a_time():
    together = threading.Barrier(3, timeout=10)
    with Workers() as workers:
        assert len(list(workers.map(lambda number: together.wait(), range(6)))) == 6


def test_no_more_is_taken_than_is_under_way():
    taken = []

    def numbers():
        for number in range(20):
            taken.append(number)
            yield number

    with Workers() as workers:
        for number in workers.map(int, numbers()):
            assert len(taken) <= number + 4


def test_an_error_comes_in_its_turn_and_what_waits_is_given_up():
    done, go = [], threading.Event()

    def work(number):
        if number == 1:
            raise OSError("broken")
        assert number in (0, 1) or go.wait(10)
        done.append(number)
        return number

    with Workers() as workers:
        results = workers.map(work, range(100))
        assert next(results) == 0
        with pytest.raises(OSError, match="broken"):
            next(results)
        go.set()
    assert len(done) <= 5
