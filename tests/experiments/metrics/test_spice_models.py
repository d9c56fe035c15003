"""Which folder SPICE is run from, and the table of what it needs against the files themselves."""

import hashlib
from pathlib import Path
from zipfile import ZipFile

import pytest

from regioncap.experiments.metrics.spice_models import (
    CODE_JAR,
    GET_SPICE,
    MODELS_JAR,
    SPICE_FILES,
    default_spice_folder,
    find_spice_folder,
    spice_jars,
)


def filled(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for jar in spice_jars(folder):
        jar.touch()
    return folder


@pytest.fixture(autouse=True)
def environment(tmp_path, monkeypatch):
    monkeypatch.setenv("REGIONCAP_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("REGIONCAP_SPICE", raising=False)


def test_nothing_set_up_is_none():
    assert find_spice_folder(None) is None


def test_what_setup_spice_made_is_found_when_complete():
    folder = filled(default_spice_folder())
    assert find_spice_folder(None) == folder
    (folder / MODELS_JAR).unlink()
    assert find_spice_folder(None) is None


def test_the_named_folder_goes_before_the_environment_and_that_before_the_cache(tmp_path, monkeypatch):
    filled(default_spice_folder())
    monkeypatch.setenv("REGIONCAP_SPICE", str(filled(tmp_path / "environment")))
    assert find_spice_folder(None) == tmp_path / "environment"
    assert find_spice_folder(filled(tmp_path / "named")) == tmp_path / "named"


@pytest.mark.parametrize("jar", [CODE_JAR, MODELS_JAR])
def test_a_named_folder_without_a_jar_is_an_error_even_if_another_has_it(tmp_path, monkeypatch, jar):
    filled(default_spice_folder())
    (filled(tmp_path / "lacking") / jar).unlink()
    with pytest.raises(ValueError, match=f"metrics.spice_folder names {tmp_path}/lacking, which does not hold {jar}"):
        find_spice_folder(tmp_path / "lacking")
    monkeypatch.setenv("REGIONCAP_SPICE", str(tmp_path / "lacking"))
    with pytest.raises(ValueError, match=f"REGIONCAP_SPICE names .*{jar}.*regioncap metrics setup-spice --from"):
        find_spice_folder(None)


def test_who_misses_spice_is_told_every_way_to_it():
    for way in ("regioncap metrics setup-spice --from", "--metrics.spice-folder", "REGIONCAP_SPICE"):
        assert way in GET_SPICE


def test_the_table_is_of_the_published_files(spice_folder):
    code, models = spice_jars(spice_folder)
    assert (code.stat().st_size, hashlib.sha256(code.read_bytes()).hexdigest()) == (
        SPICE_FILES.code.size,
        SPICE_FILES.code.sha256,
    )
    assert len(SPICE_FILES.members) == 14
    with ZipFile(models) as archive:
        for member in SPICE_FILES.members:
            content = archive.read(member.name)
            assert (len(content), hashlib.sha256(content).hexdigest()) == (member.size, member.sha256), member.name
