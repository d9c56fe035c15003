import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from mlflow.system_metrics.metrics.base_metrics_monitor import BaseMetricsMonitor

from regioncap.experiments.tracking import system_metrics
from regioncap.experiments.tracking.system_metrics import SystemMetrics

BUSY = "held = bytearray(150_000_000)\nwhile True: pass"


class Heard:
    def __init__(self) -> None:
        self.samples: list[tuple[str, Mapping[str, float]]] = []
        self.came = threading.Condition()

    def __call__(self, run: str, values: Mapping[str, float]) -> None:
        with self.came:
            self.samples.append((run, values))
            self.came.notify_all()

    def wait(self, count: int) -> None:
        with self.came:
            assert self.came.wait_for(lambda: len(self.samples) >= count, timeout=60)


def test_memory_and_processor_are_those_of_the_process_and_its_children(tmp_path: Path) -> None:
    heard = Heard()
    metrics = SystemMetrics(tmp_path, heard, interval_s=0.5)
    # A shell that waits, and below it the process that works.
    process = subprocess.Popen(["sh", "-c", '"$0" -c "$1"; true', sys.executable, BUSY], start_new_session=True)
    try:
        metrics.watch("busy", process.pid)
        heard.wait(6)
        last = heard.samples[-1][1]
        assert last["system/process_memory_megabytes"] > 150
        assert max(values["system/process_cpu_percentage"] for _, values in heard.samples) > 0.1  # on a busy machine
        assert last["system/disk_available_megabytes"] > 0
        assert 0 <= last["system/cpu_utilization_percentage"] <= 100
        assert last["system/system_memory_usage_megabytes"] > 100
    finally:
        os.killpg(process.pid, 9)
        process.wait()
    count = len(heard.samples)
    time.sleep(1.5)
    metrics.close()
    assert len(heard.samples) <= count + 1  # a process that is no more has no samples


def test_runs_are_sampled_while_they_are_watched(tmp_path: Path) -> None:
    heard = Heard()
    metrics = SystemMetrics(tmp_path, heard, interval_s=0.02)
    metrics.watch("a", os.getpid())
    metrics.watch("b", os.getpid())
    heard.wait(6)
    metrics.leave("a")
    count = len(heard.samples) + 1
    heard.wait(count + 4)
    assert {run for run, _ in heard.samples[:4]} == {"a", "b"}
    assert {run for run, _ in heard.samples[count:]} == {"b"}
    metrics.close()
    metrics.close()


def test_gpus_are_sampled_where_there_are_some(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class OneGpu(BaseMetricsMonitor):
        def collect_metrics(self) -> None:
            self._metrics["gpu_0_utilization_percentage"].append(97)

        def aggregate_metrics(self) -> dict[str, float]:
            return {name: sum(values) / len(values) for name, values in self._metrics.items()}

    monkeypatch.setattr(system_metrics, "GPUMonitor", OneGpu)
    heard = Heard()
    metrics = SystemMetrics(tmp_path, heard, interval_s=0.02)
    metrics.watch("a", os.getpid())
    heard.wait(2)
    metrics.close()
    assert heard.samples[-1][1]["system/gpu_0_utilization_percentage"] == 97


@pytest.mark.parametrize("error", [ImportError("no nvidia-ml-py"), RuntimeError("no GPU")])
def test_machine_without_a_gpu_has_the_rest(error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> None:
        raise error

    monkeypatch.setattr(system_metrics, "GPUMonitor", none)
    heard = Heard()
    metrics = SystemMetrics(tmp_path, heard, interval_s=0.02)
    metrics.watch("a", os.getpid())
    heard.wait(1)
    metrics.close()
    assert not [name for name in heard.samples[0][1] if "gpu" in name]
