"""CIDEr-D as a reward: any captions of any images, against references that are weighed once."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from regioncap.experiments.metrics.cider import CiderD
from regioncap.experiments.metrics.ngrams import NgramIndex


class CiderDScorer:
    """Asked again and again for a few captions of a few images (`CiderD` has the equation).

    Document frequencies are those of all references given here, whichever images are asked for; pycocoevalcap's
    `CiderScorer` gives the same values where it is given the same frequencies. Captions are tokens joined by single
    spaces. A reference without a word counts: it lowers its image's mean, as there.
    I images. Raises ValueError for no images, or an image without references.
    """

    def __init__(self, references: Sequence[Sequence[str]]) -> None:
        if not references:
            raise ValueError("there are no references to score against: give those of one image at the least")
        for number, own in enumerate(references):
            if isinstance(own, str) or not own:
                got = "one string" if isinstance(own, str) else "none"
                raise ValueError(f"image {number} needs a list of references, at least one, got {got}")
        captions = [caption for own in references for caption in own]
        image = np.repeat(np.arange(len(references)), [len(own) for own in references])
        self._images = len(references)
        self._index, counts = NgramIndex.learn(captions)
        self._cider = CiderD(counts, image, self._index.sizes)

    def score(self, images: Int[np.ndarray, " C"], captions: Sequence[str]) -> Float[np.ndarray, " C"]:
        """CIDEr-D of each caption for the image that `images` numbers beside it, in [0, 10].

        Raises ValueError if the two differ in length, or an image has no such number.
        """
        if len(images) != len(captions):
            raise ValueError(f"every caption needs the number of its image, got {len(captions)} and {len(images)}")
        if len(images) and not 0 <= images.min() <= images.max() < self._images:
            wrong = images.max() if images.min() >= 0 else images.min()
            raise ValueError(f"images are numbered from 0 to {self._images - 1}, got {wrong}")
        return self._cider.score(self._index.count(self._index.number(captions)), images)
