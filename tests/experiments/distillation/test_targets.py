from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from regioncap.decoder import SearchConfig, Wording, search
from regioncap.experiments.captioner import Captioner
from regioncap.experiments.distillation.targets import Targets, make_targets, teacher_captions
from regioncap.experiments.prepare import Prepared

SEARCH = SearchConfig(greedy_tokens=1, beams=2, max_new_tokens=6)


@pytest.fixture(scope="module")
def teacher(make_captioner: Callable[[str], Captioner], prepared: Prepared) -> Captioner:
    """Its captions vary, and some of them end."""
    teacher = make_captioner("+graph")
    with torch.no_grad():
        for parameter in teacher.decoder.parameters():
            parameter.mul_(5 if parameter.dim() == 2 else 1)
        loud = teacher.decoder.model.transformer.wte.weight[prepared.tokenizer.eos]
        teacher.decoder.model.transformer.ln_f.bias.copy_(0.7 * loud / loud.square().sum())
    return teacher


def test_captions_are_those_of_the_training_images(teacher: Captioner, prepared: Prepared, tmp_path: Path) -> None:
    targets = make_targets("captions", teacher, prepared, SEARCH, tmp_path)
    assert torch.equal(targets.tokens, prepared.captions.tokens)
    assert torch.equal(targets.mask, prepared.captions.mask)
    assert not list(tmp_path.iterdir())


def test_teacher_sees_training_images_with_their_offset_and_is_quoted_to_the_letter(
    teacher: Captioner, prepared: Prepared
) -> None:
    said = teacher_captions(teacher, prepared, SEARCH)
    assert said.tokens.shape[:2] == (len(prepared.train), 1)
    decoder, tokenizer = teacher.decoder.incremental(), prepared.tokenizer
    ended = 0
    for row in range(0, len(prepared.train), 3):
        one = torch.tensor([row])
        with torch.no_grad():
            prefix = teacher.condition(*prepared.seen(one)).prefix
        found = search(decoder, prefix.embeddings, prefix.valid, SEARCH, Wording.of(tokenizer))
        want = [tokenizer.bos, *found.tokens[0, 0, : int(found.lengths[0, 0])].tolist()]
        assert said.tokens[row, 0][said.mask[row, 0]].tolist() == want
        ended += want[-1] == tokenizer.eos
    assert ended < len(range(0, len(prepared.train), 3))  # one that was cut has no eos


def test_teachers_captions_are_looked_for_once(
    teacher: Captioner, prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = make_targets("teacher", teacher, prepared, SEARCH, tmp_path)
    monkeypatch.setattr(Captioner, "condition", None)
    again = make_targets("teacher", teacher, prepared, SEARCH, tmp_path)
    assert torch.equal(first.tokens, again.tokens)
    assert torch.equal(first.mask, again.mask)


def test_both_are_peoples_captions_and_then_the_teachers(
    teacher: Captioner, prepared: Prepared, tmp_path: Path
) -> None:
    both = make_targets("both", teacher, prepared, SEARCH, tmp_path)
    people = prepared.captions
    own = make_targets("teacher", teacher, prepared, SEARCH, tmp_path)
    captions = people.tokens.shape[1]
    assert both.tokens.shape[1] == captions + 1
    for row in range(len(prepared.train)):
        for column in range(captions):
            want = people.tokens[row, column][people.mask[row, column]]
            assert torch.equal(both.tokens[row, column][both.mask[row, column]], want)
        assert torch.equal(both.tokens[row, captions][both.mask[row, captions]], own.tokens[row, 0][own.mask[row, 0]])


def test_joining_pads_the_shorter() -> None:
    short = Targets(tokens=torch.tensor([[[1, 2]]]), mask=torch.tensor([[[True, True]]]))
    long = Targets(tokens=torch.tensor([[[1, 5, 2]]]), mask=torch.tensor([[[True, True, True]]]))
    for one, other in ((short, long), (long, short)):
        joined = one.with_others(other)
        assert joined.tokens[0, 0][joined.mask[0, 0]].tolist() == one.tokens[0, 0].tolist()
        assert joined.tokens[0, 1][joined.mask[0, 1]].tolist() == other.tokens[0, 0].tolist()
