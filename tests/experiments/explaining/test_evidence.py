import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from regioncap.decoder import explain
from regioncap.experiments.arms import ARMS
from regioncap.experiments.captioner import Captioner
from regioncap.experiments.config import Experiment
from regioncap.experiments.explaining.evidence import CAPTION, Evidence, gather, spelt_words
from regioncap.experiments.generate import CaptionGenerator, Generated
from regioncap.experiments.prepare import Prepared
from regioncap.experiments.vocabulary import VocabularyConfig

IMAGES = 4


def look(captioner: Captioner, prepared: Prepared, search: Any) -> tuple[CaptionGenerator, Generated, list[Evidence]]:
    generator = CaptionGenerator(captioner, prepared.tokenizer, search)
    generated = generator(prepared.dev.images(torch.arange(IMAGES)), "abcd")
    return generator, generated, gather(captioner, generator, prepared.tokenizer, generated)


@pytest.mark.parametrize("arm", ARMS)
def test_of_every_arm_attention_is_shared_out_and_words_are_the_captions(
    make_captioner: Callable[[str], Captioner], prepared: Prepared, tiny: Experiment, arm: str
) -> None:
    _, generated, found = look(make_captioner(arm), prepared, tiny.search)
    for evidence, text in zip(found, generated.texts, strict=True):
        assert evidence.caption == text
        assert " ".join(word.word for word in evidence.words) == text
        for word in evidence.words:
            on_prefix = {kind: share for kind, share in word.attention.items() if kind != CAPTION}
            assert all(0 <= share <= 1 for share in word.attention.values())
            assert 0 < sum(on_prefix.values()) <= 1 + 1e-5
            assert sum(word.attention.values()) == pytest.approx(1, abs=1e-4)
            assert 0 <= word.gate <= 1
            assert 0 < word.probability <= 1
        json.dumps(evidence.record())


def test_evidence_is_what_guidance_chose_and_the_decoder_heeded(
    make_captioner: Callable[[str], Captioner], prepared: Prepared, tiny: Experiment
) -> None:
    captioner = make_captioner("+graph+guidance")
    generator, generated, found = look(captioner, prepared, tiny.search)
    chosen = captioner.guidance.chosen_words(generated.guidance)
    tokens, mask = generator.whole(generated.captions)
    slow = explain(captioner.decoder, generated.prefix, tokens, mask)
    names = captioner.guidance.keyword_words
    for image, evidence in enumerate(found):
        assert evidence.scene == chosen[image].scene
        assert evidence.keywords_are == "log-odds"
        told = generated.guidance.keywords
        assert [word for word, _ in evidence.keywords] == [
            names[row] for row in told.words[image][told.valid[image]].tolist()
        ]
        valid = generated.regions.valid[image]
        assert [region.number for region in evidence.regions] == (valid.nonzero()[:, 0] + 1).tolist()
        own = generated.guidance.gate[image][valid]
        assert evidence.gate["mean"] == pytest.approx(own.mean().item())
        for region in evidence.regions:
            at = region.number - 1
            assert region.words == chosen[image].detail[at]
            assert region.box == pytest.approx(tuple(generated.boxes[image, at].tolist()))
            assert region.gate == pytest.approx(generated.guidance.gate[image, at].mean().item())
        kinds = [kind for kind, count in generated.prefix.slots for _ in range(count)]
        for at, word in enumerate(evidence.words):  # this tokenizer has a token for every word
            for kind in set(kinds):
                slots = [slot for slot, own_kind in enumerate(kinds) if own_kind == kind]
                share = slow.attention[:, image, at, slots].mean(0).sum().item()
                assert word.attention[kind] == pytest.approx(share, abs=1e-5)
            assert word.gate == pytest.approx(slow.openness[image, at].item(), abs=1e-6)
            assert word.bias == pytest.approx(slow.bias[image, at].item(), abs=1e-6)
            first = kinds.index("regions")
            regions = slow.shares[image, at, first : first + len(valid)]
            assert word.region == int(regions.argmax()) + 1
            assert word.probability == pytest.approx(generated.probabilities[image][at][1], rel=1e-5)


def test_what_is_explained_is_told_as_strongly_as_what_was_searched(
    make_captioner: Callable[[str], Captioner], prepared: Prepared, tiny: Experiment
) -> None:
    captioner = make_captioner("+graph+guidance")
    _, generated, found = look(captioner, prepared, replace(tiny.search, word_strength=3.0))
    with torch.inference_mode():
        told = captioner.condition(prepared.dev.images(torch.arange(IMAGES))).prefix.bias
    assert told is not None
    assert generated.prefix.bias is not None
    torch.testing.assert_close(generated.prefix.bias, 3 * told)
    assert any(word.bias for evidence in found for word in evidence.words)


def test_without_words_there_are_none_and_without_region_tokens_no_region_is_heeded(
    make_captioner: Callable[[str], Captioner], prepared: Prepared, tiny: Experiment
) -> None:
    evidence = look(make_captioner("clipcap"), prepared, tiny.search)[2][0]
    assert (evidence.scene, evidence.keywords, evidence.regions, evidence.gate) == ((), (), (), {})
    assert all(word.region is None for word in evidence.words)
    assert evidence.words[0].attention.keys() == {"fused", CAPTION}
    plain = look(make_captioner("+graph"), prepared, tiny.search)[2][0]
    assert all(region.gate is None and region.words == () for region in plain.regions)
    similar = look(make_captioner("similar words"), prepared, tiny.search)[2][0]
    assert similar.keywords_are == "weight"


def test_a_prompt_is_not_explained(
    make_captioner: Callable[[str], Captioner], prepared: Prepared, tiny: Experiment
) -> None:
    _, generated, found = look(make_captioner("+graph+guidance"), prepared, replace(tiny.search, prompt="a"))
    for evidence, text in zip(found, generated.texts, strict=True):
        assert "a " + " ".join(word.word for word in evidence.words) == text


def test_words_in_pieces_are_put_together(
    make_captioner: Callable[[str], Captioner], prepared: Prepared, captions: list[str]
) -> None:
    tokenizer = VocabularyConfig(kind="bpe", size=60, min_count=1).tokenizer(captions, None)
    text = tokenizer.normalise(captions[0])
    ids = tokenizer.encode([text]).tokens[0, 1:]
    found = spelt_words(tokenizer, ids)
    assert [word for word, _ in found] == text.split()
    assert [at for _, rows in found for at in rows] == list(range(len(ids) - 1))
    assert any(len(rows) > 1 for _, rows in found)


def test_the_record_has_the_promised_fields(
    make_captioner: Callable[[str], Captioner], prepared: Prepared, tiny: Experiment
) -> None:
    record = look(make_captioner("+graph+guidance"), prepared, tiny.search)[2][0].record()
    assert record.keys() == {"caption", "scene", "keywords", "keywords_are", "gate", "regions", "words"}
    assert record["gate"].keys() == {"mean", "closed"}
    assert record["regions"][0].keys() == {"number", "box", "words", "gate", "attention"}
    assert record["words"][0].keys() == {"word", "probability", "attention", "region", "gate", "bias"}
    assert record["words"][0]["attention"].keys() == {"fused", "regions", "scene", "keywords", CAPTION}
    assert isinstance(record["scene"], dict)
