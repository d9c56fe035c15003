import torch

from regioncap.decoder import DecoderState
from regioncap.decoder.state import KeyValueCache

B, HEADS, S, D = 3, 2, 4, 5


def started() -> DecoderState:
    torch.manual_seed(0)
    keys, values = torch.randn(2, B, HEADS, S, D)
    seen = torch.tensor([[True, True, False, True], [True, True, True, True], [False, True, True, True]])
    return DecoderState.start((keys,), (values,), seen)


def said(state: DecoderState, words: torch.Tensor) -> DecoderState:
    """A step: every row's word becomes the key of its new slot."""
    slots, state = state.heard.shape[1], state.grown()
    told = words.view(len(state.length), 1, -1, 1).expand(-1, HEADS, -1, D).float()
    state.cache.write(0, slots, told, told)
    return state


def words_of(state: DecoderState) -> list[list[int]]:
    """What each row hears behind its prefix."""
    per_image = state.rows_per_image
    return [
        state.cache.keys[0][row // per_image, 0, S : heard.shape[0], 0][heard[S:]].int().tolist()
        for row, heard in enumerate(state.heard)
    ]


def test_a_row_hears_its_prefix_and_its_own_words_whatever_beams_are_chosen():
    state = started().rows(torch.tensor([0, 0, 1, 1, 2, 2]))
    assert state.next_positions().tolist() == [3, 3, 4, 4, 3, 3]
    state = said(state, torch.arange(1, 7))
    state = said(state.rows(torch.tensor([1, 1, 2, 3, 5, 4])), torch.arange(11, 17))
    assert words_of(state) == [[2, 11], [2, 12], [3, 13], [4, 14], [6, 15], [5, 16]]
    assert state.next_positions().tolist() == [5, 5, 6, 6, 5, 5]
    assert torch.equal(state.heard[:2, :S], torch.tensor([[True, True, False, True]]).expand(2, -1))


def test_images_that_stay_take_their_slots_along():
    state = said(started().rows(torch.tensor([0, 0, 1, 1, 2, 2])), torch.arange(1, 7))
    kept = state.images(torch.tensor([2, 0])).rows(torch.tensor([5, 4, 0, 1]))
    assert words_of(kept) == [[6], [5], [1], [2]]
    assert kept.length.tolist() == [3, 3]


def test_two_lines_from_one_state_do_not_meet():
    first = said(started(), torch.tensor([1, 2, 3]))
    left, right = said(first, torch.tensor([4, 5, 6])), said(first, torch.tensor([7, 8, 9]))
    assert words_of(left) == [[1, 4], [2, 5], [3, 6]]
    assert words_of(right) == [[1, 7], [2, 8], [3, 9]]
    assert words_of(first) == [[1], [2], [3]]


def test_more_words_than_a_cache_has_room_for():
    state = started()
    for word in range(200):
        state = said(state, torch.tensor([word, word + 1000, word + 2000]))
    assert words_of(state)[1] == list(range(1000, 1200))


def test_a_line_that_goes_on_writes_where_it_is():
    cache = KeyValueCache((torch.zeros(1, 1, 2, 1),), (torch.zeros(1, 1, 2, 1),))
    assert cache.with_room(2, 3) is cache
    cache.write(0, 2, torch.ones(1, 1, 3, 1), torch.ones(1, 1, 3, 1))
    assert cache.with_room(5, 3) is cache
    other = cache.with_room(2, 1)
    assert other is not cache
    assert other.filled == 2
