"""The floor of the study: no captioner, only the caption of the nearest training image."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def nearest_captions(
    g: Float[Tensor, "B D"], g_train: Float[Tensor, "n D"], train_captions: Sequence[Sequence[str]]
) -> list[str]:
    """For each image the first caption of the training image whose g is nearest by cosine; both of unit length.

    `g_train` are cross-fitted embeddings, so that seen and unseen images are measured alike.
    """
    nearest = torch.cat([(part @ g_train.T).argmax(dim=1) for part in g.split(256)])
    return [train_captions[row][0] for row in nearest.tolist()]
