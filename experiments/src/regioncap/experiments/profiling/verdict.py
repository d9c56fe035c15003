"""One line: where the time goes, and what to try. Every rule has its reason beside it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from regioncap.experiments.config import Experiment
from regioncap.experiments.config_io import flatten
from regioncap.experiments.profiling.measured import Profile
from regioncap.experiments.profiling.spans import BACKWARD, OPTIMIZER

_STALLS = 0.15
"""Share of waiting for data that is worth a change."""
_SMALL = 0.10
_ENCODERS = ("preprocessing", "global encoder", "region encoder")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    profile: Profile
    shares: dict[str, float]
    """Stage -> share, encoders together and a stage's backward pass with it where training is profiled."""
    fields: dict[str, str]
    """Config fields by their flags' names."""

    def flag(self, *names: str) -> str:
        """The first of these flags that the experiment has, or ""."""
        return next((f"--{name.replace('_', '-')}" for name in names if name in self.fields), "")


Rule = Callable[[_Seen], str]


def verdict(profile: Profile, experiment: Experiment) -> str:
    """`decoder takes 71 % of the time: ...`."""
    seen = _Seen(
        profile=profile,
        shares=_shares(profile),
        fields={name: str(value) for name, value in flatten(experiment).items()},
    )
    rules = {"caption": _CAPTION, "train": _TRAIN, "encode": _ENCODE}[profile.what]
    return next(text for rule in rules if (text := rule(seen)))


def _shares(profile: Profile) -> dict[str, float]:
    """Of the timed stretch; what its backward pass is made of is known from the trace alone."""
    timed = profile.timed
    shares = {stage: timed.share(stage) for stage in timed.seconds}
    backward = [operator for operator in profile.trace.operators if operator.stage.endswith(f", {BACKWARD}")]
    whole = sum(operator.ms for operator in backward)
    for operator in backward if whole else ():
        stage = operator.stage.removesuffix(f", {BACKWARD}")
        shares[stage] = shares.get(stage, 0.0) + timed.share(BACKWARD) * operator.ms / whole
    if whole:
        shares.pop(BACKWARD, None)
    encoders = sum(shares.pop(stage, 0.0) for stage in _ENCODERS)
    return shares | ({"encoders": encoders} if encoders else {})


def _waits_for_encoder(seen: _Seen) -> str:
    # An encoder in the loop is run again for every epoch; its features do not change.
    share = seen.profile.timed.waiting
    if share < _STALLS or seen.fields.get("images.encode") != "each-step":
        return ""
    return (
        f"training waits {share:.0%} of the time for pictures that are read and encoded at every step: encode them "
        "once (`regioncap extract`, --images.encode once), which gives up augmentation"
    )


def _waits_for_store(seen: _Seen) -> str:
    # Features are memory-mapped: what is slow is the disk below them, or a store that does not fit into memory.
    share = seen.profile.timed.waiting
    if share < _STALLS:
        return ""
    return (
        f"training waits {share:.0%} of the time for stored features: put the store on a local disk, or make it "
        "smaller with fewer regions an image"
    )


def _decoder_trains(seen: _Seen) -> str:
    # Every caption is a row of the decoder, the image's prefix is not.
    if seen.shares.get("decoder", 0.0) < _biggest(seen):
        return ""
    half = "" if seen.fields.get("train.precision") == "bf16" else "--train.precision bf16, "
    return (
        f"the decoder takes {seen.shares['decoder']:.0%} of a step, backward pass included: {half}fewer captions of an "
        "image in a step (--train.captions-per-image), or low-rank adapters (--decoder.lora.rank 8)"
    )


def _optimizer(seen: _Seen) -> str:
    # Its cost is that of the parameters, whatever the batch.
    share = seen.shares.get(OPTIMIZER, 0.0)
    if share < _biggest(seen):
        return ""
    return (
        f"the optimiser takes {share:.0%} of a step: larger steps (--train.images-per-step) make fewer of them, "
        "--decoder.lora.rank 8 has fewer parameters to move"
    )


def _decoder_searches(seen: _Seen) -> str:
    # Matrix products of the beams, token by token.
    if seen.shares.get("decoder", 0.0) < _biggest(seen):
        return ""
    faster = "bfloat16" if seen.profile.device == "cuda" else "int8"
    precision = f"--search.precision {faster}, " if seen.fields.get("search.precision") == "float32" else ""
    return (
        f"the decoder takes {seen.shares['decoder']:.0%} of the time: {precision}fewer beams than "
        f"{seen.fields.get('search.beams')} (`regioncap sweep-search` says what they are worth), or a light student "
        "(`regioncap distil`)"
    )


def _encoders_caption(seen: _Seen) -> str:
    # They see each picture once; nothing else depends on how often it is captioned.
    share = seen.shares.get("encoders", 0.0)
    if share < _biggest(seen):
        return ""
    slowest = max(_ENCODERS, key=seen.profile.timed.share)
    flag = seen.flag("encoders.image.precision", "encoders.regions.precision")
    half = f"; {flag} bfloat16 for new ones" if flag and seen.fields[flag[2:]] == "float32" else ""
    return (
        f"the encoders take {share:.0%} of the time, the {slowest} most of it: pictures that are captioned more than "
        f"once are encoded once by `regioncap extract`{half}"
    )


def _graph(seen: _Seen) -> str:
    # Attention is quadratic in regions.
    share = seen.shares.get("graph", 0.0)
    if share < _biggest(seen):
        return ""
    flag = seen.flag("encoders.image.regions", "encoders.regions.regions", "graph.layers")
    return f"the graph takes {share:.0%} of the time, which grows with the square of regions: lower {flag}"


def _guidance(seen: _Seen) -> str:
    # Its cost is that of the banks' words.
    share = seen.shares.get("guidance", 0.0)
    if share < _biggest(seen):
        return ""
    return f"guidance takes {share:.0%} of the time, which grows with its banks: lower --banks.max-detail"


def _decoding(seen: _Seen) -> str:
    # JPEG decoding and resizing is one thread's work a picture.
    share = seen.profile.timed.share("preprocessing")
    if share < _STALLS or (share < 0.5 and seen.profile.device == "cpu"):
        return ""
    return (
        f"{share:.0%} of the threads' time goes into reading and resizing pictures: store them near the encoder's "
        "size, or give more threads (--threads)"
    )


def _encoder_alone(seen: _Seen) -> str:
    # What is left: the networks themselves.
    timed = seen.profile.timed
    flag = seen.flag("encoders.image.precision", "encoders.regions.precision")
    half = f", {flag} bfloat16" if flag and seen.fields[flag[2:]] == "float32" else ""
    return (
        f"the {timed.slowest} takes {timed.share(timed.slowest):.0%} of the threads' time: more processes "
        f"(`accelerate launch -m regioncap.experiments.cli extract`){half}; it is spent once, the store is kept"
    )


def _otherwise(seen: _Seen) -> str:
    stage = max(seen.shares, key=seen.shares.__getitem__)
    return f"{stage} takes {seen.shares[stage]:.0%} of the time; operators.md has what it is made of"


def _biggest(seen: _Seen) -> float:
    return max(seen.shares.values())


_TRAIN: Sequence[Rule] = (
    _waits_for_encoder,
    _waits_for_store,
    _decoder_trains,
    _optimizer,
    _graph,
    _guidance,
    _otherwise,
)
_CAPTION: Sequence[Rule] = (_decoder_searches, _encoders_caption, _graph, _guidance, _otherwise)
_ENCODE: Sequence[Rule] = (_decoding, _encoder_alone)
