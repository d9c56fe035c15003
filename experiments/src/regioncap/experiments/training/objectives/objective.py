"""The form of an objective: what it draws for a batch, what its terms are means of, and the terms."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from regioncap.decoder import CaptionTokenizer
from regioncap.encoders import ImageFeatures
from regioncap.experiments.captioner import Captioner, Condition
from regioncap.experiments.training.captions import CaptionTensors
from regioncap.guidance import KeywordBank

Targets = tuple[Tensor, ...]
"""What a batch is to learn; the first axis of each tensor is the image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lessons:
    """What objectives draw from: the training images' captions, and how they are read. Never anything of dev."""

    captions: CaptionTensors
    references: tuple[tuple[str, ...], ...]
    """The same captions as people wrote them, an image each."""
    tokenizer: CaptionTokenizer
    scene_bank: KeywordBank
    detail_bank: KeywordBank


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """Terms of one batch, each a mean and unweighted, so that each can be logged."""

    terms: Mapping[str, Float[Tensor, ""]]
    observed: Mapping[str, float] = field(default_factory=dict)
    """What else the curves show of the batch, such as rewards; nothing is minimised in it."""


class Objective(nn.Module, ABC):
    """Costs of a batch, as terms whose weighted sum training minimises.

    A batch may be split: over processes, and over the parts that gradients accumulate from. So that the parts give
    the whole's gradient, each term is a mean over things that `counts` counts before the captioner runs.
    """

    @property
    @abstractmethod
    def weights(self) -> Mapping[str, float]:
        """Term -> its weight in the sum."""

    @abstractmethod
    def targets(self, rows: Int[Tensor, "B"], captions: int, chance: torch.Generator) -> Targets:
        """What the batch of these training images is to learn, with `captions` of each image drawn by `chance`."""

    @abstractmethod
    def counts(self, images: ImageFeatures, targets: Targets) -> Mapping[str, int]:
        """Term -> how many things it is a mean of, such as tokens or regions, in this part of a batch."""

    @abstractmethod
    def forward(self, captioner: Captioner, condition: Condition, targets: Targets) -> Losses:
        """The terms of a part of a batch; `condition` was computed from the images alone."""
