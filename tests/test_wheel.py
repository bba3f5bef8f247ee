"""What `pip install` gives: a wheel holds all that fx2ttnn reads, and works without the checkout."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from tiny import CONFIGS, write_config

from fx2ttnn import models, targets

ROOT = Path(__file__).parent.parent
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def call(*command, cwd):
    done = subprocess.run([*map(str, command)], cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_installed_from_a_wheel(tmp_path):
    source = tmp_path / "source"  # a build leaves files beside what it builds
    for name in ("fx2ttnn", "lowering_rules"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    call(
        *pip, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", tmp_path, source, cwd=tmp_path
    )
    shutil.rmtree(source)

    venv.create(tmp_path / "env")
    python = tmp_path / "env" / "bin" / "python"
    call(*pip, "--python", python, "install", "--no-deps", "--no-index", *tmp_path.glob("*.whl"), cwd=tmp_path)
    site = Path(call(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path).strip())
    # torch and ttnn of this environment, behind what the new one has; its own .pth files, such as ours, do not count there
    (site / "rest.pth").write_text(sysconfig.get_path("purelib") + "\n")
    where = call(python, "-c", "import fx2ttnn; print(fx2ttnn.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(site)

    installed = tmp_path / "env" / "bin" / "fx2ttnn"
    known = call(python, "-c", "from fx2ttnn import models; print(models.names())", cwd=tmp_path)
    assert known.strip() == str(models.names())
    assert all(name in call(installed, "targets", cwd=tmp_path) for name in targets.names())
    write_config(tmp_path / "model", CONFIGS["qwen3"])
    assert "100 %" in call(installed, "compile", "model", "--target", "n150", "-o", "out", cwd=tmp_path)
    call(installed, "report", "out", cwd=tmp_path)
    assert "Llama-3.3-70B" in call(installed, "compare", "out", "--plan", "llama-3.3-70b", cwd=tmp_path)
    assert (tmp_path / "out" / "report" / "index.html").is_file()


def test_the_lock_file_has_a_version_of_every_dependency_that_pyproject_allows():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [text for texts in project["optional-dependencies"].values() for text in texts]
    wanted = [Requirement(text) for text in (*project["dependencies"], *extras)]
    pinned = dict(line.split("==") for line in (ROOT / "requirements.lock").read_text().splitlines() if line[0] != "#")
    for requirement in wanted:
        if requirement.name != project["name"]:
            assert requirement.specifier.contains(pinned[requirement.name.replace("_", "-")]), (
                f"run `make lock`: {requirement}"
            )
