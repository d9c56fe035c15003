"""Low-rank adapters (LoRA) beside the weights of a stored GPT-2, by peft."""

import copy
from dataclasses import dataclass
from typing import Literal, TypeVar

from torch import nn

LoraTarget = Literal["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"]

Model = TypeVar("Model", bound=nn.Module)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraConfig:
    """W x becomes W x + (alpha / rank) B A dropout(x) (Hu et al. 2021, arXiv 2106.09685); only A and B train."""

    rank: int = 0
    """Rows of A; 0: no adapters, GPT-2's own weights train."""
    alpha: float = 16.0
    """Scale of what the adapters add, divided by `rank`."""
    dropout: float = 0.0
    """On what the adapters read, in training."""
    targets: tuple[LoraTarget, ...] = ("attn.c_attn",)
    """Matrices of every block that are adapted: queries, keys and values in one; the attention's output; the two of
    the MLP."""

    def __post_init__(self) -> None:
        if self.rank < 0:
            raise ValueError(f"decoder.lora.rank must not be negative, got {self.rank}; 0 is no adapters")
        if self.alpha <= 0:
            raise ValueError(f"decoder.lora.alpha must be positive, got {self.alpha}")
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"decoder.lora.dropout must be in [0, 1), got {self.dropout}")
        if not self.targets or len(set(self.targets)) < len(self.targets):
            raise ValueError(
                f"decoder.lora.targets must name one matrix or more, each once, got {self.targets}; "
                "for no adapters set decoder.lora.rank to 0"
            )

    def adapt(self, model: nn.Module) -> None:
        """Put fresh adapters into a GPT-2 (B = 0: it says what it said) and freeze all else. Rank 0 does nothing.

        Raises ValueError if peft is not installed.
        """
        if not self.rank:
            return
        try:
            import peft  # here: it takes two seconds, which a decoder without adapters need not wait for
        except ImportError as error:
            raise ValueError("decoder.lora needs peft: pip install 'regioncap-decoder[lora]'") from error
        adapters = peft.LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,  # type: ignore[arg-type]  # peft divides it: any number does
            lora_dropout=self.dropout,
            target_modules=list(self.targets),
            fan_in_fan_out=True,  # GPT-2's Conv1D holds its matrix the other way round
        )
        peft.inject_adapter_in_model(adapters, model)


def adapters_of(model: nn.Module) -> list[nn.Parameter]:
    """The parameters of all adapters in a model; none if it has no adapters."""
    return [parameter for name, parameter in model.named_parameters() if ".lora_" in name]


def merged(model: Model) -> Model:
    """The model without adapters that computes the same: a copy with W + (alpha / rank) B A for each W.

    A model without adapters is returned itself.
    """
    if not adapters_of(model):
        return model
    from peft.tuners.lora import LoraLayer

    plain = copy.deepcopy(model)
    for parent in list(plain.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, LoraLayer):
                child.merge()
                setattr(parent, name, child.get_base_layer())
    return plain
