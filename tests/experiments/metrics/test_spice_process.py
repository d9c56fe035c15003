"""The cache of parses, shared by processes that must not meet in it."""

import os

import pytest

from regioncap.experiments.metrics.spice_process import claim_cache


def test_each_process_has_its_own_and_the_next_gets_the_first(tmp_path):
    first, first_lock = claim_cache(tmp_path)
    second, second_lock = claim_cache(tmp_path)
    assert (first.name, second.name) == ("0", "1")
    os.close(first_lock)
    again, again_lock = claim_cache(tmp_path)
    assert again == first
    os.close(second_lock)
    os.close(again_lock)


def test_a_folder_that_cannot_be_made_says_what_to_set(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match=r"metrics\.cache_folder"):
        claim_cache(tmp_path / "file")
