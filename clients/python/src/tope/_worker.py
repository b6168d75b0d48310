"""The thread of a client: it settles what its callers left to it, and keeps long holds alive.

All that is due is sent in one Batch, so a crowd of settlements costs few calls. `put` can be called by a
finalizer of the garbage collector, which can run in the middle of any line: it takes no lock.
"""

from __future__ import annotations

import atexit
import heapq
import itertools
import logging
import math
import os
import queue
import random
import threading
import time
import weakref
from collections import deque
from typing import Protocol

from tope import errors
from tope._transport import Transport
from tope.v1 import quota_service_pb2 as quota_pb

log = logging.getLogger("tope")

BATCH_MAX = 500
_CALL_SECONDS = 5.0
_FIRST, _LAST = 0.1, 5.0
_NEVER = math.inf
# Attempts without a valid key: they take about a minute.
_KEYLESS_ATTEMPTS = 20


class Task(Protocol):
    """An operation for the thread."""

    #: Whether `flush` waits for the task.
    settles: bool
    #: Seconds by which the task may run earlier, together with others.
    slack: float

    def operation(self) -> quota_pb.Operation | None:
        """Returns the operation, or None if there is nothing to do any more."""
        ...

    def done(self, result: quota_pb.OperationResult | None, error: errors.TopeError | None) -> float | None:
        """Takes the outcome. Returns the seconds after which the task is to run again, or None at its end."""
        ...


class Leaving(Protocol):
    """A hold, as the worker sees it when the program ends."""

    def leave(self) -> None:
        """Settles the hold by what is known, if it is open."""
        ...


class _Entry:
    def __init__(self, task: Task, due: float) -> None:
        self.task, self.due, self.attempts = task, due, 0


class _Flush:
    def __init__(self) -> None:
        self.event = threading.Event()


_RETIRE = _Flush()


class Worker:
    def __init__(self, transport: Transport, queue_max: int, exit_timeout: float) -> None:
        self._transport = transport
        self._queue_max = queue_max
        self.exit_timeout = exit_timeout
        self._numbers = itertools.count()
        #: Holds that are open, and some that are not any more.
        self.open: weakref.WeakSet[Leaving] = weakref.WeakSet()
        #: Settlements that were given up: the queue was full, or the client was closed first.
        self.lost = 0
        self._begin()
        _workers.add(self)

    def _begin(self) -> None:
        # What callers hand over: settlements and requests to the thread, and tasks for later.
        self._inbox: deque[_Entry | _Flush | None] = deque()
        self._later: deque[_Entry] = deque()
        # An item wakes the thread. It is woken only if something is due before it wakes by itself.
        self._signal: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._wakes_at = _NEVER
        self._heap: list[tuple[float, int, _Entry]] = []
        self._thread: threading.Thread | None = None
        self._start_lock = threading.Lock()
        self._pid = os.getpid()
        self._stopped = False
        self._settling = 0

    def after_fork(self) -> None:
        """Leaves the queue and the thread to the process that had them before a fork."""
        self._begin()
        self.open = weakref.WeakSet()

    def start(self) -> None:
        """Starts the thread. Callers do so before they make a hold, so that `put` need not."""
        if self._thread is not None or self._stopped:
            return
        with self._start_lock:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="tope-settle", daemon=True)
                thread.start()
                self._thread = thread

    def put(self, task: Task, delay: float = 0.0) -> bool:
        """Hands a task over. Returns False if there is no room, or if the client is closed."""
        if self._stopped or (task.settles and self.pending >= self._queue_max):
            if task.settles:
                self.lost += 1
                # 1, 2, 4, 8 and so on: a crowd of them must not fill the log.
                if self.lost & (self.lost - 1) == 0:
                    log.error("%d settlements are lost: their holds end at their deadlines", self.lost)
            return False
        due = time.monotonic() + delay
        (self._inbox if task.settles else self._later).append(_Entry(task, due))
        self._wake(due)
        return True

    def _wake(self, due: float) -> None:
        # The thread sets `_wakes_at` before it looks into the boxes a last time. So either it sees what was put there
        # before this line, or this line sees when it wakes.
        if due < self._wakes_at:
            self._signal.put(None)

    def _tell(self, item: _Flush | None) -> None:
        self._inbox.append(item)
        self._signal.put(None)

    @property
    def pending(self) -> int:
        """Settlements that wait, about."""
        return len(self._inbox) + self._settling

    def flush(self, timeout: float) -> bool:
        """Waits until all settlements have ended. Returns whether they did."""
        if self._thread is None or not self._thread.is_alive():
            return self.pending == 0
        request = _Flush()
        self._tell(request)
        return request.event.wait(timeout)

    def stop(self, timeout: float) -> bool:
        """Ends the thread, after waiting for the settlements."""
        done = self.flush(timeout)
        self._stopped = True
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            self._tell(None)
            thread.join(_CALL_SECONDS)
        if not done and self.pending:
            self.lost += self.pending
            log.error("%d settlements are lost: their holds end at their deadlines", self.pending)
        return done

    def retire(self) -> None:
        """Lets the thread end when nothing is left to settle, since the client is gone."""
        self._tell(_RETIRE)

    def _run(self) -> None:
        flushes: list[_Flush] = []
        retired = False
        while not (retired and self._settling == 0 and not self._inbox):
            for item in self._take():
                if item is None:
                    return
                if item is _RETIRE:
                    retired = True
                elif isinstance(item, _Flush):
                    flushes.append(item)
                else:
                    self._push(item)
            due = self._due()
            if due:
                self._send(due)
            if self._settling == 0 and flushes and not self._inbox:
                for flush in flushes:
                    flush.event.set()
                flushes.clear()

    def _take(self) -> list[_Entry | _Flush | None]:
        """Waits for the next item or the next due time, and returns all items that are here."""
        self._wakes_at = self._heap[0][0] if self._heap else _NEVER
        if not self._inbox and not self._later:
            wait = None if self._wakes_at == _NEVER else max(0.0, self._wakes_at - time.monotonic())
            try:
                self._signal.get(timeout=wait)
            except queue.Empty:
                pass
        # As long as it works, it need not be woken.
        self._wakes_at = -_NEVER
        while not self._signal.empty():
            self._signal.get_nowait()
        items: list[_Entry | _Flush | None] = []
        for box in (self._later, self._inbox):
            while box:
                items.append(box.popleft())
        return items

    def _push(self, entry: _Entry) -> None:
        self._settling += entry.task.settles
        heapq.heappush(self._heap, (entry.due, next(self._numbers), entry))

    def _due(self) -> list[tuple[_Entry, quota_pb.Operation]]:
        due: list[tuple[_Entry, quota_pb.Operation]] = []
        now = time.monotonic()
        while self._heap and len(due) < BATCH_MAX:
            at, _, first = self._heap[0]
            if at > now + (first.task.slack if due else 0.0):
                break
            entry = heapq.heappop(self._heap)[2]
            self._settling -= entry.task.settles
            operation = entry.task.operation()
            if operation is not None:
                due.append((entry, operation))
        return due

    def _send(self, due: list[tuple[_Entry, quota_pb.Operation]]) -> None:
        self._settling += sum(entry.task.settles for entry, _ in due)
        results: list[quota_pb.OperationResult | None] = [None] * len(due)
        failure: errors.TopeError | None = None
        try:
            request = quota_pb.BatchRequest(operations=[operation for _, operation in due])
            reply = self._transport.call("Batch", request, _CALL_SECONDS)
            results = list(reply.results)
            if len(results) != len(due):
                raise ValueError(f"{len(results)} results of {len(due)} operations")
        except errors.TopeError as error:
            failure = error
        except Exception as error:  # The thread must go on, whatever happens.
            log.exception("a batch of settlements failed")
            failure = errors.Internal(repr(error))
        if failure is not None:
            results = [None] * len(due)
        for (entry, _), result in zip(due, results, strict=True):
            self._settling -= entry.task.settles
            self._end(entry, result, failure)

    def _end(self, entry: _Entry, result: quota_pb.OperationResult | None, error: errors.TopeError | None) -> None:
        if result is not None and result.WhichOneof("result") == "error":
            error = errors.of_status(result.error)
            result = None
        # A key that has expired may be exchanged soon.
        keyless = isinstance(error, errors.Unauthenticated) and entry.attempts < _KEYLESS_ATTEMPTS
        if error is not None and (error.transient or error.key_changed or keyless):
            most = min(_LAST, _FIRST * 2 ** min(entry.attempts, 10))
            delay: float | None = max(random.uniform(most / 2, most), error.retry_after or 0.0)
            entry.attempts += 1
        else:
            try:
                delay = entry.task.done(result, error)
            except Exception:
                log.exception("a settlement failed")
                delay = None
        if delay is not None:
            entry.due = time.monotonic() + delay
            self._push(entry)


_workers: weakref.WeakSet[Worker] = weakref.WeakSet()


def _at_exit() -> None:
    """Waits for what is left to settle when the program ends."""
    for worker in list(_workers):
        if worker._stopped or worker._pid != os.getpid():
            continue
        # Their scopes will not end any more: generators that nobody read to the end, and threads that are stopped.
        for hold in list(worker.open):
            hold.leave()
        if worker.pending:
            worker.flush(worker.exit_timeout)


def _after_fork() -> None:
    for worker in list(_workers):
        worker.after_fork()


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
