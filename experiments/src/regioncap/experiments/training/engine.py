"""The loop of any training: steps, a curve on dev, and states from which a killed training goes on."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from regioncap.experiments.captioner import Captioner
from regioncap.experiments.config import Experiment
from regioncap.experiments.generate import Generated
from regioncap.experiments.metrics import CaptionScorer
from regioncap.experiments.prepare import Prepared
from regioncap.experiments.training.averages import Average
from regioncap.experiments.training.curves import Throughput, memory_mb
from regioncap.experiments.training.evaluation import DevCurve
from regioncap.experiments.training.failures import memory_advice
from regioncap.experiments.training.length import steps_per_epoch
from regioncap.experiments.training.objectives.objective import Objective
from regioncap.experiments.training.phases import PhaseConfig, PhasePlan, set_trainable
from regioncap.experiments.training.processes import Processes
from regioncap.experiments.training.state import load_state, random_state, restore_random_state, save_state
from regioncap.experiments.training.stepper import Stepper

Report = Callable[[int, Mapping[str, float]], None]
"""Called with (optimiser step, values). What it raises ends the training, as a pruner does."""

Watch = Callable[[int, Captioner, Generated], None]
"""Called with (optimiser step, captioner, what it said of the first dev images) at every dev evaluation."""

Free = Callable[[Captioner, PhaseConfig], None]
"""Says which parameters train in a phase, by their `requires_grad`."""

STATE = "state.pt"
"""The usual name of a state's file."""
_REPORT_EVERY = 20
_FAR = 1_000_003
"""Between the seeds of two processes' dropout."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeping:
    """Where a training keeps what must survive a kill."""

    state: Path
    """File of the state."""
    key: str
    """Of all that decides what training does; a state of another key is not gone on from."""
    checkpoint: Callable[[str, Captioner], None] = lambda name, captioner: None
    """Writes a captioner as `last` at every evaluation, and as `best` when it is that."""
    recall: Report | None = None
    """Is told, in the place of `report`, what the killed call had reported: it says nothing about this call's speed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A captioner after its training."""

    captioner: Captioner
    """With the weights that `train.keep` names, in evaluation mode, on the CPU."""
    parameters: int
    """Parameters that trained in either phase."""
    cpu_s: float
    """CPU seconds of training, dev evaluations left out, over all processes and calls that it took."""
    steps: int
    """Steps that were made; fewer than `train.steps` where it stopped early."""
    history: tuple[Mapping[str, int | float], ...]
    """Every report: `step` and its values."""


def fit(
    captioner: Captioner,
    experiment: Experiment,
    prepared: Prepared,
    scorer: CaptionScorer,
    report: Report,
    *,
    objective: Objective,
    free: Free = set_trainable,
    watch: Watch = lambda step, captioner, generated: None,
    keeping: Keeping | None = None,
) -> Trained:
    """Train `captioner` by `objective`; every process of a launch calls it with the same arguments.

    With `keeping` it goes on from the state that a killed call with the same arguments left, and on one machine and
    thread count ends with the same weights, bit for bit, as if it had never been killed; what was reported before the
    kill is reported again. Raises TrainingStopped for a loss that is no finite number or explodes, and when memory runs
    out; the last saved state then stands.
    """
    processes = Processes(experiment.train)
    run = _Run(captioner, experiment, prepared, scorer, report, objective, free, watch, keeping, processes)
    with memory_advice(experiment.train, processes.count):
        return run()


class _Run:
    """One call of `fit`."""

    def __init__(
        self,
        captioner: Captioner,
        experiment: Experiment,
        prepared: Prepared,
        scorer: CaptionScorer,
        report: Report,
        objective: Objective,
        free: Free,
        watch: Watch,
        keeping: Keeping | None,
        processes: Processes,
    ) -> None:
        self.experiment, self.config, self.prepared = experiment, experiment.train, prepared
        self.report, self.free, self.watch, self.keeping = report, free, watch, keeping
        self.processes = processes
        self.plan = PhasePlan(
            first=experiment.phase1,
            second=experiment.phase2,
            train=self.config,
            steps_per_epoch=steps_per_epoch(experiment, len(prepared.train)),
        )
        self.evaluate = DevCurve(experiment, prepared, scorer, processes)
        self.captioner = captioner.to(processes.device)
        prepared.to(processes.device)
        self.average = Average(captioner, self.config.ema) if self.config.ema else None
        self.stepper = Stepper(captioner, objective, experiment, prepared, self.plan, processes)
        self.standing: set[str] = set()
        """Parameters of the captioner that no phase moves: they are as they came, and no state holds them."""
        self.steps_made, self.cpu_s = 0, 0.0
        self.history: list[dict[str, int | float]] = []
        self.best: dict[str, Any] = {"cider": -1.0, "weights": {}}
        self.stale = 0
        """Evaluations since the best one."""

    def __call__(self) -> Trained:
        torch.manual_seed(self.experiment.seed + _FAR * self.processes.index)  # dropout
        moves = self._all_that_moves()
        self._resume()
        self.stepper.wrap()
        throughput, mark = Throughput(), time.process_time()
        for step in range(self.steps_made, self.config.steps):
            if 0 < self.config.patience <= self.stale:
                break
            if self.plan.begins(step) or step == self.steps_made:
                self.free(self.captioner.train(), self.plan.at(step))
            observe = (step + 1) % _REPORT_EVERY == 0 or step + 1 == self.config.steps
            values, images = self.stepper(step, self._kept, observe=observe)
            if self.average is not None:
                self.average.update(self.captioner)
            throughput.add(images)
            self.steps_made = step + 1
            if observe and self.processes.first:
                self._tell(values | throughput.values() | {"memory_mb": memory_mb(self.processes.device)})
            due = self.evaluate.due(self.steps_made)
            if due or self.steps_made % self.config.save_every == 0:
                self.cpu_s += time.process_time() - mark
                if due:
                    self._measure()
                self._save()
                throughput.restart()
                mark = time.process_time()
        self.cpu_s += time.process_time() - mark
        return self._result(moves)

    def _measure(self) -> None:
        """Evaluate on dev, keep the best weights, write checkpoints."""
        shown = self.captioner if self.average is None else self.average.captioner
        values, generated = self.evaluate(shown)
        better = values["dev.cider"] > self.best["cider"]
        self.stale = 0 if better else self.stale + 1
        if better:
            keep = self.config.keep == "best"
            weights = {name: tensor.cpu().clone() for name, tensor in self._moving(shown).items()} if keep else {}
            self.best = {"cider": values["dev.cider"], "weights": weights}
        if generated is not None:
            if self.keeping is not None:
                for name in ("best", "last") if better else ("last",):
                    self.keeping.checkpoint(name, shown)
            self._tell(values)
            self.watch(self.steps_made, shown, generated)

    def _tell(self, values: Mapping[str, float]) -> None:
        self.history.append({"step": self.steps_made, **values})
        self.report(self.steps_made, values)

    def _kept(self) -> str:
        """What a training that stops leaves behind."""
        if self.keeping is None or not self.keeping.state.is_file():
            return "Nothing was saved before it"
        return f"The last state that was saved is whole, in {self.keeping.state.parent}"

    def _save(self) -> None:
        """Write the state; every process gives its source of chance, the first one writes."""
        if self.keeping is None:
            return
        chance = self.processes.gathered([random_state(self.processes.device)])
        cpu_s = self.processes.total({"cpu_s": self.cpu_s})["cpu_s"]
        if not self.processes.first:
            return
        scaler = self.processes.accelerator.scaler
        values = {
            "key": self.keeping.key,
            "steps": self.steps_made,
            "module": self._moving(self.stepper.module, "captioner."),
            "optimizer": self.stepper.optimizer.state_dict(),
            "scaler": {} if scaler is None else scaler.state_dict(),
            "average": {} if self.average is None else self._moving(self.average.model, "module."),
            "chance": chance,
            "best": self.best,
            "stale": self.stale,
            "first_loss": self.stepper.first_loss,
            "history": self.history,
            "cpu_s": cpu_s,
        }
        save_state(values, self.keeping.state)

    def _resume(self) -> None:
        """Go back to where the state was saved, if there is one of this very training."""
        values = None if self.keeping is None else load_state(self.keeping.state)
        if self.keeping is None or values is None or values["key"] != self.keeping.key:
            return
        _put(self.stepper.module, values["module"])
        self.stepper.optimizer.load_state_dict(values["optimizer"])
        if self.average is not None:
            _put(self.average.model, values["average"])
        if self.processes.accelerator.scaler is not None:
            self.processes.accelerator.scaler.load_state_dict(values["scaler"])
        if self.processes.index < len(values["chance"]):
            restore_random_state(values["chance"][self.processes.index], self.processes.device)
        self.steps_made, self.best, self.stale = values["steps"], values["best"], values["stale"]
        self.stepper.first_loss, self.history = values["first_loss"], values["history"]
        if self.processes.first:
            self.cpu_s = values["cpu_s"]
            recall = self.keeping.recall or self.report
            for point in self.history:
                recall(int(point["step"]), {name: value for name, value in point.items() if name != "step"})

    def _all_that_moves(self) -> int:
        """Count what trains in either phase, and leave all of it free: processes share the gradients of what is free
        when the captioner is wrapped."""
        moves: set[int] = set()
        for phase in (self.plan.first, self.plan.second):
            if phase.share:
                self.free(self.captioner.train(), phase)
                moves |= {id(parameter) for parameter in self.captioner.parameters() if parameter.requires_grad}
        for parameter in self.captioner.parameters():
            parameter.requires_grad_(id(parameter) in moves)
        self.standing = {name for name, parameter in self.captioner.named_parameters() if not parameter.requires_grad}
        return sum(parameter.numel() for parameter in self.captioner.parameters() if id(parameter) in moves)

    def _moving(self, module: nn.Module, prefix: str = "") -> dict[str, Tensor]:
        """The module's state without what stands: keyword heads alone are most of a captioner. `prefix` is where the
        captioner is in it."""
        state = module.state_dict()
        return {name: tensor for name, tensor in state.items() if name.removeprefix(prefix) not in self.standing}

    def _result(self, parameters: int) -> Trained:
        captioner = self.captioner if self.average is None else self.average.captioner
        if self.config.keep == "best" and self.best["weights"]:
            _put(captioner, self.best["weights"])
        cpu_s = self.processes.total({"cpu_s": self.cpu_s})["cpu_s"]
        self.prepared.to(torch.device("cpu"))
        return Trained(
            captioner=captioner.to("cpu").eval(),
            parameters=parameters,
            cpu_s=cpu_s,
            steps=self.steps_made,
            history=tuple(self.history),
        )


def _put(module: nn.Module, moved: Mapping[str, Tensor]) -> None:
    """Give a module the state that training moved; the rest stays."""
    module.load_state_dict({**module.state_dict(), **moved})
