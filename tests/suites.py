"""Compiling a package and running its own suite, for the tests that do."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

from fx2ttnn import pipeline

# A package's suite but what its generator does: that is the same code for all models, and runs in `test_one_chip` and others.
NUMBERS = ("tests/ops", "tests/modules", "tests/model/test_model.py")
# A suite needs a process of its own: ttnn holds one mock mesh in each. Forks of one that has the libraries start in no time.
FORKS = multiprocessing.get_context("forkserver")
# What takes seconds to import: a reference model asks for the compiler of torch.
LIBRARIES = [
    "pytest",
    "torch",
    "torch._dynamo",
    "torch.distributed.tensor",
    "ttnn",
    "transformers.models.auto.modeling_auto",
]
FORKS.set_forkserver_preload([*LIBRARIES, "transformers.models.qwen3.modeling_qwen3", "fx2ttnn.emulate"])


def compiled(folder: Path, model: str, target: str, precision: str = "performance", **options: int) -> Path:
    """A package of `model` below `folder`."""
    out = folder / f"{pipeline.default_out(model, target).name}_{precision}"
    pipeline.write_package(pipeline.compile_model(pipeline.Options(model, target, precision=precision, **options)), out)
    return out


def run_suite(package: Path, *selection: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run a package's own tests, or those of `selection`, in a forked process from the folder above it."""
    command = ["-q", "-p", "no:cacheprovider", *options, *(str(package / s) for s in selection or ("tests",))]
    printed = package.with_name(f"{package.name}.log")
    process = FORKS.Process(target=_pytest, args=(command, package.parent, printed))
    process.start()
    process.join()
    return subprocess.CompletedProcess(command, process.exitcode, printed.read_text(), "")


def _pytest(command: list[str], folder: Path, printed: Path) -> None:
    import pytest

    out = os.open(printed, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.chdir(folder)
    sys.path.remove(str(Path(__file__).parent))  # a package's suite does not see ours
    sys.exit(pytest.main(command))


def assert_passes(done: subprocess.CompletedProcess[str]) -> None:
    """All tests of a suite passed, none was skipped."""
    assert done.returncode == 0, done.stdout[-8000:]
    assert "skipped" not in done.stdout
