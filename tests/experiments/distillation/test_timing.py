import time
from collections.abc import Callable

import pytest

from regioncap.experiments.captioner import Captioner
from regioncap.experiments.config import Experiment
from regioncap.experiments.distillation.timing import caption_times
from regioncap.experiments.generate import CaptionGenerator
from regioncap.experiments.prepare import Prepared


@pytest.mark.parametrize("batch", [1, 3, 16])
def test_times_are_per_caption_whatever_the_batch_and_one_captioner_does_not_pay_for_the_other(
    make_captioner: Callable[[str], Captioner],
    prepared: Prepared,
    tiny: Experiment,
    monkeypatch: pytest.MonkeyPatch,
    batch: int,
) -> None:
    """On a clock of its own: a search takes a second an image, or three, and the stages before it half of that."""
    now = [0.0]
    both = {"slow": make_captioner("+graph"), "quick": make_captioner("clipcap")}
    from_prefix, condition = CaptionGenerator.from_prefix, Captioner.condition

    def seconds(captioner: Captioner) -> float:
        return 3.0 if captioner is both["slow"] else 1.0

    def searching(self: CaptionGenerator, prefix: object, names: list[str]) -> object:
        now[0] += len(names) * seconds(self._captioner)
        return from_prefix(self, prefix, names)

    def seeing(self: Captioner, images: object) -> object:
        now[0] += 0.5 * len(images.pooled) * seconds(self)
        return condition(self, images)

    monkeypatch.setattr(time, "process_time", lambda: now[0])
    monkeypatch.setattr(CaptionGenerator, "from_prefix", searching)
    monkeypatch.setattr(Captioner, "condition", seeing)
    times = caption_times(both, prepared.dev, prepared.tokenizer, tiny.search, images=5, batch=batch)
    assert (times["slow"].decoder, times["slow"].captioner) == pytest.approx((3000, 4500))
    assert (times["quick"].decoder, times["quick"].captioner) == pytest.approx((1000, 1500))
