"""Our captioner beside others' at equal beams and tokens.

    python benchmarks/bench_peers.py                 # ms a caption of each captioner, ratios with quartiles; batch 8
    python benchmarks/bench_peers.py 1 int8          # one picture at a time, our arithmetic in int8 (or bfloat16)
    pytest benchmarks/bench_peers.py --benchmark-only -o addopts='--import-mode=importlib -m "not slow"' \
        -o python_files='bench_*.py'

Random weights, published sizes, 5 beams, 20 forced tokens, one thread, in turns within one run. `from features` is all
that happens behind the encoders, `from pixels` all behind the reading of JPEGs.

* ClipCap (arXiv 2111.09734): CLIP ViT-B/32 of transformers, an MLP to a prefix of 10, GPT-2 124M by transformers'
  `generate`. `ClipCap, our decoder` has our mapping network and search in their place, and bos behind the prefix;
  tests/decoder/test_search.py shows that for equal inputs and weights the tokens are equal.
* BLIP-base (arXiv 2201.12086): transformers' `BlipForConditionalGeneration(BlipConfig())`, ViT-B/16 at 384 pixels and
  a text decoder of 12 layers that attends to all 577 patches, by its own `generate`.
* Ours: the preset `paper`: CLIP ViT-B/32 and Faster R-CNN C4, prefix of 1, GPT-2 124M, one greedy token and then 5
  beams. Its `from features` has the last two layers of CLIP in it, which are the captioner's to train.

Peers compute in float32. So do we, but for the detector's trunk, which is in bfloat16 by default; the rows bfloat16 and
int8 (the detector in bfloat16) change the arithmetic of our encoders and our decoder.
"""

import sys
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor, nn
from transformers import (
    BlipConfig,
    BlipForConditionalGeneration,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    GPT2Config,
    GPT2LMHeadModel,
)

from regioncap.decoder import Gpt2DecoderConfig, MlpMappingConfig, SearchConfig, search
from regioncap.decoder.projections import Precision
from regioncap.encoders import CompositeEncoder
from regioncap.encoders.quiet import quiet_transformers
from regioncap.experiments.benchmarking import table2
from regioncap.experiments.benchmarking.beside import run_beside
from regioncap.experiments.benchmarking.case import Case, Work
from regioncap.experiments.benchmarking.measure import CLOCK, DEVICE, Call, in_turns
from regioncap.experiments.benchmarking.table2_stages import all_valid
from regioncap.experiments.generate import CaptionGenerator

BEAMS, SLOTS, WIDTH, JOINT = 5, 10, 768, 512
LOW: tuple[Precision, ...] = ("bfloat16", "int8")
FORCED: dict[str, Any] = {
    "num_beams": BEAMS,
    "do_sample": False,
    "max_new_tokens": table2.TOKENS,
    "min_new_tokens": table2.TOKENS,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Captioner:
    """One captioner on one batch."""

    whole: Call
    """From pixels to tokens or words."""
    behind_encoders: Call
    """The same from what its encoders gave."""
    modules: tuple[nn.Module, ...]

    def call(self, scope: str) -> Call:
        """`from pixels` or `from features`."""
        return self.whole if scope == "from pixels" else self.behind_encoders


def ours(images: int, precision: Precision = "float32") -> Captioner:
    """The preset `paper`."""
    whole = table2.clip(precision=precision)
    regions = table2.detector(precision=None if precision == "float32" else "bfloat16")
    encoder = CompositeEncoder(whole, regions).to(DEVICE)
    captioner = table2.captioner(whole, encoder.region_dim).to(DEVICE)
    settings = replace(table2.experiment().search, precision=precision)
    assert (settings.greedy_tokens, settings.beams) == (1, BEAMS)
    generator = CaptionGenerator(captioner, table2.tokenizer(), settings)
    pixels, names = torch.rand(images, 3, table2.SIDE, table2.SIDE, device=DEVICE), [f"{i}" for i in range(images)]
    seen = encoder(pixels, pixels)
    return Captioner(
        whole=torch.inference_mode()(lambda: generator(encoder(pixels, pixels), names)),
        behind_encoders=lambda: generator(seen, names),
        modules=(encoder, captioner),
    )


def clipcap(images: int) -> Captioner:
    """Written as its users write it."""
    tower, mlp, gpt2 = clipcap_parts()
    pixels = torch.rand(images, 3, table2.SIDE, table2.SIDE, device=DEVICE)
    seen = all_valid(images, SLOTS).long()

    def say(vectors: Tensor) -> Any:
        prefix = mlp(vectors).unflatten(1, (SLOTS, WIDTH))
        return gpt2.generate(inputs_embeds=prefix, attention_mask=seen, eos_token_id=2, pad_token_id=0, **FORCED)

    vectors = torch.randn(images, JOINT, device=DEVICE)
    return Captioner(
        whole=torch.inference_mode()(lambda: say(tower(pixel_values=pixels).image_embeds)),
        behind_encoders=torch.inference_mode()(lambda: say(vectors)),
        modules=(tower, mlp, gpt2),
    )


@cache
def clipcap_parts() -> tuple[Any, Any, Any]:
    torch.manual_seed(0)
    with quiet_transformers():
        tower: Any = CLIPVisionModelWithProjection(CLIPVisionConfig(projection_dim=JOINT))
        gpt2: Any = GPT2LMHeadModel(GPT2Config())
    hidden = SLOTS * WIDTH // 2
    mlp = nn.Sequential(nn.Linear(JOINT, hidden), nn.Tanh(), nn.Linear(hidden, SLOTS * WIDTH))
    return tower.to(DEVICE).eval(), mlp.to(DEVICE).eval(), gpt2.to(DEVICE).eval()


def clipcap_with_our_decoder(images: int, precision: Precision = "float32") -> Captioner:
    """ClipCap's MLP as a prefix of ours, and our search; its encoder is transformers'."""
    torch.manual_seed(0)
    tower, _, _ = clipcap_parts()
    config = Gpt2DecoderConfig(layers=12, heads=12, width=WIDTH, positions=1024)
    decoder = config.build(table2.VOCABULARY, bos=1, eos=2, pad=0).to(DEVICE).eval()
    stepping = decoder.incremental(precision)
    mapping = MlpMappingConfig(tokens=SLOTS).build(JOINT, WIDTH, guided=False).to(DEVICE).eval()
    beam = SearchConfig(
        greedy_tokens=0,
        beams=BEAMS,
        max_new_tokens=table2.TOKENS,
        min_new_tokens=table2.TOKENS,
        precision=precision,
    )
    pixels = torch.rand(images, 3, table2.SIDE, table2.SIDE, device=DEVICE)
    none, no_slots = torch.zeros(images, 0, JOINT, device=DEVICE), all_valid(images, 0)

    def say(vectors: Tensor) -> object:
        nothing = vectors.new_zeros(images, JOINT)
        prefix = mapping(vectors, nothing, nothing, none, no_slots, none, none)
        return search(stepping, prefix.embeddings, prefix.valid, beam)

    vectors = torch.randn(images, JOINT, device=DEVICE)
    return Captioner(
        whole=torch.inference_mode()(lambda: say(tower(pixel_values=pixels).image_embeds)),
        behind_encoders=torch.inference_mode()(lambda: say(vectors)),
        modules=(tower, mapping, decoder),
    )


def blip(images: int) -> Captioner:
    """Its `generate`, and what that does behind its vision model."""
    model = blip_model()
    side = model.config.vision_config.image_size
    pixels = torch.rand(images, 3, side, side, device=DEVICE)
    text = model.config.text_config
    patches = torch.randn(images, 1 + (side // model.config.vision_config.patch_size) ** 2, WIDTH, device=DEVICE)
    seen = torch.ones(patches.shape[:2], dtype=torch.long, device=DEVICE)
    begun = torch.full((images, 1), text.bos_token_id, device=DEVICE)

    def say() -> object:
        return model.text_decoder.generate(
            input_ids=begun,
            eos_token_id=text.sep_token_id,
            pad_token_id=text.pad_token_id,
            encoder_hidden_states=patches,
            encoder_attention_mask=seen,
            **FORCED,
        )

    return Captioner(
        whole=torch.inference_mode()(lambda: model.generate(pixel_values=pixels, **FORCED)),
        behind_encoders=torch.inference_mode()(say),
        modules=(model,),
    )


@cache
def blip_model() -> Any:
    torch.manual_seed(0)
    with quiet_transformers():
        model: Any = BlipForConditionalGeneration(BlipConfig())
    return model.to(DEVICE).eval()


def ours_work(scope: str, images: int, precision: Precision = "float32") -> Work:
    """Ours as a case."""
    return work_of(ours(images, precision), scope, images, precision, slots=1)


def clipcap_work(scope: str, images: int, precision: Precision = "float32") -> Work:
    """ClipCap with our decoder as a case."""
    return work_of(clipcap_with_our_decoder(images, precision), scope, images, precision, slots=SLOTS)


def work_of(captioner: Captioner, scope: str, images: int, precision: Precision, slots: int) -> Work:
    sizes = {"beams": BEAMS, "tokens": table2.TOKENS, "P": slots, "precision": precision}
    return Work(call=captioner.call(scope), images=images, sizes=sizes, modules=captioner.modules)


PIXELS, FEATURES = "from pixels", "from features"
PEERS = {"ClipCap by transformers": clipcap, "BLIP-base": blip}


def compared(
    scope: str,
    images: int,
    *peers: str,
    name: str = "ours",
    precision: Precision = "float32",
    full: bool = False,
) -> tuple[Case, tuple[str, ...]]:
    """A case, and which of `PEERS` it stands beside."""
    own = Case(
        stage="captioner",
        name=", ".join([name, scope, f"batch {images}", precision, *(f"beside {peer}" for peer in peers[1:])]),
        make=ours_work if name == "ours" else clipcap_work,
        arguments=(scope, images, precision),
        rounds=(3, 3),
        memory=False,  # bench_captioner has it
        full=full,
    )
    return own, peers


COMPARED = (
    compared(FEATURES, 8, "ClipCap by transformers"),
    compared(PIXELS, 8, "ClipCap by transformers"),
    compared(FEATURES, 1, *PEERS),
    compared(PIXELS, 1, *PEERS),
    # BLIP's decoder holds the patches once for every beam: 7 GB and a minute a round.
    compared(FEATURES, 8, *PEERS, full=True),
    compared(PIXELS, 8, *PEERS, full=True),
    *(
        compared(FEATURES, images, "ClipCap by transformers", name="ClipCap, our decoder", full=True)
        for images in (1, 8)
    ),
    *(
        compared(scope, 8, "ClipCap by transformers", precision=low, full=True)
        for scope in (FEATURES, PIXELS)
        for low in LOW
    ),
)


@pytest.mark.benchmark(timer=CLOCK)
@pytest.mark.parametrize(
    ("own", "peers"),
    [pytest.param(*row, id=row[0].id, marks=[pytest.mark.slow] if row[0].full else []) for row in COMPARED],
)
def test_peers_speed(benchmark: BenchmarkFixture, own: Case, peers: tuple[str, ...]) -> None:
    scope, images, precision = own.arguments
    calls = {name: PEERS[name](images).call(scope) for name in peers}  # type: ignore[arg-type]
    run_beside(benchmark, own, own.make(scope, images, precision), calls)


def print_table(images: int, precision: Precision, rounds: int) -> None:
    """Every captioner in turns."""
    torch.set_num_threads(1)
    captioners = {
        "ours": ours(images, precision),
        "ClipCap, our decoder": clipcap_with_our_decoder(images, precision),
        "ClipCap by transformers": clipcap(images),
        "BLIP-base": blip(images),
    }
    for scope in (FEATURES, PIXELS):
        taken = in_turns({name: one.call(scope) for name, one in captioners.items()}, rounds=(rounds, rounds))
        print(f"\n{scope}, batch {images}, ours in {precision}\n\n| captioner | ms a caption | / ours | middle half |")
        print("|---|---:|---:|---|")
        for name in captioners:
            ratio = taken.ratio(name, "ours")
            middle = f"{ratio.low:.2f} - {ratio.high:.2f}"
            print(f"| {name} | {1e3 * taken.p50(name) / images:.0f} | {ratio.median:.2f} | {middle} |", flush=True)
    for name, one in captioners.items():
        weights = {id(weight): weight.numel() for module in one.modules for weight in module.parameters()}
        print(f"{name}: {sum(weights.values()) / 1e6:.0f} M parameters")


if __name__ == "__main__":
    batch = int(sys.argv[1]) if len(sys.argv) > 1 else table2.IMAGES
    arithmetic = sys.argv[2] if len(sys.argv) > 2 else "float32"
    print_table(batch, arithmetic, rounds=5 if batch == 1 else 3)  # type: ignore[arg-type]
