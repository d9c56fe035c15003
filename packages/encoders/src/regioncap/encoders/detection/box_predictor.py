"""A region's features to its class and its refined box."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.ops import roi_align


class BoxPredictor(nn.Module):
    """Two linear maps under torchvision's names; the box is refined from the first `learned` channels alone.

    What the trunk's last map says of a region names it, but tells next to nothing of where its edges are: fed to both,
    it made the boxes worse (docs/detectors.md). P regions, R channels, K classes without background.
    """

    def __init__(self, region_dim: int, learned: int, classes: int) -> None:
        super().__init__()
        self.learned = learned
        self.cls_score = nn.Linear(region_dim, classes + 1)
        self.bbox_pred = nn.Linear(learned, 4 * (classes + 1))

    def forward(self, features: Float[Tensor, "P R"]) -> tuple[Float[Tensor, "P K1"], Float[Tensor, "P K4"]]:
        """Return the logits, background first, and per class the offsets of the box."""
        return self.cls_score(features), self.bbox_pred(features[:, : self.learned])


def mean_over_boxes(
    level: Float[Tensor, "B C h w"], boxes: list[Float[Tensor, "_p 4"]], size: tuple[int, int]
) -> Float[Tensor, "P C"]:
    """Return a map averaged over boxes in pixels, all pictures' in a row; `size` is the pictures' height and width.

    A grid of 2x2 samples, as `roi_align` takes them: a box of the whole of a 7x7 map is told from its centre by little,
    and a finer grid costs more than the box head.
    """
    pooled: Tensor = roi_align(level, boxes, 1, level.shape[-2] / size[0], sampling_ratio=2, aligned=True)
    return torch.flatten(pooled, 1)
