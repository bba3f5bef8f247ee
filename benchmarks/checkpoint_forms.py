"""docs/checkpoints.md: forms of checkpoints, each of about 1 GB, read by the emitted reader: bit for bit, memory, seconds.

    .venv/bin/python benchmarks/checkpoint_forms.py [FORM ...]

The tensors are compared with those that transformers itself loads; of GPTQ and AWQ, which it cannot load without a GPU, with integers, zero points and
scales multiplied out. The peer of the seconds is the plain read of the same tensors from safetensors in bfloat16, in the same run.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))
import test_checkpoints as forms  # noqa: E402
from checkpoints import reader_of, save  # noqa: E402
from tiny import CONFIGS  # noqa: E402

PAGE = ROOT / "docs" / "checkpoints.md"
DENSE = CONFIGS["llama"] | {
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 8192,
}
MIXTURE = CONFIGS["gpt_oss"] | {"hidden_size": 1024, "intermediate_size": 1024, "num_local_experts": 32}
GIGABYTE = 1e9
GROUP = 128  # inputs with one scale, as most GPTQ and AWQ releases have it


@dataclass(frozen=True)
class Row:
    """What became of a form."""

    form: str
    file_gigabytes: float
    tensors: int
    equal: int
    peak_megabytes: float  # of anonymous memory: mapped files are not in it
    largest_megabytes: float  # the largest tensor, as the reader gives it
    seconds: float


def main() -> None:
    """Measure each form in a process of its own, print, write the page."""
    warnings.simplefilter("ignore")
    asked = sys.argv[1:] or list(FORMS)
    rows = [_in_a_process(form) for form in asked]
    if not sys.argv[1:]:
        PAGE.write_text(page(rows))
    print(page(rows))


def _in_a_process(form: str) -> Row:
    """Made in one process and measured in another, whose memory is clean."""
    with tempfile.TemporaryDirectory(prefix="fx2ttnn_checkpoints_") as name:
        folder, answer = Path(name), Path(name) / "answer.json"
        _forked(lambda: make(form, folder))
        _forked(lambda: answer.write_text(json.dumps(vars(measure(form, folder)))))
        row = Row(**json.loads(answer.read_text()))
        print(row, flush=True)
        return row


def _forked(work: Callable[[], Any]) -> None:
    if os.fork() == 0:
        try:
            work()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    os.wait()


def _reader(form: str, folder: Path) -> tuple[Any, Any]:
    fields, layers, _ = FORMS[form]
    return reader_of(fields | {"num_hidden_layers": layers, **_kinds(fields, layers)}, folder)


def make(form: str, folder: Path) -> None:
    """The checkpoint in folder/form, and what must come of it in folder/expected."""
    reader, source = _reader(form, folder / "maker")
    tensors = {name: (torch.randn(shape) / 50).bfloat16() for name, shape in reader.expected_tensors().items()}
    save(tensors, folder / "saved", **source.config.to_dict())
    del tensors
    path, expected = FORMS[form][2](folder)
    save(expected, folder / "expected")
    path.rename(folder / "form")


def measure(form: str, folder: Path) -> Row:
    """Read it once for time and memory, and once beside the reference."""
    reader, _ = _reader(form, folder / "reader")
    path = folder / "form"
    size = sum(file.stat().st_size for file in path.glob("*") if file.suffix in (".safetensors", ".bin"))
    state = reader.open_checkpoint(path)
    reader.check_tensors(state)
    with Peak() as peak:
        begin = time.perf_counter()
        largest = max(reader.read_tensor(state, name).nbytes for name in state)
        seconds = time.perf_counter() - begin
    expected = reader.Checkpoint(folder / "expected")
    equal = sum(torch.equal(reader.read_tensor(state, name), expected[name]) for name in expected)
    return Row(form, size / GIGABYTE, len(expected), equal, peak.megabytes, largest / 1e6, seconds)


class Peak:
    """The most anonymous memory of this process while it is open, above what it had before, in MB; looked at every 2 ms."""

    def __enter__(self) -> Peak:
        self._before, self.megabytes, self._open = self._now(), 0.0, True
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._open = False
        self._thread.join()

    def _watch(self) -> None:
        while self._open:
            self.megabytes = max(self.megabytes, self._now() - self._before)
            time.sleep(0.002)

    @staticmethod
    def _now() -> float:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1e3


def _kinds(fields: dict[str, Any], layers: int) -> dict[str, Any]:
    kinds = fields.get("layer_types")
    return {"layer_types": (kinds * layers)[:layers]} if kinds else {}


def _plain(folder: Path) -> tuple[Path, dict[str, torch.Tensor]]:
    return folder / "saved", forms.stored(folder)


def _torch(folder: Path) -> tuple[Path, dict[str, torch.Tensor]]:
    state = forms.stored(folder)
    (folder / "torch").mkdir()
    torch.save(state, folder / "torch" / "pytorch_model.bin")
    return folder / "torch", state


def _fp8(folder: Path) -> tuple[Path, dict[str, torch.Tensor]]:
    return _by_transformers(folder, forms.in_fp8(forms.stored(folder)), forms.FP8)


def _mxfp4(folder: Path) -> tuple[Path, dict[str, torch.Tensor]]:
    return _by_transformers(folder, forms.in_mxfp4(forms.stored(folder)), forms.MXFP4)


def _int8(folder: Path) -> tuple[Path, dict[str, torch.Tensor]]:
    return _by_transformers(folder, forms.in_int8(forms.stored(folder)), forms.INT8)


def _by_transformers(folder: Path, state: dict[str, torch.Tensor], settings: dict[str, Any]) -> tuple[Path, Any]:
    path = forms.quantised(folder, folder, state, settings)
    return path, forms.by_transformers(path).state_dict()


def _gptq(folder: Path) -> tuple[Path, dict[str, torch.Tensor]]:
    return _packed(folder, "gptq", partial(forms.gptq_parts, mixed=False))


def _awq(folder: Path) -> tuple[Path, dict[str, torch.Tensor]]:
    return _packed(folder, "awq", forms.awq_parts)


def _packed(folder: Path, method: str, parts: Any) -> tuple[Path, dict[str, torch.Tensor]]:
    state = forms.stored(folder)
    expected = dict(state)
    for name in [n for n in state if n.endswith("proj.weight")]:
        q, zeros, scales, expected[name] = forms.in_integers(state.pop(name), 4, GROUP)
        stem = name.removesuffix("weight")
        state |= {f"{stem}{part}": tensor for part, tensor in parts(q, zeros, scales, 4).items()}
    settings = {"quant_method": method, "bits": 4, "group_size": GROUP, "version": "gemm"}
    return save(state, folder / "packed", quantization_config=settings), expected


FORMS: dict[str, tuple[dict[str, Any], int, Any]] = {
    "safetensors, bfloat16": (DENSE, 8, _plain),
    "pytorch_model.bin, bfloat16": (DENSE, 8, _torch),
    "FP8, a scale for each block of 128 x 128": (DENSE, 16, _fp8),
    "MXFP4 (gpt-oss)": (MIXTURE, 16, _mxfp4),
    "compressed-tensors, int8": (DENSE, 16, _int8),
    "GPTQ, 4 bit": (DENSE, 30, _gptq),
    "AWQ, 4 bit (gemm)": (DENSE, 30, _awq),
}


def page(rows: list[Row]) -> str:
    """docs/checkpoints.md."""
    text = [
        "# Forms of checkpoints",
        f"""
Written by `benchmarks/checkpoint_forms.py` with transformers {version("transformers")} and torch {version("torch")}, on this machine's CPU: random models, each file of about 1 GB.

- *equal*: tensors that the emitted reader gives bit for bit as the reference does. The reference is what transformers loads from the same folder,
  dequantised; of GPTQ and AWQ, which it loads with a GPU's packages only, integers less zero points, times scales, in the scales' type.
- *peak*: anonymous memory while all tensors are read one after the other; mapped files are not in it. *largest*: the largest tensor that is read.
- *seconds*: to read all tensors once; of quantised ones more numbers come out of a file of the same size.

| form | file, GB | equal | peak, MB | largest, MB | seconds |
|---|---|---|---|---|---|""",
        *(
            f"| {r.form} | {r.file_gigabytes:.2f} | {r.equal} of {r.tensors} | {r.peak_megabytes:.0f} | {r.largest_megabytes:.0f} | {r.seconds:.1f} |"
            for r in rows
        ),
    ]
    return "\n".join(text) + "\n"


if __name__ == "__main__":
    main()
