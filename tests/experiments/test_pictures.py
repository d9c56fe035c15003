from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from regioncap.experiments.arms import ARMS
from regioncap.experiments.captioner import Captioner
from regioncap.experiments.config import Experiment
from regioncap.experiments.generate import CaptionGenerator, Generated
from regioncap.experiments.pictures import Evidence, draw, evidence_of, evidence_record, records
from regioncap.experiments.prepare import Prepared
from regioncap.guidance import NoGuidance

Captioned = Callable[[str], tuple[Captioner, Generated]]


@pytest.fixture
def captioned(make_captioner: Callable[[str], Captioner], prepared: Prepared, tiny: Experiment) -> Captioned:
    """An arm's captioner, and what it says of the first four images of dev."""

    def make(arm: str) -> tuple[Captioner, Generated]:
        captioner = make_captioner(arm)
        images = prepared.dev.images(torch.arange(4))
        return captioner, CaptionGenerator(captioner, prepared.tokenizer, tiny.search)(images, "abcd")

    return make


def test_record_tells_caption_score_and_the_words_by_weight(captioned: Captioned, prepared: Prepared) -> None:
    captioner, generated = captioned("+graph+guidance")
    for i, record in enumerate(records(captioner, generated)):
        assert record["caption"] == generated.texts[i]
        assert record["score"] == pytest.approx(generated.captions.scores[i, 0].item(), abs=1e-4)
        scene, detail = record["scene_words"], record["detail_words"]
        assert set(scene) <= set(prepared.scene_bank.words)
        assert len(scene) == 2
        assert sum(scene.values()) == pytest.approx(1.0, abs=1e-3)
        total: dict[str, float] = {}
        for region in range(generated.regions.valid.shape[1]):
            if generated.regions.valid[i, region]:
                words = generated.guidance.detail_words[i, region].tolist()
                weights = generated.guidance.detail_weights[i, region].tolist()
                for word, weight in zip(words, weights, strict=True):
                    name = prepared.detail_bank.words[word]
                    total[name] = total.get(name, 0.0) + weight
        regions = int(generated.regions.valid[i].sum())
        for word, weight in detail.items():
            assert weight == pytest.approx(total[word] / regions, abs=1e-3)
        assert list(detail.values()) == sorted(detail.values(), reverse=True)
        assert len(detail) == min(8, len(total))


@pytest.mark.parametrize("arm", ARMS)
def test_every_arm_can_be_drawn(
    make_captioner: Callable[[str], Captioner], prepared: Prepared, tiny: Experiment, tmp_path: Path, arm: str
) -> None:
    captioner = make_captioner(arm)
    generated = CaptionGenerator(captioner, prepared.tokenizer, tiny.search)(prepared.dev.images(torch.arange(2)), "ab")
    targets = [tmp_path / f"{i}.png" for i in range(2)]
    draw(captioner, generated, [image.path for image in prepared.dev_images[:2]], targets)
    for target in targets:
        with Image.open(target) as picture:
            assert min(picture.size) >= 224
    if isinstance(captioner.guidance, NoGuidance):
        assert all(not record["scene_words"] and not record["detail_words"] for record in records(captioner, generated))


def test_evidence_is_what_the_captioner_used_without_padding(captioned: Captioned) -> None:
    captioner, generated = captioned("+graph+guidance")
    evidence = evidence_of(captioner, generated)
    assert len(evidence_of(captioner, generated, 2)) == 2
    for i, seen in enumerate(evidence):
        regions = int(generated.regions.valid[i].sum())
        assert seen.boxes.shape == (regions, 4)
        assert seen.edges.shape == (regions, regions)
        assert len(seen.words) == len(seen.relevance) == regions
        assert seen.caption == generated.texts[i]
        kept = generated.regions.valid[i]
        np.testing.assert_allclose(seen.edges, generated.regions.edges[i][kept][:, kept].numpy())
        record = evidence_record(seen)
        assert record["shown"] == min(12, regions)
        assert [seen.scene_words[0][0]] == [record["scene"][0][0]]


def test_without_a_graph_the_regions_with_the_heaviest_words_count_most(captioned: Captioned) -> None:
    captioner, generated = captioned("clipcap+guidance")
    for i, seen in enumerate(evidence_of(captioner, generated)):
        kept = generated.regions.valid[i]
        heaviest = generated.guidance.detail_weights[i][kept].amax(-1)
        np.testing.assert_array_equal(seen.relevance, heaviest.numpy())
        assert len(set(seen.relevance.tolist())) == len(seen.relevance) > 1


def test_record_of_evidence_points_at_its_own_boxes() -> None:
    generator = np.random.default_rng(0)
    edges = np.triu(generator.random((30, 30)), 1) * (generator.random((30, 30)) < 0.2)
    seen = Evidence(
        caption="x",
        boxes=generator.random((30, 4)),
        edges=edges + edges.T,
        words=tuple(f"word{i}" for i in range(30)),
        relevance=generator.random(30),
        scene_words=(("sea", 0.25),),
    )
    record = evidence_record(seen)
    best = np.argsort(-seen.relevance)[:12]
    assert record["shown"] == 12
    assert record["words"][:12] == [f"word{i}" for i in best]
    for i, j, weight in record["edges"]:
        a, b = (int(record["words"][end].removeprefix("word")) for end in (i, j))
        assert weight == pytest.approx(seen.edges[a, b], abs=1e-3)
        assert record["boxes"][i] == pytest.approx(seen.boxes[a], abs=1e-3)
        assert {a, b} & set(best.tolist())
    assert record["scene"] == [["sea", 0.25]]
