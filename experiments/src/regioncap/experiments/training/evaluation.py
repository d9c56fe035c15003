"""The curve on dev: what captions are worth while training goes on, and whether the decoder looks at the picture."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from regioncap.decoder import Prefix
from regioncap.experiments.captioner import Captioner
from regioncap.experiments.config import Experiment
from regioncap.experiments.devices import on_device
from regioncap.experiments.generate import Generated, evaluating, generate_over
from regioncap.experiments.metrics import CaptionScorer
from regioncap.experiments.prepare import Prepared
from regioncap.experiments.training.captions import same_count
from regioncap.experiments.training.processes import Processes

_AT_ONCE = 50
"""Images."""


class DevCurve:
    """Measurements on the first dev images: CIDEr and share of distinct captions by greedy search, and the loss of the
    captions given their own picture and given another's. Processes share the images; each is measured once."""

    def __init__(self, experiment: Experiment, prepared: Prepared, scorer: CaptionScorer, processes: Processes) -> None:
        config = experiment.train
        images = prepared.dev_images[: config.evaluation_images]
        if len(images) < 2:
            raise ValueError(
                f"the curve's CIDEr needs two dev images or more, got {len(images)}: raise train.evaluation_images"
            )
        self._rows = torch.arange(len(images))
        self._search = replace(experiment.search, beams=1)
        self._prepared, self._scorer, self._processes = prepared, scorer, processes
        self._steps = {round(config.steps * (i + 1) / config.evaluations) for i in range(config.evaluations)}
        self._names = [image.name for image in images]
        self._references = {image.name: image.captions for image in images}
        captions = same_count([image.captions for image in images])
        flat = [caption for own in captions for caption in own]
        encoded = prepared.tokenizer.encode(flat, max_tokens=experiment.vocabulary.max_tokens)
        per_image = (len(images), len(captions[0]))
        self._tokens, self._mask = encoded.tokens.unflatten(0, per_image), encoded.mask.unflatten(0, per_image)

    def due(self, step: int) -> bool:
        """Whether to measure after this step."""
        return step in self._steps

    def __call__(self, captioner: Captioner) -> tuple[dict[str, float], Generated | None]:
        """The values, and the first batch with what it was decoded from; None in all processes but the first."""
        rows = self._processes.slice_of(self._rows)
        prepared = self._prepared
        parts = list(generate_over(captioner, prepared.dev, prepared.tokenizer, self._search, rows=rows))
        texts = self._processes.gathered([text for part in parts for text in part.texts])
        cider = 0.0
        if self._processes.first:
            scores = self._scorer.score(self._references, dict(zip(self._names, texts, strict=True)), ("CIDEr",))
            cider = scores.corpus["CIDEr"]
        values = {"dev.cider": self._processes.told(cider), "dev.distinct": len(set(texts)) / len(texts)}
        return values | self._losses(captioner), parts[0] if self._processes.first else None

    def _losses(self, captioner: Captioner) -> dict[str, float]:
        """Mean -log p of a caption's token with its own image, with another image, and what the own one is worth."""
        sums = {"own": 0.0, "other": 0.0, "tokens": 0.0}
        device = next(captioner.parameters()).device
        rows, others = self._processes.slice_of(self._rows), self._processes.slice_of(self._rows.roll(1))
        with evaluating(captioner), torch.inference_mode():
            for part, other in zip(rows.split(_AT_ONCE), others.split(_AT_ONCE), strict=True):
                tokens, mask = self._tokens[part].to(device), self._mask[part].to(device)
                for name, shown in (("own", part), ("other", other)):
                    condition = captioner.condition(on_device(self._prepared.dev.images(shown), device))
                    sums[name] += _loss(captioner, condition.prefix, tokens, mask).sum().item()
                sums["tokens"] += mask[..., 1:].sum().item()
        sums = self._processes.total(sums)
        own, other = sums["own"] / sums["tokens"], sums["other"] / sums["tokens"]
        return {"dev.loss": own, "dev.loss_shuffled": other, "dev.image_use": other - own}


def _loss(captioner: Captioner, prefix: Prefix, tokens: Tensor, mask: Tensor) -> Float[Tensor, "B C T"]:
    losses = captioner.decoder.token_losses(prefix.embeddings, prefix.valid, tokens, mask, prefix.added, prefix.bias)
    return losses.double()
