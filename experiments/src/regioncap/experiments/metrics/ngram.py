"""BLEU, ROUGE-L and CIDEr-D by pycocoevalcap's own Python classes, on tokenized captions."""

from collections.abc import Mapping, Sequence

import numpy as np
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge


def ngram_scores(
    references: Mapping[str, Sequence[str]], candidates: Mapping[str, str]
) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Corpus scores by metric, and per-image scores by metric in the order of `references`.

    Both mappings hold the same images; captions are tokens joined by single spaces. BLEU of a corpus is made from
    summed counts and is not the mean over images; ROUGE-L and CIDEr are means.
    """
    truth = {image: list(captions) for image, captions in references.items()}
    tested = {image: [candidates[image]] for image in references}
    bleu, bleu_each = Bleu(4).compute_score(truth, tested, verbose=0)
    rouge, rouge_each = Rouge().compute_score(truth, tested)
    cider, cider_each = Cider().compute_score(truth, tested)
    names = ["BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr"]
    corpus = {name: float(value) for name, value in zip(names, [*bleu, rouge, cider], strict=True)}
    each = [*bleu_each, rouge_each, cider_each]
    return corpus, {name: np.asarray(values).tolist() for name, values in zip(names, each, strict=True)}
