"""What machine and processes do while a run goes on, in MLflow's *System metrics*.

MLflow's own monitor measures the whole machine, from within the process that trains, and waits for the server. Here a
thread of the study's process measures, with MLflow's collectors what belongs to the machine and by process id what
belongs to a run.
"""

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from mlflow.system_metrics.metrics.base_metrics_monitor import BaseMetricsMonitor
from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor

INTERVAL_S = 10.0


@dataclass(slots=True)
class _Watched:
    pid: int
    cpu_s: float
    at: float


class SystemMetrics:
    """Samples every `interval_s` seconds while there are runs to sample for; `put` is told run and values.

    Values: memory and processor time of the run's process and its descendants, the machine's processors and memory,
    room on the disk of `folder`, and its NVIDIA GPUs where `nvidia-ml-py` is installed and finds some.
    """

    def __init__(
        self, folder: Path, put: Callable[[str, Mapping[str, float]], object], interval_s: float = INTERVAL_S
    ) -> None:
        self._folder, self._put, self._interval_s = folder, put, interval_s
        self._watched: dict[str, _Watched] = {}
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._machine: list[BaseMetricsMonitor] = []

    def watch(self, run: str, pid: int) -> None:
        """Sample for a run that the process `pid` computes."""
        with self._lock:
            self._watched[run] = _Watched(pid, _cpu_s(_family(pid)), time.monotonic())
            if self._thread is None:
                self._machine = _collectors()
                self._thread = threading.Thread(target=self._sample_on, name="system-metrics", daemon=True)
                self._thread.start()

    def leave(self, run: str) -> None:
        """Sample for it no longer."""
        with self._lock:
            self._watched.pop(run, None)

    def close(self) -> None:
        """End the thread."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def _sample_on(self) -> None:
        while not self._over.wait(self._interval_s):
            with self._lock:
                watched = dict(self._watched)
            if not watched:
                continue
            machine = {f"system/{name}": value for name, value in self._of_machine().items()}
            for run, process in watched.items():
                if (own := _of_process(process)) is not None and run in self._watched:
                    self._put(run, machine | {f"system/process_{name}": value for name, value in own.items()})

    def _of_machine(self) -> dict[str, float]:
        values = {"disk_available_megabytes": psutil.disk_usage(str(self._folder)).free / 1e6}
        for collector in self._machine:
            collector.collect_metrics()
            values |= collector.aggregate_metrics()
            collector.clear_metrics()
        return values


def _collectors() -> list[BaseMetricsMonitor]:
    psutil.cpu_percent()  # what it returns is since the call before
    collectors: list[BaseMetricsMonitor] = [CPUMonitor()]
    with suppress(ImportError, RuntimeError):  # without nvidia-ml-py, or without a GPU
        collectors.append(GPUMonitor())
    return collectors


def _of_process(process: _Watched) -> dict[str, float] | None:
    """Since the last call; None for a process that is no more."""
    family = _family(process.pid)
    if not family:
        return None
    cpu_s, now = _cpu_s(family), time.monotonic()
    share = (cpu_s - process.cpu_s) / max(now - process.at, 1e-9)
    process.cpu_s, process.at = cpu_s, now
    memory = sum(_resident(member) for member in family)
    return {"memory_megabytes": memory / 1e6, "cpu_percentage": max(0.0, 100 * share)}


def _family(pid: int) -> list[psutil.Process]:
    """The process and its descendants."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _cpu_s(family: list[psutil.Process]) -> float:
    """Seconds of processor time, those of children that ended included."""
    total = 0.0
    for member in family:
        try:
            times = member.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
        if member is family[0]:
            total += getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
    return total


def _resident(member: psutil.Process) -> int:
    try:
        return int(member.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0
