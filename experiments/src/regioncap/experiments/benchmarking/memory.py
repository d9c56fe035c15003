"""Peak memory that a call adds: to a fresh process on a CPU, to the allocator on a GPU."""

import ctypes
import gc
import importlib.util
import inspect
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path
from types import ModuleType

import torch

from regioncap.experiments.benchmarking.measure import DEVICE, Call, synchronised
from regioncap.experiments.benchmarking.record import Memory

Plain = str | int | float | bool | None
"""What an argument of a case may be: it travels to another process."""
MEMORY: Memory = "allocator" if DEVICE == "cuda" else "rss"
MIB = 2**20
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_IMPORTED_BEFORE = (
    "pytest",
    "regioncap.decoder",
    "regioncap.encoders",
    "regioncap.experiments.benchmarking.memory",
    "regioncap.graph",
    "regioncap.guidance",
)
"""Imported once, by the server that fresh processes fork from; each would take seconds for it."""


def peak_mib(make: Callable[..., Call], *arguments: Plain, calls: int = 2, timeout_s: float = 300.0) -> float | None:
    """MiB that `calls` calls add at their peak to what is there before: weights, inputs, code and laid-out kernels.

    `make(*arguments)` builds the call; it must stand at the top of a module. On a CPU it does so in a fresh process
    with one thread, makes the call once to warm up, hands freed memory back to the system and then counts from there
    (resident set, Linux; None elsewhere). On a GPU the allocator of this process is asked.
    Raises ValueError if `make` cannot be found from elsewhere, RuntimeError if the process fails or takes longer than
    `timeout_s`.
    """
    if DEVICE == "cuda":
        return _of_allocator(make(*arguments))
    if not _CLEAR.exists():
        return None
    file = inspect.getsourcefile(make)
    if file is None or "." in make.__qualname__:
        raise ValueError(f"{make.__qualname__} must be a function at the top of a module: another process calls it")
    return _in_fresh_process(str(Path(file).resolve()), make.__qualname__, arguments, calls, timeout_s)


def added_mib(call: Call, calls: int = 2) -> float:
    """What `peak_mib` measures, in this process: means something in a fresh one only (Linux)."""
    synchronised(call)
    gc.collect()
    with suppress(AttributeError, OSError):  # not the GNU C library: what it keeps stays in the level
        ctypes.CDLL(None).malloc_trim(0)
    _CLEAR.write_text("5")  # the peak so far is that of building: begin anew
    before = _peak_kib()
    for _ in range(calls):
        synchronised(call)
    return (_peak_kib() - before) / 2**10


def _of_allocator(call: Call) -> float:
    synchronised(call)
    held = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    synchronised(call)
    return float(torch.cuda.max_memory_allocated() - held) / MIB


def _in_fresh_process(file: str, name: str, arguments: tuple[Plain, ...], calls: int, timeout_s: float) -> float:
    what = f"the memory of {name}{arguments} in {Path(file).name}"
    ours, theirs = _context().Pipe(duplex=False)
    process = _context().Process(target=_answer, args=(theirs, file, name, arguments, calls), daemon=True)
    process.start()
    theirs.close()
    try:
        if not ours.poll(timeout_s):
            raise RuntimeError(f"{what} was not known after {timeout_s:.0f} s: give more time or a smaller case")
        said = ours.recv()
    except EOFError:
        process.join()
        raise RuntimeError(
            f"{what} is not known, its process died (exit code {process.exitcode}; -9 is what the system does when "
            "memory is short)"
        ) from None
    finally:
        process.kill()
        process.join()
        ours.close()
    if isinstance(said, str):
        raise RuntimeError(f"{what} is not known, its process failed: {said}")
    return float(said)


def _answer(connection: Connection, file: str, name: str, arguments: tuple[Plain, ...], calls: int) -> None:
    """Runs in the fresh process: MiB, or what went wrong."""
    try:
        torch.set_num_threads(1)
        warnings.simplefilter("ignore")  # whoever measures has built the same and was warned
        connection.send(added_mib(getattr(_module(file), name)(*arguments), calls))
    except Exception as error:
        connection.send(f"{type(error).__name__}: {error}")


@cache
def _context() -> ForkServerContext:
    """Processes forked from one that has imported much and computed nothing: as fresh as new ones and there at once."""
    context = get_context("forkserver")
    context.set_forkserver_preload(list(_IMPORTED_BEFORE))
    return context


def _module(file: str) -> ModuleType:
    """A module by its file: benchmarks are no package."""
    for module in list(sys.modules.values()):
        if getattr(module, "__file__", None) == file:
            return module
    spec = importlib.util.spec_from_file_location(Path(file).stem, file)
    assert spec is not None, f"{file} is no Python source"
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _peak_kib() -> int:
    # Not getrusage: its ru_maxrss outlives exec, so that a fresh process starts with its parent's peak.
    return int(_STATUS.read_text(encoding="ascii").split("VmHWM:")[1].split()[0])
