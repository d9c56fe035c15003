"""Low-rank adapters (LoRA) in the image side of a CLIP-style head, by peft."""

import copy
from dataclasses import dataclass

from torch import nn

from regioncap.encoders.image_text_head import ImageTextHead

_LAYERS = r"image_layers\.\d+|readout\.blocks\.\d+\.(qkv|out|widen|narrow)"
"""The matrices of a `ClipHead`, and of a `ClipTail`'s transformer layers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipLoraConfig:
    """W x becomes W x + (alpha / rank) B A dropout(x) (Hu et al. 2021, arXiv 2106.09685); only A and B train."""

    rank: int = 0
    """Rows of A; 0: no adapters, the layers' own weights train."""
    alpha: float = 16.0
    """Scale of what the adapters add, divided by `rank`."""

    def __post_init__(self) -> None:
        if self.rank < 0:
            raise ValueError(f"clip_lora.rank must not be negative, got {self.rank}; 0 is no adapters")
        if self.alpha <= 0:
            raise ValueError(f"clip_lora.alpha must be positive, got {self.alpha}")

    def adapt(self, head: ImageTextHead) -> None:
        """Put fresh adapters into every image layer of a head (B = 0: it says what it said) and freeze all else.

        Rank 0, or a head that has adapters, is left as it is. Raises ValueError if peft is not installed, or the head
        has no layer to adapt.
        """
        if not self.rank or adapters_of(head):
            return
        try:
            import peft  # here: it takes two seconds, which a head without adapters need not wait for
        except ImportError as error:
            raise ValueError("clip_lora needs peft: pip install 'regioncap-encoders[lora]'") from error
        adapters = peft.LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,  # type: ignore[arg-type]  # peft divides it: any number does
            target_modules=_LAYERS,
        )
        try:
            peft.inject_adapter_in_model(adapters, head)
        except ValueError as error:
            raise ValueError(
                "clip_lora.rank asks for adapters, but this head holds no layer that trains: give the CLIP encoder "
                "trainable_layers, or set clip_lora.rank to 0"
            ) from error


def adapters_of(head: nn.Module) -> list[nn.Parameter]:
    """The parameters of a head's adapters; none if it has no adapters."""
    return [parameter for name, parameter in head.named_parameters() if ".lora_" in name]


def without_adapters(head: ImageTextHead) -> ImageTextHead:
    """The head without adapters that computes the same: a copy with W + (alpha / rank) B A for each W.

    A head without adapters is returned itself.
    """
    if not adapters_of(head):
        return head
    from peft.tuners.lora import LoraLayer

    plain = copy.deepcopy(head)
    for parent in list(plain.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, LoraLayer):
                child.merge()
                setattr(parent, name, child.get_base_layer())
    return plain
