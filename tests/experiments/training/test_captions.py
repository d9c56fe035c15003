from itertools import chain

import pytest
import torch

from regioncap.experiments.training.captions import CaptionTensors, batches, same_count


def order(images: int, size: int, steps: int, seed: int) -> list[list[int]]:
    return [rows.tolist() for rows in batches(images, size, steps, seed)]


def test_every_epoch_holds_every_image_once() -> None:
    drawn = order(12, 4, 9, seed=3)
    for epoch in range(3):
        assert sorted(chain(*drawn[3 * epoch : 3 * epoch + 3])) == list(range(12))


def test_epochs_differ_and_seeds_differ() -> None:
    drawn = order(12, 12, 2, seed=3)
    assert drawn[0] != drawn[1]
    assert drawn[0] != order(12, 12, 1, seed=4)[0]


def test_order_depends_on_seed_and_epoch_alone() -> None:
    first = order(12, 4, 5, seed=3)
    torch.manual_seed(99)
    torch.rand(7)
    assert order(12, 4, 9, seed=3)[:5] == first


def test_short_last_batch_is_left_out() -> None:
    drawn = order(10, 4, 6, seed=0)
    assert [len(rows) for rows in drawn] == [4] * 6
    for epoch in range(3):
        assert len(set(chain(*drawn[2 * epoch : 2 * epoch + 2]))) == 8


def test_data_set_smaller_than_a_batch_is_one_batch() -> None:
    assert [sorted(rows) for rows in order(3, 16, 2, seed=0)] == [[0, 1, 2]] * 2


@pytest.fixture
def tensors() -> CaptionTensors:
    """4 images, 5 captions each, whose every entry tells image and caption."""
    label = 10 * torch.arange(4)[:, None, None] + torch.arange(5)[None, :, None]  # 4 5 1
    return CaptionTensors(
        tokens=label.repeat(1, 1, 3), mask=label.repeat(1, 1, 3) % 2 == 0, text=label.half().repeat(1, 1, 2)
    )


def test_pick_takes_distinct_captions_of_the_asked_images_with_their_mask_and_vector(tensors: CaptionTensors) -> None:
    rows = torch.tensor([2, 0, 2])
    tokens, mask, text = tensors.pick(rows, 3, torch.Generator().manual_seed(0))
    assert tokens.shape == (3, 3, 3)
    assert (tokens[..., 0] // 10 == rows[:, None]).all()
    assert all(len(set(own)) == 3 for own in tokens[..., 0].tolist())
    assert torch.equal(mask, tokens % 2 == 0)
    assert torch.equal(text, tokens[..., :2].float())
    assert text.dtype == torch.float32


def test_pick_reaches_every_caption(tensors: CaptionTensors) -> None:
    generator = torch.Generator().manual_seed(0)
    seen = {int(tensors.pick(torch.tensor([1]), 1, generator)[0][0, 0, 0]) for _ in range(60)}
    assert seen == {10, 11, 12, 13, 14}


@pytest.mark.parametrize("asked", [5, 9])
def test_pick_gives_all_captions_where_there_are_no_more(tensors: CaptionTensors, asked: int) -> None:
    tokens, _, _ = tensors.pick(torch.tensor([3]), asked, torch.Generator())
    assert tokens[0, :, 0].tolist() == [30, 31, 32, 33, 34]


def test_images_with_fewer_captions_repeat_their_own() -> None:
    assert same_count([["a", "b", "c"], ["d"], ["e", "f"]]) == (("a", "b", "c"), ("d", "d", "d"), ("e", "f", "e"))
