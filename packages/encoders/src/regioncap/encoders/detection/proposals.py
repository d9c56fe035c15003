"""The proposal network's convolutions, at any width and precision."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models.detection.rpn import RPNHead


class ProposalHead(RPNHead):  # type: ignore[misc]
    """torchvision's head with a width of its own, and float32 outputs also where autocast rounds its convolution.

    Scores rounded to bfloat16 would tie by the hundred. B images, C channels, A anchors a cell.
    """

    def __init__(self, channels: int, hidden: int, anchors: int) -> None:
        super().__init__(hidden, anchors)
        if channels != hidden:
            self.conv[0][0] = nn.Conv2d(channels, hidden, 3, padding=1)
            nn.init.normal_(self.conv[0][0].weight, std=0.01)
            nn.init.zeros_(self.conv[0][0].bias)

    def forward(
        self, maps: list[Float[Tensor, "B C _h _w"]]
    ) -> tuple[list[Float[Tensor, "B A _h _w"]], list[Float[Tensor, "B 4*A _h _w"]]]:
        """Return objectness and box offsets of every anchor, level by level."""
        objectness, offsets = [], []
        for level in maps:
            hidden = self.conv(level)
            with torch.autocast(hidden.device.type, enabled=False):
                objectness.append(self.cls_logits(hidden.float()))
                offsets.append(self.bbox_pred(hidden.float()))
        return objectness, offsets
