"""An exponential moving average of a captioner's weights."""

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from regioncap.experiments.captioner import Captioner


class Average:
    """theta' <- d theta' + (1 - d) theta after every step, by PyTorch's `AveragedModel`.

    d = min(decay, (1 + n) / (10 + n)) after n steps, so that the fresh weights of the start are soon forgotten.
    """

    def __init__(self, captioner: Captioner, decay: float) -> None:
        def blend(averaged: Tensor, current: Tensor, steps: Tensor | int) -> Tensor:
            n = int(steps)
            return torch.lerp(averaged, current, 1 - min(decay, (1 + n) / (10 + n)))

        self.model = AveragedModel(captioner, avg_fn=blend)

    @property
    def captioner(self) -> Captioner:
        """The captioner with averaged weights."""
        averaged = self.model.module
        assert isinstance(averaged, Captioner)
        return averaged

    def update(self, captioner: Captioner) -> None:
        """After a step."""
        self.model.update_parameters(captioner)
