"""Stages in threads: order, little memory, and every way to an end, with full queues and with empty ones."""

import signal
import subprocess
import sys
import threading
import time

import pytest

from mattecli.inference import belt, pipeline
from mattecli.inference.belt import Stopped
from mattecli.inference.pipeline import Progress, run


@pytest.fixture(autouse=True)
def no_thread_is_left():
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


@pytest.fixture(autouse=True)
def brief_reports(monkeypatch):
    monkeypatch.setattr(pipeline, "INTERVAL", 0.005)


class Stages:
    """Three stages that note what they see; `fault` (stage, number) raises, `slow` names stages that dawdle."""

    def __init__(self, count=8, fault=None, slow=()):
        self.count, self.fault, self.slow = count, fault, slow
        self.made, self.ends, self.most_at_once = [], {}, 0

    def as_mapping(self):
        return {"first": self.first, "second": self.second, "third": self.third}

    def _noted(self, name, items):
        try:
            for item in items:
                if name in self.slow:
                    time.sleep(0.01)
                if self.fault == (name, item):
                    raise ValueError(name)
                yield item
            self.ends[name] = "end"
        except BaseException as error:
            self.ends[name] = type(error)
            raise

    def first(self, _):
        def numbers():
            for number in range(self.count):
                self.most_at_once = max(self.most_at_once, number + 1 - len(self.made))
                yield number

        return self._noted("first", numbers())

    def second(self, items):
        return self._noted("second", items)

    def third(self, items):
        for item in self._noted("third", items):
            self.made.append(item)
            yield


@pytest.mark.parametrize("slow", ["first", "second", "third"])
def test_all_come_through_in_order_and_few_at_once(slow):
    stages = Stages(20, slow=[slow])
    work = run(stages.as_mapping())
    assert stages.made == list(range(20)) and work.frames == 20 and not work.interrupted
    assert stages.ends == {"first": "end", "second": "end", "third": "end"}
    assert stages.most_at_once <= 2 * belt.ROOM + 4
    assert work.seconds >= max(work.busy.values()) and max(work.busy, key=work.busy.get) == slow


@pytest.mark.parametrize("count", [0, 1])
def test_none_and_one(count):
    stages = Stages(count)
    assert run(stages.as_mapping()).frames == count and stages.ends["third"] == "end"


@pytest.mark.parametrize("slow", [[], ["first"], ["third"]])
@pytest.mark.parametrize("item", [0, 15])
@pytest.mark.parametrize("name", ["first", "second", "third"])
def test_an_error_in_one_stage_ends_all(name, item, slow):
    stages = Stages(10**9, fault=(name, item), slow=slow)
    with pytest.raises(ValueError, match=name):
        run(stages.as_mapping())
    assert stages.ends.pop(name) is ValueError
    assert stages.ends.get("third", Stopped) is Stopped, "the last stage has to know that it is no peaceful end"
    assert set(stages.ends.values()) <= {Stopped, GeneratorExit}


def test_a_stage_that_cannot_even_start():
    def broken(items):
        raise ValueError("second")

    stages = Stages(10**9)
    with pytest.raises(ValueError, match="second"):
        run({**stages.as_mapping(), "second": broken})
    assert stages.ends["third"] is Stopped and stages.made == []


def interrupt_after(frames):
    def report(progress):
        if progress.frames >= frames:
            raise KeyboardInterrupt

    return report


@pytest.mark.parametrize("slow", [["first"], ["second"], ["third"]])
def test_ctrl_c_lets_the_last_stage_finish_what_it_has(slow):
    stages = Stages(10**9, slow=slow)
    work = run(stages.as_mapping(), report=interrupt_after(3))
    assert work.interrupted and work.frames >= 3
    assert stages.ends["third"] == "end" and stages.made == list(range(work.frames))


SIGNALLED = """
import signal, sys, threading, time
from mattecli.inference import pipeline

main, made, ends = threading.main_thread().ident, [], []

def press():
    signal.pthread_kill(main, signal.SIGINT)
    time.sleep(0.3)

def first(_):
    yield from range(10**9)

def last(items):
    try:
        for item in items:
            made.append(item)
            if len(made) == 3:
                time.sleep(0.15)  # until it is waited for
                {during}
            yield item
        ends.append("closing")
        {closing}
        ends.append("closed")
    except pipeline.Stopped:
        ends.append("aborted")
        raise

signal.signal(signal.SIGINT, signal.default_int_handler)
pipeline.PATIENCE, pipeline.GRACE = 0.5, {grace}
try:
    work = pipeline.run({{"first": first, "last": last}})
    print(*ends, work.interrupted, work.given_up, work.frames == len(made) >= 3)
except KeyboardInterrupt:
    print(*ends, "KeyboardInterrupt")
assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
"""


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="a system without signals between threads")
@pytest.mark.parametrize(
    ("during", "closing", "grace", "said"),
    [
        ("press()", "", 1, "closing closed True False True"),
        ("press(); press()", "press()", 60, "closing closed True False True"),
        ("press(); press()", "", 0.1, "aborted True True True"),
        ("press()", "press()", 0.1, "closing closed True False True"),
        ("press()", "press(); time.sleep(60)", 0.1, "closing KeyboardInterrupt"),
    ],
    ids=["once", "in quick succession", "given up", "nearly whole", "stuck"],
)
def test_a_signal_while_the_work_is_waited_for(during, closing, grace, said):
    """In a process of its own, with a handler: background jobs ignore the signal.

    CPython's Thread.join, interrupted, takes the thread for ended: the file would never have got its name.
    """
    code = SIGNALLED.format(during=during, closing=closing, grace=grace)
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert child.stdout == f"{said}\n", child.stderr


def test_what_ends_after_ctrl_c_is_told():
    reports = []

    def report(progress):
        reports.append(progress.ending)
        interrupt_after(3)(progress)

    run(Stages(10**9).as_mapping(), report=report)
    assert reports[-1] is True and not any(reports[:-1])


def test_a_thread_that_cannot_be_started_ends_all(monkeypatch):
    start = threading.Thread.start

    def refuse(thread):
        if thread.name == "third":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(RuntimeError, match="new thread"):
        run(Stages(10**9).as_mapping())


def test_ctrl_c_may_discard():
    stages = Stages(10**9)
    work = run(stages.as_mapping(), report=interrupt_after(3), discard=True)
    assert work.interrupted and work.given_up and stages.ends["third"] is Stopped


@pytest.mark.parametrize("discard", [False, True])
def test_ctrl_c_that_comes_when_nothing_is_missing_comes_too_late(discard):
    closing, stopped, reports = threading.Event(), threading.Event(), []

    def last(items):
        yield from items
        closing.set()
        stopped.wait(10)

    def report(progress):
        if reports:
            stopped.set()
        if closing.is_set():
            reports.append(progress)
            raise KeyboardInterrupt

    work = run({**Stages(3).as_mapping(), "third": last}, report=report, discard=discard)
    assert len(reports) == 2 and work.frames == 3 and not work.interrupted and not work.given_up


def test_what_was_stopped_by_an_error_gets_no_peaceful_end_from_ctrl_c():
    between = belt.Belt()
    between.stop(keep=False)
    between.stop(keep=True)
    with pytest.raises(Stopped):
        next(iter(between))


def test_ctrl_c_while_the_source_is_silent(monkeypatch):
    monkeypatch.setattr(pipeline, "PATIENCE", 0.01)
    never = threading.Event()

    def silent(_):
        yield from (0, 1)
        never.wait()

    stages = Stages()
    work = run({**stages.as_mapping(), "first": silent}, report=interrupt_after(2))
    assert work.interrupted and stages.made == [0, 1] and stages.ends["third"] == "end"
    never.set()
    for thread in threading.enumerate():
        if thread.name == "first":
            thread.join()


def test_a_report_that_fails_ends_all():
    def broken(progress):
        raise BrokenPipeError

    stages = Stages(10**9)
    with pytest.raises(BrokenPipeError):
        run(stages.as_mapping(), report=broken)
    assert stages.ends.get("third", Stopped) is Stopped


def test_live_items_overtake_those_that_wait():
    """The source never waits; what is merged is still counted in the one that replaces it."""
    ready, merged = threading.Event(), []

    def source(_):
        for number in range(50):
            yield [number]
        ready.set()

    def slow(items):
        for item in items:
            ready.wait()
            merged.append(item)
            yield item

    work = run({"camera": source, "network": slow}, merge=lambda old, new: old + new)
    assert [number for item in merged for number in item] == list(range(50)) and work.frames <= 2
    assert merged[-1][-1] == 49


def test_progress():
    reports = []
    run(Stages(60, slow=["second"]).as_mapping(), total=60, report=reports.append)
    last, middle = reports[-1], reports[len(reports) // 2]
    assert (last.frames, last.total, last.left) == (60, 60, 0.0)
    assert [report.frames for report in reports] == sorted(report.frames for report in reports)
    assert middle.bottleneck == "second" and 0 < middle.fps <= 100 and set(middle.busy) == {"first", "second", "third"}
    assert 0 < middle.left and all(0 <= share <= 1 for report in reports for share in report.busy.values())


def test_what_is_left_is_told_from_the_speed_since_the_first_item():
    clock = iter((0.0, 10.0, 12.0, 14.0))
    line = type("Line", (), {"done": 0, "busy": lambda self: {"only": 0.0}})()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline.time, "perf_counter", lambda: next(clock))
        watch = pipeline._Watch(line, 100)
        for done, left in ((1, None), (5, 95 / 2), (9, 91 / 2)):
            line.done = done
            progress = watch.look()
            assert isinstance(progress, Progress) and progress.left == left
    assert progress.fps == 2.0


def test_the_speed_of_slow_work_is_that_of_several_items(monkeypatch):
    """One in three seconds, which is neither none a second nor one."""
    line, now = type("Line", (), {"done": 0, "busy": lambda self: {"only": 0.0}})(), 0.0
    monkeypatch.setattr(pipeline.time, "perf_counter", lambda: now)
    watch, speeds = pipeline._Watch(line, None), []
    for tick in range(600):
        now = tick / 10
        line.done = tick // 30
        speeds.append(watch.look().fps)
    assert 0.3 < min(speeds[300:]) <= max(speeds[300:]) < 0.45


def test_the_first_error_counts():
    """Not what it brings about in other stages."""

    def first(_):
        yield 1
        raise ValueError("first")

    def last(items):
        try:
            yield from items
        finally:
            raise OSError("second")

    with pytest.raises(ValueError, match="first"):
        run({"first": first, "last": last})
