"""The machine, the versions and the commit that figures hold for."""

import os
import platform
import subprocess
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

THREADS = 1
"""Of every benchmark: what torch's threads add or lose is a matter of the machine, not of a stage."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What has to be alike for times to be compared, and what tells where they come from."""

    cpu: str
    capability: str
    """The widest vector instructions that torch uses, as `AVX512`."""
    cores: int
    """Of the whole machine, which other work shares."""
    gpu: str = ""
    """Empty where there is none: stages are then measured on the CPU."""
    threads: int = THREADS
    jobs: int = 1
    """Benchmark files measured at once, each on a core of its own: they share caches and memory."""
    system: str = ""
    python: str = ""
    torch: str = ""
    torchvision: str = ""
    transformers: str = ""
    commit: str = ""
    """Empty outside a git checkout."""
    dirty: bool = False
    """Whether the checkout differed from the commit."""
    load: float = 0.0
    """Load average over the last minute, when the run began."""

    @property
    def device(self) -> str:
        """Where stages are measured, in torch's words."""
        return "cuda" if self.gpu else "cpu"

    @property
    def busy(self) -> bool:
        """Whether other work held half of the cores or more."""
        return self.load > self.cores / 2

    def differences(self, other: "Machine") -> tuple[str, ...]:
        """What makes times of the two incomparable: `threads 1 and 2`."""
        names = ("cpu", "capability", "cores", "gpu", "threads", "jobs")
        pairs = [(name, getattr(self, name), getattr(other, name)) for name in names]
        return tuple(f"{name} {own or 'none'} and {theirs or 'none'}" for name, own, theirs in pairs if own != theirs)

    def describe(self) -> str:
        """One line for a page."""
        place = f"{self.gpu}, beside " if self.gpu else ""
        commit = f", commit {self.commit[:10]}{' with changes' if self.dirty else ''}" if self.commit else ""
        return (
            f"{place}{self.cpu} ({self.capability}, {self.cores} cores), {self.threads} thread, {self.jobs} at once, "
            f"torch {self.torch}, torchvision {self.torchvision}, transformers {self.transformers}, "
            f"Python {self.python}{commit}, load {self.load:.1f} at the start"
        )


def this_machine(checkout: Path, jobs: int) -> Machine:
    """This machine now, with the commit of `checkout`."""
    import torch  # seconds, which comparing two files does not need

    return Machine(
        cpu=_cpu(),
        capability=torch.backends.cpu.get_cpu_capability(),
        cores=os.cpu_count() or 1,
        gpu=torch.cuda.get_device_name() if torch.cuda.is_available() else "",
        jobs=jobs,
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        torch=torch.__version__,
        torchvision=_version("torchvision"),
        transformers=_version("transformers"),
        commit=git(checkout, "rev-parse", "HEAD").strip(),
        dirty=bool(git(checkout, "status", "--porcelain").strip()),
        load=round(os.getloadavg()[0], 2),
    )


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def git(checkout: Path, *words: str) -> str:
    """What git says, empty where there is no git or no repository."""
    try:
        return subprocess.run(
            ["git", "-C", str(checkout), *words], check=True, capture_output=True, text=True, errors="replace"
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return ""


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"
