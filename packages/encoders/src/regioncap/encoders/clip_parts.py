"""A CLIP of transformers taken apart: layers that never train, the rest of the image tower, a trainable copy of it."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from regioncap.encoders.clip_tail import ClipTail, ClipTailConfig
from regioncap.encoders.vit import Readout, VitBlock, VitReadout


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipParts:
    """What a `ClipEncoder` runs."""

    embeddings: nn.Module
    """Pixels -> tokens, B T W."""
    blocks: nn.ModuleList
    """All layers but those of the readout."""
    readout: VitReadout
    """The last layers, which a tail may train a copy of; one for a CLIP that is left whole, for the sake of its
    shortcut."""
    tail: ClipTail
    class_tokens: int
    """Tokens before the patches."""
    grid: tuple[int, int]
    """Rows and columns of patches."""


def take_apart(model: Any, source: str, image_size: tuple[int, int], trainable_layers: int) -> ClipParts:
    """Return the parts of a CLIP-like model, `trainable_layers` of its image layers left to the tail.

    Raises ValueError for a model that is none, or that has fewer layers.
    """
    vision: Any = getattr(model, "vision_model", None)
    layers = getattr(getattr(vision, "encoder", None), "layers", None)
    if (
        layers is None
        or not hasattr(model, "text_model")
        or not hasattr(vision, "post_layernorm")
        or not hasattr(vision.embeddings, "patch_embedding")
        or not isinstance(vision.embeddings.patch_embedding, nn.Conv2d)
        or not hasattr(layers[0].self_attn, "q_proj")
    ):
        kind = getattr(model.config, "model_type", type(model).__name__)
        raise ValueError(f"{source} is a {kind}, not a CLIP or SigLIP of a fixed size with an image and a text tower")
    if trainable_layers >= len(layers):
        raise ValueError(f"clip.trainable_layers is {trainable_layers}, but {source} has {len(layers)} layers")
    pool = getattr(vision, "head", None)
    if pool is None and not hasattr(model, "visual_projection"):
        raise ValueError(f"{source} has neither a projection nor a pooling head: it gives no image vector")
    config = vision.config
    patch = config.patch_size
    grid = (image_size[0] // patch, image_size[1] // patch)
    if config.image_size != image_size[0] or image_size[0] != image_size[1]:
        raise ValueError(f"{source} was made for {config.image_size} pixels, its image processor gives {image_size}")
    class_tokens = int(hasattr(vision.embeddings, "class_embedding"))
    shape = {
        "width": config.hidden_size,
        "heads": config.num_attention_heads,
        "hidden": config.intermediate_size,
        "activation": config.hidden_act,
        "epsilon": config.layer_norm_eps,
    }
    blocks = nn.ModuleList(VitBlock(**shape) for _ in layers)
    for block, layer in zip(blocks, layers, strict=True):
        block.copy_from(layer)  # type: ignore[operator]
    above = max(trainable_layers, 1)
    mode: Readout = "class" if pool is None else "attention"
    readout = VitReadout(layers=above, readout=mode, **shape)
    readout.blocks = blocks[len(blocks) - above :]
    readout.norm.load_state_dict(vision.post_layernorm.state_dict())
    if pool is not None and readout.pool is not None:
        readout.pool.load_state_dict(pool.state_dict())
    tokens = class_tokens + grid[0] * grid[1]
    tail_config = ClipTailConfig(
        layers=trainable_layers, tokens=tokens, readout=mode, projected=hasattr(model, "visual_projection"), **shape
    )
    tail = _tail(tail_config, model, readout)
    before = getattr(vision, "pre_layrnorm", nn.Identity())
    return ClipParts(
        embeddings=nn.Sequential(vision.embeddings, before),
        blocks=blocks[: len(blocks) - above],
        readout=readout,
        tail=tail,
        class_tokens=class_tokens,
        grid=grid,
    )


def _tail(config: ClipTailConfig, model: Any, readout: VitReadout) -> ClipTail:
    text = model.text_model
    text_dim = text.head.out_features if hasattr(text, "head") else text.config.hidden_size
    dim = model.visual_projection.out_features if config.projected else config.width
    tail = config.build(config.tokens * config.width if config.layers else config.width, text_dim, dim)
    if tail.readout is not None:
        tail.readout.load_state_dict(readout.state_dict())
    if config.projected:
        tail.image_projection.load_state_dict(model.visual_projection.state_dict())
        tail.text_projection.load_state_dict(model.text_projection.state_dict())
    with torch.no_grad():
        tail.log_scale.copy_(model.logit_scale.detach().view(()))
    return tail.eval()
