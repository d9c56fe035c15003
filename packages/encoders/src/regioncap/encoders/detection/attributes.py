"""What is said of an object besides its name: colours, sizes, materials."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn


@dataclass(frozen=True, slots=True, kw_only=True)
class NoAttributesConfig:
    """The detector names classes only."""

    @property
    def words(self) -> tuple[str, ...]:
        """None."""
        return ()

    def build(self, region_dim: int, classes: int) -> "NoAttributes":
        """Return the stage without parameters."""
        return NoAttributes()


@dataclass(frozen=True, slots=True, kw_only=True)
class AttributeHeadConfig:
    """Vocabulary and shape of an `AttributeHead`."""

    words: tuple[str, ...]
    """The attributes, in the order of `BoxTargets.attributes`."""
    groups: tuple[str, ...]
    """For each word the group it belongs to ("colour", "size"); the words of a group exclude one another."""
    class_dim: int = 64
    """Width of the embedding of the object's class."""
    hidden: int = 256
    """Channels between the two layers."""

    def __post_init__(self) -> None:
        if not self.words:
            raise ValueError("detector.attributes.words must name at least one attribute: or take NoAttributesConfig")
        if len(self.words) != len(self.groups):
            raise ValueError(
                f"detector.attributes.groups must name a group for each of the {len(self.words)} words, "
                f"got {len(self.groups)}"
            )
        if len(set(self.words)) != len(self.words):
            raise ValueError("detector.attributes.words must differ from each other: remove the repeated ones")
        for name in ("class_dim", "hidden"):
            if getattr(self, name) < 1:
                raise ValueError(f"detector.attributes.{name} must be at least 1, got {getattr(self, name)}")

    def build(self, region_dim: int, classes: int) -> "AttributeHead":
        """Return an untrained head over features of `region_dim` channels of objects of so many `classes`."""
        return AttributeHead(self, region_dim, classes)


AttributesConfig = NoAttributesConfig | AttributeHeadConfig


class NoAttributes(nn.Module):
    """No attribute, no loss. P regions."""

    def forward(self, features: Float[Tensor, "P R"], labels: Int[Tensor, "P"]) -> Float[Tensor, "P 0"]:
        """Return no probability."""
        return features.new_zeros(len(features), 0)

    def losses(
        self, features: Float[Tensor, "P R"], labels: Int[Tensor, "P"], said: Bool[Tensor, "P A"]
    ) -> dict[str, Float[Tensor, ""]]:
        """Return no loss."""
        return {}


class AttributeHead(nn.Module):
    """Attributes of a region from its features and its class (Anderson et al. 2018, arXiv 1707.07998, sec. 3.1).

        h = ReLU(W1 [features ; embedding(class)])
        p(word) = sigmoid(w_group h) softmax_{words of the group}(W2 h)
    A "red" apple and a "red" dog look different: hence the class. Departs from the source, which has one softmax over
    all attributes and "none": people say one thing of an object and leave out the rest, so the loss of a group counts
    only where one of its words was said. There the other words of the *group* are taken as false, since a green thing
    is not red; a sigmoid per word would need negatives that nobody gave. Several said words ("black and white") share
    the target equally. The sigmoid is the probability that a person speaks of the group at all, for which silence is a
    negative: without it, everything would be striped, since who speaks of patterns mostly says so.
    P regions, R channels, A words.
    """

    def __init__(self, config: AttributeHeadConfig, region_dim: int, classes: int) -> None:
        super().__init__()
        self.config = config
        names = list(dict.fromkeys(config.groups))
        self.group_words = [[i for i, own in enumerate(config.groups) if own == name] for name in names]
        self.class_embedding = nn.Embedding(classes, config.class_dim)
        self.layers = nn.Sequential(
            nn.Linear(region_dim + config.class_dim, config.hidden),
            nn.ReLU(),
            nn.Linear(config.hidden, len(config.words) + len(names)),
        )

    def forward(self, features: Float[Tensor, "P R"], labels: Int[Tensor, "P"]) -> Float[Tensor, "P A"]:
        """Return the probability that each word is said. `labels` are indices into the classes."""
        logits, spoken_of = self._logits(features, labels)
        out = torch.empty_like(logits)
        for group, own in enumerate(self.group_words):
            out[:, own] = F.softmax(logits[:, own], dim=-1) * torch.sigmoid(spoken_of[:, group, None])
        return out

    def losses(
        self, features: Float[Tensor, "P R"], labels: Int[Tensor, "P"], said: Bool[Tensor, "P A"]
    ) -> dict[str, Float[Tensor, ""]]:
        """Return the sum of two cross-entropies, 0 for no region.

        That of the words is a mean over the pairs of region and group of which one was said, that of groups over all.
        """
        logits, spoken_of = self._logits(features, labels)
        total, count = logits.sum() * 0.0, 0
        groups = torch.stack([said[:, own].any(dim=-1) for own in self.group_words], dim=-1)
        for group, own in enumerate(self.group_words):
            known = groups[:, group]
            target = said[known][:, own].float()
            target = target / target.sum(dim=-1, keepdim=True)
            total = total + F.cross_entropy(logits[known][:, own], target, reduction="sum")
            count += int(known.sum())
        silence = F.binary_cross_entropy_with_logits(spoken_of, groups.float(), reduction="sum")
        return {"loss_attributes": total / max(count, 1) + silence / max(groups.numel(), 1)}

    def _logits(
        self, features: Float[Tensor, "P R"], labels: Int[Tensor, "P"]
    ) -> tuple[Float[Tensor, "P A"], Float[Tensor, "P _g"]]:
        """The words' logits within their groups, and the groups'."""
        both: Tensor = self.layers(torch.cat([features, self.class_embedding(labels)], dim=-1))
        return both[:, : len(self.config.words)], both[:, len(self.config.words) :]
