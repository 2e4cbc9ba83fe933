"""A campaign on all cores: jobs are handed out, and what comes back is told in the order it comes."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from typing import TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")

# Told how far it is: what is done, of how much, and how much of it was bad.
Progress = Callable[[int, int, int], None]


@contextmanager
def workers(cores: int, start: Callable[..., None], *arguments: object) -> Iterator[ProcessPoolExecutor]:
    """`cores` processes, 0 for all there are; each begins with `start`. Nothing goes on behind it."""
    count = cores or len(os.sched_getaffinity(0))
    pool = ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), start, arguments)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def finished(
    pool: ProcessPoolExecutor, work: Callable[[Job], Result], jobs: Sequence[Job]
) -> Iterator[tuple[Job, Result]]:
    waiting = {pool.submit(work, job): job for job in jobs}
    for future in as_completed(waiting):
        yield waiting[future], future.result()


def ignore_interrupt() -> None:
    """In a worker: the parent ends the campaign."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def quiet(_done: int, _all: int, _bad: int) -> None:
    """No progress."""
