"""Training one captioner of an experiment: from fresh weights, or from those of a checkpoint."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from regioncap.experiments.assemble import build_captioner
from regioncap.experiments.captioner import Captioner
from regioncap.experiments.checkpoint import load_checkpoint
from regioncap.experiments.config import Experiment
from regioncap.experiments.generate import Generated
from regioncap.experiments.keywords.supervision import KeywordSupervision
from regioncap.experiments.metrics import CaptionScorer
from regioncap.experiments.prepare import Prepared
from regioncap.experiments.training.engine import Keeping, Report, Trained, Watch, fit
from regioncap.experiments.training.length import with_steps
from regioncap.guidance import KeywordCommittee, KeywordHeads, NoKeywordHeads

_EMBEDDED_AT_ONCE = 512
"""Images; where `pooled` are the activations of all patches, those of a whole data set do not fit into memory."""
_ROUNDING = 1e-3
"""Heads that were fitted twice differ by a hundred times as much."""


def _no_report(step: int, values: Mapping[str, float]) -> None:
    """For a caller who wants the captioner alone."""


def _no_watch(step: int, captioner: Captioner, generated: Generated) -> None:
    """For a caller who looks at no pictures."""


def train(
    experiment: Experiment,
    prepared: Prepared,
    scorer: CaptionScorer,
    report: Report = _no_report,
    language: Mapping[str, torch.Tensor] | None = None,
    watch: Watch = _no_watch,
    keeping: Keeping | None = None,
) -> Trained:
    """Train a captioner; `language` are GPT-2 weights learned from text before, for one that starts from fresh weights.

    `scorer` is asked for CIDEr alone, so it loads neither METEOR nor SPICE for the curve on dev.
    Deterministic in `experiment.seed` on one machine and thread count. Raises ValueError for settings or a checkpoint
    that do not go together, and TrainingStopped as `fit` does.
    """
    experiment = with_steps(experiment, len(prepared.train))
    if experiment.init_from is not None:
        captioner = _from_checkpoint(experiment, experiment.init_from, prepared)
    else:
        captioner = fresh_captioner(experiment, prepared, language)
    objective = experiment.objective.build(prepared.lessons, experiment.dim)
    return fit(captioner, experiment, prepared, scorer, report, objective=objective, watch=watch, keeping=keeping)


def fresh_captioner(
    experiment: Experiment, prepared: Prepared, language: Mapping[str, torch.Tensor] | None = None
) -> Captioner:
    """A captioner as training finds it: keyword heads taught, statistics of words taken from the training images.

    Raises ValueError for `language` where adapters leave the decoder's weights as they are.
    """
    captioner = _built(experiment, prepared)
    if language is not None:
        if experiment.decoder.lora.rank:
            raise ValueError(
                "language.captions would teach every weight of the decoder, decoder.lora leaves them as stored: "
                "set language.captions to None or decoder.lora.rank to 0"
            )
        captioner.decoder.load_language(language)
    take_keyword_heads(captioner, prepared)
    captioner.guidance.calibrate(_training_g(captioner, prepared), prepared.shares)
    return captioner


def take_keyword_heads(captioner: Captioner, prepared: Prepared) -> None:
    """Give a captioner the keyword heads that were taught, if it has any."""
    if not isinstance(captioner.keyword_heads, NoKeywordHeads):
        if prepared.supervision is None:
            raise ValueError(
                "guidance.retrieval learned needs keyword heads, and this study taught none: prepare it with an "
                "experiment whose guidance.retrieval is learned"
            )
        captioner.keyword_heads.load_state_dict(_taught(captioner.keyword_heads, prepared.supervision).state_dict())


def _taught(heads: KeywordHeads | KeywordCommittee, supervision: KeywordSupervision) -> KeywordHeads | KeywordCommittee:
    """What was taught, in the form that a captioner has it."""
    return supervision.committee if isinstance(heads, KeywordCommittee) else supervision.heads


def _from_checkpoint(experiment: Experiment, folder: Path, prepared: Prepared) -> Captioner:
    """A captioner of this experiment with a checkpoint's weights and statistics."""
    stored = load_checkpoint(folder)
    banks = (stored.scene_bank.words, stored.detail_bank.words)
    if stored.tokenizer.words != prepared.tokenizer.words or banks != (
        prepared.scene_bank.words,
        prepared.detail_bank.words,
    ):
        raise ValueError(
            f"{folder} knows {len(stored.tokenizer)} tokens and {len(banks[0])} + {len(banks[1])} bank words, the "
            f"training captions give {len(prepared.tokenizer)} and {len(prepared.scene_bank.words)} + "
            f"{len(prepared.detail_bank.words)}, or others: go on from a checkpoint of the same data (--data.root) and "
            "settings"
        )
    check_heads(stored.captioner, prepared, folder)
    captioner = _built(experiment, prepared)
    try:
        captioner.load_state_dict(stored.captioner.state_dict())
    except RuntimeError as error:
        raise ValueError(
            f"{folder} holds a captioner of other stages than this experiment's "
            f"({' '.join(str(error).split())[:300]}): train with the settings of its config.json"
        ) from error
    return captioner


def check_heads(captioner: Captioner, prepared: Prepared, folder: Path) -> None:
    """See that what no training moves is what was prepared: the CLIP-style head's text side, and keyword heads.

    Raises ValueError naming the checkpoint's `folder` if it is not.
    """
    pairs: list[tuple[nn.Module, nn.Module]] = [
        (captioner.clip_head.text_projection, prepared.clip_head.text_projection)
    ]
    heads = captioner.keyword_heads
    if not isinstance(heads, NoKeywordHeads) and prepared.supervision is not None:
        pairs.append((heads, _taught(heads, prepared.supervision)))
    same = all(
        torch.allclose(own, other, atol=_ROUNDING)
        for ours, theirs in pairs
        for own, other in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True)
    )
    if not same:
        raise ValueError(
            f"{folder} was trained beside other heads than those prepared here, whose cross-fit offsets would make its "
            "training images strangers to it: go on with the cache (--cache), data and encoders that it was trained "
            "with, or train it anew"
        )


def _built(experiment: Experiment, prepared: Prepared) -> Captioner:
    return build_captioner(
        experiment,
        region_dim=prepared.train.region_dim,
        text_dim=prepared.text_dim,
        clip_head=prepared.clip_head,
        tokenizer=prepared.tokenizer,
        scene_bank=prepared.scene_bank,
        detail_bank=prepared.detail_bank,
    )


def _training_g(captioner: Captioner, prepared: Prepared) -> torch.Tensor:
    """g of every training image as training will see it, cross-fitted. n D."""
    captioner.eval()
    parts = torch.arange(len(prepared.train)).split(_EMBEDDED_AT_ONCE)
    with torch.inference_mode():
        return torch.cat([captioner.embed_image(prepared.train.pooled(rows), prepared.offsets[rows]) for rows in parts])
