"""Each step of Table 2's pipeline as work of its own, on random boundary values: no step needs the ones before it."""

import tempfile
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from regioncap.decoder import Gpt2Decoder, IncrementalGpt2, search
from regioncap.decoder.projections import Precision
from regioncap.encoders import Regions
from regioncap.encoders.fast_linear import Precision as ClipPrecision
from regioncap.experiments.benchmarking import table2
from regioncap.experiments.benchmarking.case import Case, Work
from regioncap.experiments.benchmarking.measure import DEVICE, Call
from regioncap.graph import RegionGraphConfig


def steps() -> tuple[Case, ...]:
    """The pipeline, a step for each of `record.STAGES`: their times add up to the captioner's."""
    light = Case(stage="", name="", make=Work, pipeline=True)
    heavy = replace(light, rounds=(3, 5), seconds=8.0)
    return (
        replace(light, stage="preprocessing", name="JPEG to both encoders", make=preprocessing),
        replace(heavy, stage="global encoder", name="CLIP ViT-B/32", make=global_encoder),
        replace(heavy, stage="region encoder", name="Faster R-CNN C4", make=region_encoder),
        replace(light, stage="adapter", name="linear", make=adapter),
        replace(light, stage="graph", name="KNN and attention", make=graph),
        replace(light, stage="fusion", name="global and mean region", make=fusion),
        replace(light, stage="guidance", name="scene and detail words", make=guidance),
        replace(light, stage="prefix", name="fused, one token", make=prefix),
        replace(heavy, stage="decoder", name="hybrid, 1 greedy token then 5 beams", make=decoder),
    )


def preprocessing(images: int = table2.IMAGES) -> Work:
    """Decode JPEGs and make what both encoders take of them."""
    encoder, folder = table2.encoders(), tempfile.TemporaryDirectory()
    files = table2.photographs(Path(folder.name), images)

    def call(_kept: object = folder) -> None:
        for column in zip(*(encoder.load(file) for file in files), strict=True):
            torch.stack(column)

    width, height = table2.PHOTOGRAPH
    return Work(call=call, images=images, sizes={"width": width, "height": height, "pixels of a side": table2.SIDE})


def global_encoder(
    images: int = table2.IMAGES, side: int = table2.SIDE, precision: ClipPrecision | None = None
) -> Work:
    """CLIP's image tower up to g (eq. 1)."""
    encoder = table2.clip(side, precision).to(DEVICE)
    pixels = torch.rand(images, 3, side, side, device=DEVICE)
    assert encoder.tail.readout is not None
    parts = (encoder.embeddings, encoder.blocks, encoder.tail.readout, encoder.tail.image_projection)
    sizes = {"pixels of a side": side, "layers": 12, "width": 768, "precision": encoder.config.precision}
    return Work(call=lambda: encoder.embed_image(pixels), images=images, sizes=sizes, modules=parts)


def region_encoder(
    kind: table2.DetectorKind = "c4",
    images: int = table2.IMAGES,
    side: int = table2.SIDE,
    precision: table2.Arithmetic | None = None,
    proposals: int | None = None,
) -> Work:
    """Faster R-CNN from pixels to regions (eq. 2)."""
    encoder = table2.detector(kind, side=side, precision=precision, proposals=proposals).to(DEVICE)
    pixels = torch.rand(images, 3, side, side, device=DEVICE)
    sizes: dict[str, int | float | str] = {
        "pixels of a side": side,
        "N": table2.REGIONS,
        "proposals": proposals or encoder.detector.config.proposals,
        "R": encoder.region_dim,
        "precision": f"{encoder.config.precision} trunk, {encoder.config.head_precision} head",
    }
    return Work(call=lambda: encoder(pixels), images=images, sizes=sizes, modules=(encoder,))


def adapter(images: int = table2.IMAGES, regions: int = table2.REGIONS) -> Work:
    """Raw region features to the joint width."""
    settings, seen = table2.experiment(), raw_regions(images, regions)
    stage = settings.adapter.build(table2.REGION_DIM, settings.dim).to(DEVICE).eval()
    sizes = {"N": regions, "R": table2.REGION_DIM, "D": settings.dim}
    return Work(call=inference(lambda: stage(seen)), images=images, sizes=sizes, modules=(stage,))


def graph(images: int = table2.IMAGES, regions: int = table2.REGIONS) -> Work:
    """KNN graph and graph attention (eqs. 3-5 and 7-9)."""
    settings, seen = table2.experiment(), raw_regions(images, regions)
    stage, vectors = settings.graph.build(settings.dim).to(DEVICE).eval(), joint(images, regions)
    sizes = {"N": regions, "R": table2.REGION_DIM, "D": settings.dim} | _of_graph(settings.graph)
    return Work(
        call=inference(lambda: stage(vectors, seen.features, seen.boxes, seen.valid)),
        images=images,
        sizes=sizes,
        modules=(stage,),
    )


def fusion(images: int = table2.IMAGES, regions: int = table2.REGIONS) -> Work:
    """The global vector and the mean region in one (eq. 10)."""
    settings = table2.experiment()
    stage = settings.fusion.build(settings.dim).to(DEVICE).eval()
    g, vectors, valid = joint(images), joint(images, regions), all_valid(images, regions)
    return Work(
        call=inference(lambda: stage(g, vectors, valid)),
        images=images,
        sizes={"N": regions, "D": settings.dim},
        modules=(stage,),
    )


def guidance(images: int = table2.IMAGES, words: int = table2.BANK) -> Work:
    """Scene and detail words from banks of as many words each (eqs. 11-12)."""
    settings = table2.experiment()
    banks = table2.bank(words), table2.bank(words, skip=words)
    stage = settings.guidance.build(settings.dim, *banks).to(DEVICE).eval()
    fused, g = joint(images), functional.normalize(joint(images), dim=-1)
    vectors, valid = joint(images, table2.REGIONS), all_valid(images, table2.REGIONS)
    sizes = {"N": table2.REGIONS, "D": settings.dim, "words of a bank": words}
    return Work(call=inference(lambda: stage(fused, g, vectors, valid)), images=images, sizes=sizes, modules=(stage,))


def prefix(images: int = table2.IMAGES) -> Work:
    """E_vis from the fused vector and the guidance vectors (eqs. 13-14)."""
    settings = table2.experiment()
    stage = settings.prefix.build(settings.dim, settings.decoder.width, guided=True).to(DEVICE).eval()
    fused, scene, detail = joint(images), joint(images), joint(images)
    regions, valid = joint(images, table2.REGIONS), all_valid(images, table2.REGIONS)
    return Work(
        call=inference(lambda: stage(fused, scene, detail, regions, valid, regions, joint(images, 0))),
        images=images,
        sizes={"P": 1, "D": settings.dim, "H": settings.decoder.width},
        modules=(stage,),
    )


def decoder(
    images: int = table2.IMAGES,
    greedy: int = 1,
    beams: int = 5,
    slots: int = 1,
    precision: Precision = "float32",
) -> Work:
    """GPT-2 124M (eq. 15), searched greedily for the first tokens and by beams after that."""
    settings = table2.experiment()
    config = replace(settings.search, greedy_tokens=greedy, beams=beams, precision=precision)
    model, stepping = _laid_out(precision)
    told = torch.randn(images, slots, model.width, device=DEVICE)
    sizes = {
        "P": slots,
        "tokens": table2.TOKENS,
        "greedy tokens": greedy,
        "beams": beams,
        "layers": 12,
        "H": model.width,
        "V": table2.VOCABULARY,
        "precision": precision,
    }
    valid = all_valid(images, slots)
    return Work(call=lambda: search(stepping, told, valid, config), images=images, sizes=sizes, modules=(model,))


def raw_regions(images: int, regions: int = table2.REGIONS, channels: int = table2.REGION_DIM) -> Regions:
    """Regions as a detector has them: features above zero, boxes anywhere, every slot filled."""
    torch.manual_seed(0)
    return Regions(
        features=torch.randn(images, regions, channels, device=DEVICE).relu(),
        boxes=torch.rand(images, regions, 2, 2, device=DEVICE).sort(dim=2).values.flatten(2),
        scores=torch.rand(images, regions, device=DEVICE),
        valid=all_valid(images, regions),
        words=torch.zeros(images, regions, 0, dtype=torch.long, device=DEVICE),
        word_scores=torch.zeros(images, regions, 0, device=DEVICE),
    )


def joint(*shape: int, dim: int | None = None) -> Tensor:
    """Vectors in the joint space."""
    return torch.randn(*shape, dim or table2.experiment().dim, device=DEVICE)


def all_valid(images: int, slots: int) -> Tensor:
    """No slot is padding."""
    return torch.ones(images, slots, dtype=torch.bool, device=DEVICE)


def inference(call: Call) -> Call:
    """The call without gradients."""
    return torch.inference_mode()(call)


@lru_cache(maxsize=1)
def _laid_out(precision: Precision) -> tuple[Gpt2Decoder, IncrementalGpt2]:
    """Kept, since nothing changes it and there are many cases of it."""
    torch.manual_seed(0)
    model = table2.experiment().decoder.build(table2.VOCABULARY, bos=1, eos=2, pad=0).to(DEVICE).eval()
    return model, model.incremental(precision)


def _of_graph(config: object) -> dict[str, int | float | str]:
    assert isinstance(config, RegionGraphConfig)
    return {"K": config.k, "layers": config.layers, "heads": config.heads, "geometry": config.geometry}
