"""Training one captioner: both phases, one optimiser, a curve on dev. It knows neither Optuna nor MLflow."""

import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch

from regioncap.experiments.assemble import build_captioner
from regioncap.experiments.captioner import Captioner
from regioncap.experiments.config import Experiment
from regioncap.experiments.generate import Generated, generate_over
from regioncap.experiments.metrics import CaptionScorer
from regioncap.experiments.prepare import Prepared
from regioncap.experiments.training.captions import batches
from regioncap.experiments.training.images import OnTheFlyImages, TrainingImages
from regioncap.experiments.training.objectives.caption import Losses
from regioncap.experiments.training.phases import PhaseConfig, parameter_groups, set_trainable
from regioncap.experiments.training.schedule import learning_rate_factor
from regioncap.guidance import KeywordHeads, gate_statistics

Report = Callable[[int, Mapping[str, float]], None]
"""Called with (optimiser step, values). What it raises ends the training, as a pruner does."""

Watch = Callable[[int, Captioner, Generated], None]
"""Called with (optimiser step, captioner, what it said of the first dev images) at every dev evaluation."""

BatchObjective = Callable[..., Losses]
"""Called with (captioner, condition, *captions): what one batch costs."""

DrawCaptions = Callable[[torch.Tensor, int, torch.Generator], tuple[torch.Tensor, ...]]
"""Called with (image rows, captions of each, source of chance): the captions of a batch as its objective wants them."""

_REPORT_EVERY = 20
_EMBEDDED_AT_ONCE = 512
"""Images; where `pooled` are the activations of all patches, those of a whole data set do not fit into memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A captioner after its training."""

    captioner: Captioner
    parameters: int
    """Parameters that trained in either phase."""
    cpu_s: float
    """CPU seconds of training, dev evaluations left out."""


def train(
    experiment: Experiment,
    prepared: Prepared,
    scorer: CaptionScorer,
    report: Report = lambda step, values: None,
    language: Mapping[str, torch.Tensor] | None = None,
    watch: Watch = lambda step, captioner, generated: None,
) -> Trained:
    """Train a captioner from fresh weights; `language` are GPT-2 weights learned from text before.

    `scorer` is asked for CIDEr alone, so it loads neither METEOR nor SPICE for the curve on dev.
    Deterministic in `experiment.seed` on one machine and thread count. Raises ValueError when the loss is not finite.
    """
    captioner = build_captioner(
        experiment,
        region_dim=prepared.train.region_dim,
        text_dim=prepared.text_dim,
        clip_head=prepared.clip_head,
        tokenizer=prepared.tokenizer,
        scene_bank=prepared.scene_bank,
        detail_bank=prepared.detail_bank,
    )
    if language is not None:
        if experiment.decoder.lora.rank:
            raise ValueError(
                "language.captions would teach every weight of the decoder, decoder.lora leaves them as stored: "
                "set language.captions to None or decoder.lora.rank to 0"
            )
        captioner.decoder.load_language(language)
    take_keyword_heads(captioner, prepared)
    captioner.guidance.calibrate(_training_g(captioner, prepared), prepared.shares)
    return fit(
        captioner,
        experiment,
        prepared,
        scorer,
        report,
        objective=experiment.objective.build(),
        draw=prepared.captions.pick,
        watch=watch,
    )


def fit(
    captioner: Captioner,
    experiment: Experiment,
    prepared: Prepared,
    scorer: CaptionScorer,
    report: Report,
    *,
    objective: BatchObjective,
    draw: DrawCaptions,
    free: Callable[[Captioner, PhaseConfig], None] = set_trainable,
    watch: Watch = lambda step, captioner, generated: None,
) -> Trained:
    """The loop of any training: `draw` gives the captions of a batch, `objective` what they cost the captioner.

    `free` says which parameters a phase trains. Raises ValueError when the loss is not finite.
    """
    config = experiment.train
    optimizer = torch.optim.AdamW(parameter_groups(captioner, config), betas=(0.9, 0.98))
    order = torch.Generator().manual_seed(experiment.seed)
    torch.manual_seed(experiment.seed)  # dropout
    source = _training_images(experiment, prepared)
    evaluate = _DevCurve(experiment, prepared, scorer)
    steps_per_epoch = max(1, len(prepared.train) // config.images_per_step)
    phases = phase_of_steps(experiment)
    trained: set[int] = set()
    cpu_s, mark, done = 0.0, time.process_time(), 0
    for step, rows in enumerate(batches(len(prepared.train), config.images_per_step, config.steps, experiment.seed)):
        if step == 0 or phases[step] is not phases[step - 1]:
            free(captioner.train(), phases[step])
            trained |= {id(parameter) for parameter in captioner.parameters() if parameter.requires_grad}
        factor = learning_rate_factor(
            step, config.steps, warmup=config.warmup, schedule=config.schedule, steps_per_epoch=steps_per_epoch
        )
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * factor
        told = draw(rows, config.captions_per_image, order)
        images, held_out = source.images(rows), prepared.held_out(rows)
        autocast = torch.autocast("cpu", torch.bfloat16) if config.precision == "bf16" else nullcontext()
        with autocast:
            condition = captioner.condition(images, held_out)
            losses = objective(captioner, condition, *told)
        if not torch.isfinite(losses.total):
            raise ValueError(f"the loss is {losses.total.item()} at step {step}; lower train.lr (now {config.lr})")
        optimizer.zero_grad(set_to_none=True)
        losses.total.backward()
        norm = torch.nn.utils.clip_grad_norm_(captioner.parameters(), config.clip_norm)
        optimizer.step()
        done = step + 1
        if done % _REPORT_EVERY == 0 or done == config.steps:
            gates = gate_statistics(condition.guidance, condition.regions.valid)
            spent = cpu_s + time.process_time() - mark
            report(done, _values(losses, norm, factor * config.lr, done * len(rows) / spent) | gates)
        if evaluate.due(done):
            cpu_s += time.process_time() - mark
            values, generated = evaluate(captioner)
            report(done, values)
            watch(done, captioner, generated)
            mark = time.process_time()
    cpu_s += time.process_time() - mark
    parameters = sum(parameter.numel() for parameter in captioner.parameters() if id(parameter) in trained)
    return Trained(captioner=captioner.eval(), parameters=parameters, cpu_s=cpu_s)


def take_keyword_heads(captioner: Captioner, prepared: Prepared) -> None:
    """Give a captioner the keyword heads that were taught, if it has any."""
    if isinstance(captioner.keyword_heads, KeywordHeads):
        if prepared.supervision is None:
            raise ValueError(
                "guidance.retrieval learned needs keyword heads, and this study taught none: prepare it with an "
                "experiment whose guidance.retrieval is learned"
            )
        captioner.keyword_heads.load_state_dict(prepared.supervision.heads.state_dict())


def phase_of_steps(experiment: Experiment) -> list[PhaseConfig]:
    """The phase that each step belongs to."""
    steps = experiment.train.steps
    boundary = round(steps * experiment.phase1.share)
    return [experiment.phase1] * boundary + [experiment.phase2] * (steps - boundary)


class _DevCurve:
    """CIDEr and share of distinct captions on the first dev images, by greedy search."""

    def __init__(self, experiment: Experiment, prepared: Prepared, scorer: CaptionScorer) -> None:
        config = experiment.train
        self.rows = torch.arange(min(config.evaluation_images, len(prepared.dev)))
        self.search = replace(experiment.search, beams=1)
        self.prepared = prepared
        self.steps = {round(config.steps * (i + 1) / config.evaluations) for i in range(config.evaluations)}
        images = prepared.dev_images[: len(self.rows)]
        self.names = [image.name for image in images]
        self.references = {image.name: image.captions for image in images}
        self.scorer = scorer
        if len(images) < 2:
            raise ValueError(
                f"the curve's CIDEr needs two dev images or more, got {len(images)}: raise train.evaluation_images"
            )

    def due(self, step: int) -> bool:
        return step in self.steps

    def __call__(self, captioner: Captioner) -> tuple[dict[str, float], Generated]:
        """The values, and the first batch with what it was decoded from."""
        prepared = self.prepared
        parts = list(generate_over(captioner, prepared.dev, prepared.tokenizer, self.search, rows=self.rows))
        texts = [text for part in parts for text in part.texts]
        scores = self.scorer.score(self.references, dict(zip(self.names, texts, strict=True)), ("CIDEr",))
        return {"dev.cider": scores.corpus["CIDEr"], "dev.distinct": len(set(texts)) / len(texts)}, parts[0]


def _training_images(experiment: Experiment, prepared: Prepared) -> TrainingImages:
    if experiment.images.encode == "once":
        return prepared.train
    encoder = experiment.encoders.build().image
    paths = [image.path for image in prepared.train_images]
    return OnTheFlyImages(encoder, paths, experiment.images.augment, experiment.seed)


def _training_g(captioner: Captioner, prepared: Prepared) -> torch.Tensor:
    """g of every training image as training will see it, cross-fitted. n D."""
    captioner.eval()
    parts = torch.arange(len(prepared.train)).split(_EMBEDDED_AT_ONCE)
    with torch.inference_mode():
        return torch.cat([captioner.embed_image(prepared.train.pooled(rows), prepared.offsets[rows]) for rows in parts])


def _values(losses: Losses, norm: torch.Tensor, lr: float, images_per_s: float) -> dict[str, float]:
    return {
        "loss.generation": losses.generation.item(),
        "loss.alignment": losses.alignment.item(),
        "loss.gate": losses.gate.item(),
        "loss.total": losses.total.item(),
        "gradient_norm": norm.item(),
        "lr": lr,
        "images_per_cpu_s": images_per_s,
    }
