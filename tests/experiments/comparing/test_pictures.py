from pathlib import Path

from PIL import Image

from regioncap.experiments.comparing.pictures import RunPictures
from regioncap.experiments.comparing.runs import Run
from regioncap.experiments.data.dataset import CaptionedImage


def run_of(make_run, path: Path) -> Run:
    run, _ = make_run("run")
    images = {"0.jpg": CaptionedImage(name="0.jpg", path=path, captions=())}
    return Run(name="run", place=run.place, seeds=run.seeds, images=images)


def test_pictures_lie_where_the_study_found_them_or_in_the_folder_that_is_named(make_run, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    Image.new("RGB", (8, 8), "red").save(tmp_path / "kept.png")
    Image.new("RGB", (8, 8), "blue").save(tmp_path / "deep" / "0.jpg")
    run = run_of(make_run, tmp_path / "kept.png")
    kept, moved = RunPictures((run,), None), RunPictures((run,), tmp_path)
    assert kept.find("0.jpg") == tmp_path / "kept.png"
    assert moved.find("0.jpg") == tmp_path / "deep" / "0.jpg"
    assert kept.thumbnail("0.jpg")[0].startswith("data:image/jpeg")


def test_a_picture_that_is_gone_says_how_to_name_the_folder(make_run, tmp_path: Path) -> None:
    pictures = RunPictures((run_of(make_run, tmp_path / "gone.png"),), None)
    assert pictures.find("0.jpg") is None
    assert pictures.find("unknown.jpg") is None
    assert "--images" in pictures.thumbnail("0.jpg")[1]
