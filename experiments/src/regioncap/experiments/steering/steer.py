"""A batch captioned without and with a user's edits."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from regioncap.encoders import ClipText, ImageFeatures, TextEncoder
from regioncap.experiments.captioner import Captioner
from regioncap.experiments.checkpoint import Checkpoint
from regioncap.experiments.generate import CaptionGenerator, Generated
from regioncap.experiments.steering.compare import steering_record
from regioncap.experiments.steering.edits import BatchEdits, Steerer
from regioncap.experiments.steering.lookup import find_words
from regioncap.experiments.steering.options import SteeringOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Captioned:
    """A batch's captions."""

    generated: Generated
    """With the edits, if there are any."""
    before: Generated | None
    """Without them."""
    edits: BatchEdits | None

    def record(self, captioner: Captioner, image: int) -> dict[str, Any]:
        """`steering_record` of a picture, as the field `steering`; nothing where nothing was edited."""
        if self.before is None or self.edits is None:
            return {}
        return {"steering": steering_record(captioner, self.before, self.generated, self.edits, image)}


def steerer_of(
    options: SteeringOptions, checkpoint: Checkpoint, text: TextEncoder | ClipText
) -> tuple[Steerer | None, Checkpoint]:
    """What makes the edits, None for none, and the checkpoint with the words that its banks lacked.

    Raises SteeringError or BankError for what cannot be edited.
    """
    if not options.any:
        return None, checkpoint
    wanted, checkpoint = find_words(options, checkpoint, text)
    return Steerer(checkpoint.captioner, wanted, options.strength), checkpoint


def caption_batch(
    generator: CaptionGenerator, images: ImageFeatures, names: Sequence[str], steerer: Steerer | None
) -> Captioned:
    """Caption a batch, and once more with the edits."""
    plain = generator(images, names)
    if steerer is None:
        return Captioned(generated=plain, before=None, edits=None)
    edits = steerer(plain, names)
    return Captioned(generated=generator(images, names, edits.steering), before=plain, edits=edits)
