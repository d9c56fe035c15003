from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from regioncap.encoders import load_image
from regioncap.experiments.benchmarking import table2, table2_stages
from regioncap.experiments.benchmarking.case import Work
from regioncap.experiments.benchmarking.record import STAGES
from regioncap.graph import RegionGraphConfig


def test_the_steps_are_the_pipelines_stages_in_order() -> None:
    steps = table2_stages.steps()
    assert tuple(step.stage for step in steps) == STAGES
    assert all(step.pipeline and not step.null and step.point is None for step in steps)


def test_the_sizes_are_those_of_table_2() -> None:
    settings = table2.experiment()
    decoder, search = settings.decoder, settings.search
    assert isinstance(settings.graph, RegionGraphConfig)
    assert (settings.dim, settings.graph.k, settings.graph.layers) == (512, 5, 2)
    assert (decoder.layers, decoder.heads, decoder.width, decoder.weights) == (12, 12, 768, None)
    assert (search.greedy_tokens, search.beams, search.min_new_tokens, search.max_new_tokens) == (1, 5, 20, 20)


@pytest.mark.parametrize(
    ("make", "parameters"),
    [
        # Published counts: ViT-B/32 87.8 million with its projection, GPT-2 124.4 million.
        (table2_stages.global_encoder, 87_849_216),
        (table2_stages.decoder, 124_439_808),
        (table2_stages.adapter, 2048 * 512 + 512 + 2 * 2048),
        (table2_stages.fusion, 1024 * 512),
    ],
)
def test_the_towers_have_their_published_parameters(make: Callable[..., Work], parameters: int) -> None:
    assert make(images=1).parameters == parameters


@pytest.mark.parametrize("kind", ["c4", "lite0"])
def test_every_region_slot_is_filled(kind: table2.DetectorKind, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = table2.detector(kind, precision="float32")
    head, seen = encoder.detector.model.roi_heads.box_head, []
    of_boxes = head.of_boxes

    def counted(maps: object, boxes: list[Tensor], *rest: object) -> Tensor:
        seen.append(len(boxes[0]))
        features: Tensor = of_boxes(maps, boxes, *rest)
        return features

    monkeypatch.setattr(head, "of_boxes", counted)
    regions = encoder(torch.rand(1, 3, table2.SIDE, table2.SIDE)).regions
    assert seen == [encoder.detector.config.proposals]  # whose features the regions keep, as the preset has it
    assert regions.valid.shape == (1, table2.REGIONS)
    assert bool(regions.valid.all())
    assert kind != "c4" or encoder.region_dim == table2.REGION_DIM


@pytest.mark.parametrize(
    "make", [table2_stages.graph, table2_stages.guidance, table2_stages.prefix, table2_stages.adapter]
)
def test_a_step_takes_as_many_images_as_it_says(make: Callable[..., Work]) -> None:
    assert [make(images=n).images for n in (1, 3)] == [1, 3]
    make(images=2)()


def test_photographs_decode_and_weigh_what_photographs_do(tmp_path: Path) -> None:
    files = table2.photographs(tmp_path, 2)
    assert load_image(files[0], table2.SIDE).shape == (3, table2.SIDE, table2.SIDE)
    with Image.open(files[1]) as picture:
        assert (picture.format, picture.size) == ("JPEG", table2.PHOTOGRAPH)
    assert 40_000 < files[1].stat().st_size < 250_000  # COCO's are 160 KB on average
    assert files[0].read_bytes() != files[1].read_bytes()


def test_made_up_words_are_all_different_and_the_tokenizer_knows_them() -> None:
    words = table2.made_up_words(table2.VOCABULARY - 4)
    assert len(set(words)) == len(words) == len(table2.tokenizer()) - 4
    assert not set(table2.bank(50).words) & set(table2.bank(50, skip=50).words)


@pytest.mark.slow
def test_the_captioner_goes_from_pictures_to_a_prefix(tmp_path: Path) -> None:
    encoders = table2.encoders()
    captioner = table2.captioner(encoders.whole)  # type: ignore[arg-type]
    pixels = [encoders.load(file) for file in table2.photographs(tmp_path, 2)]
    with torch.inference_mode():
        images = encoders(*(torch.stack(column) for column in zip(*pixels, strict=True)))
        prefix = captioner.condition(images).prefix
    assert prefix.embeddings.shape == (2, 1, 768)
