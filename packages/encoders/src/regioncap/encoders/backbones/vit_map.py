"""The patches of a vision transformer as a feature map: ViT, DINOv2, CLIP, SigLIP."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import AutoModel

from regioncap.encoders.fast_linear import Precision, quicken
from regioncap.encoders.preprocessing import load_normalisation
from regioncap.encoders.weights import MODEL_FILES, find_checkpoint, load_pretrained

_WAY_OUT = "give vit_map.weights the folder of a vision transformer in transformers' format, or a hub name"


@dataclass(frozen=True, slots=True, kw_only=True)
class VitMapConfig:
    """Where the weights are."""

    weights: str = "facebook/dinov2-small"
    """A folder in transformers' format, or a hub name: ViT, DINOv2 (with or without registers), CLIP, SigLIP."""

    def __post_init__(self) -> None:
        if not self.weights:
            raise ValueError(f"vit_map.weights is empty: {_WAY_OUT}")

    def build(self, precision: Precision) -> "VitMapBackbone":
        """Load it. Raises ValueError if the weights are missing or of another kind of model."""
        return VitMapBackbone(self, precision)


class VitMapBackbone(nn.Module):
    """The last hidden states of a vision transformer's patches, laid out as a map; class and register tokens go.

    The stride is the patch's side. For images of another size than the model was trained on, its position embeddings
    are interpolated by transformers.
    """

    def __init__(self, config: VitMapConfig, precision: Precision) -> None:
        super().__init__()
        source = find_checkpoint(config.weights, (*MODEL_FILES, ("preprocessor_config.json",)), way_out=_WAY_OUT)
        model = load_pretrained(AutoModel, source, what="vision transformer", way_out=_WAY_OUT, without=("pooler.",))
        self.model: Any = getattr(model, "vision_model", model)
        patch = getattr(self.model.config, "patch_size", None)
        if not isinstance(patch, int) or not hasattr(self.model.config, "hidden_size"):
            raise ValueError(f"{source} is a {model.config.model_type}, which has no square patches: {_WAY_OUT}")
        self.stride, self.channels = patch, int(self.model.config.hidden_size)
        # Others interpolate unasked, or take one size only.
        self.trained_size = self.model.config.image_size if self.model.config.model_type != "dinov2" else None
        mean, std = load_normalisation(source)
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)
        self.mean: Tensor
        self.std: Tensor
        quicken(self.model, precision)
        self.requires_grad_(False)
        self.eval()

    def forward(self, images: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B C Y X"]:
        """Return the feature map."""
        side = images.shape[-1] // self.stride
        resized = {} if self.trained_size in (None, images.shape[-1]) else {"interpolate_pos_encoding": True}
        states = self.model((images * 255.0 - self.mean) / self.std, **resized).last_hidden_state.float()
        patches: Tensor = states[:, states.shape[1] - side * side :]
        feature_map: Tensor = patches.transpose(1, 2).unflatten(2, (side, side))
        return feature_map
