"""A checkpoint on disk, and whether it is one of this model: checkpoint.json lists every tensor and its shape."""

import hashlib
import json
import logging
import os
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import torch

from . import model_config as cfg
from .loading import Loaded
from .quantized import Unreadable, quantization_of, quantizer_of

DTYPES = (torch.bfloat16, torch.float16, torch.float32)
NAMED_IN_MESSAGE = 8

_LOG = logging.getLogger(__name__)
_MODEL = json.loads((Path(__file__).parent / "checkpoint.json").read_text())
TIED = _MODEL["tied"]  # name -> name of the tensor that it is, too


class CheckpointError(ValueError):
    """A checkpoint is not readable, or is not of this model. Names, in full: `missing`, `superfluous`, `misshapen`."""

    def __init__(self, message, missing=(), superfluous=(), misshapen=()):
        super().__init__(message)
        self.missing, self.superfluous, self.misshapen = missing, superfluous, misshapen


def open_checkpoint(path):
    """Name -> tensor: of a folder of safetensors or pytorch_model.bin files, a .gguf file or a folder with one, or a mapping as it is."""
    if isinstance(path, Mapping):
        return path
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no checkpoint at {path}")
    if other := _other_form(path):
        raise CheckpointError(f"{path} is {other}")
    for kind in (Checkpoint, TorchCheckpoint):
        if path.is_dir() and any(path.glob(f"*{kind.SUFFIX}*")):
            return as_loaded(kind(path), quantization_of(path))
    found = sorted(path.glob("*.gguf")) if path.is_dir() else [path]
    if len(found) != 1 or found[0].suffix != ".gguf":
        raise CheckpointError(f"{path} is no folder of safetensors files and no .gguf file, nor a folder with one")
    return GgufCheckpoint(found[0])


def _other_form(folder):
    """What a folder is that holds a checkpoint in a form of its own, and how to go on; None where it does not."""
    if any(folder.glob("model*")) or any(folder.glob("pytorch_model*")):
        return None
    adapter = folder / "adapter_config.json"
    if adapter.is_file():
        base = json.loads(adapter.read_text()).get("base_model_name_or_path")
        return f"an adapter (LoRA) of {base}: merge it into that (peft: merge_and_unload, then save_pretrained) and give the folder of the merged model"
    if any(folder.glob("consolidated.*.pth")):
        return "a checkpoint in Meta's own form: take the model's repository in Hugging Face's, or convert it with transformers"
    return None


def as_loaded(stored, quantization=None):
    """`stored` as transformers loads it; `quantization`: what the checkpoint says of it."""
    try:
        return Loaded(stored, expected_tensors(), quantizer_of(quantization) if quantization else None)
    except Unreadable as error:
        raise CheckpointError(str(error)) from error


class Checkpoint(Mapping):
    """The tensors of a folder of safetensors files by name. Files are mapped: a tensor is read when it is used."""

    SUFFIX, SINGLE = ".safetensors", "model.safetensors"

    def __init__(self, folder):
        self.files = _files(Path(folder), self.SUFFIX, self.SINGLE)
        self._opened = {}
        for file in self.files:
            try:
                self._opened |= self._open(file)
            except Exception as error:
                raise CheckpointError(f"{file} is damaged or no {self.SUFFIX} file: {error}") from error

    @staticmethod
    def _open(file):
        from safetensors import safe_open

        opened = safe_open(file, framework="pt")
        return dict.fromkeys(opened.keys(), opened)

    def __getitem__(self, name):
        return self._opened[name].get_tensor(name)

    def __contains__(self, name):
        return name in self._opened

    def __iter__(self):
        return iter(self._opened)

    def __len__(self):
        return len(self._opened)

    def shapes(self):
        """Name -> shape, from the files' headers."""
        return {name: tuple(file.get_slice(name).get_shape()) for name, file in self._opened.items()}

    def identity(self):
        """A digest that changes with the files: their names, sizes, times and headers."""
        digest = hashlib.sha256()
        for file in self.files:
            digest.update(_stat(file))
            with file.open("rb") as opened:
                digest.update(opened.read(int.from_bytes(opened.read(8), "little")))
        return digest.hexdigest()


class TorchCheckpoint(Checkpoint):
    """The same of pytorch_model.bin files, of which nothing but tensors is unpickled."""

    SUFFIX, SINGLE = ".bin", "pytorch_model.bin"

    @staticmethod
    def _open(file):
        from zipfile import is_zipfile

        # Files of torch before 1.6 cannot be mapped: they are read whole.
        state = torch.load(file, map_location="cpu", weights_only=True, mmap=is_zipfile(file))
        return {name: tensor for name, tensor in state.items() if isinstance(tensor, torch.Tensor)}

    def __getitem__(self, name):
        return self._opened[name]

    def shapes(self):
        """Name -> shape."""
        return {name: tuple(tensor.shape) for name, tensor in self._opened.items()}

    def identity(self):
        """A digest that changes with the files: their names, sizes and times."""
        return hashlib.sha256(b"".join(map(_stat, self.files))).hexdigest()


class GgufCheckpoint(Mapping):
    """A GGUF file. Transformers dequantises the whole of it into memory (bfloat16) when the first tensor is asked for."""

    def __init__(self, file):
        self.file, self._state = file, None

    def __getitem__(self, name):
        return self._loaded()[name]

    def __iter__(self):
        return iter(self._loaded())

    def __len__(self):
        return len(self._loaded())

    def identity(self):
        """A digest that changes with the file: its name, size and time."""
        return hashlib.sha256(_stat(self.file)).hexdigest()

    def _loaded(self):
        if self._state is None:
            from transformers import AutoModelForCausalLM, GgufConfig

            model, found = AutoModelForCausalLM.from_pretrained(
                self.file.parent,
                gguf_file=self.file.name,
                quantization_config=GgufConfig(gguf_file=self.file.name, dequantize=True),
                dtype=torch.bfloat16,
                output_loading_info=True,
            )
            if found["missing_keys"]:
                raise _unfit(found["missing_keys"], (), {})
            self._state = model.state_dict()
            check_tensors(self._state)
        return self._state


@cache
def expected_tensors():
    """Name -> shape of every tensor of the model; tied ones under each of their names."""
    found = {}
    for entry in _MODEL["tensors"]:
        for layer in _layers(entry):
            found[entry["name"].replace("{layer}", str(layer))] = tuple(entry["shape"])
    return found


def _layers(entry):
    layers = entry.get("layers", [None])
    return range(layers) if isinstance(layers, int) else layers


def stored_name(state, name):
    """The name under which `state` has the tensor `name`: that of a tied one's first use, or whichever there is."""
    first = TIED.get(name, name)
    names = [first, *(other for other, tied_to in TIED.items() if tied_to == first)]
    return next((n for n in names if n in state), None)


def check_tensors(state):
    """CheckpointError that says every tensor which is missing, misshapen or superfluous; nothing is read.

    Superfluous is what belongs to a layer of the model, such as a bias that it does not have. Layers and heads that the model has
    not, such as those that predict further tokens, are left out, and the log says so.
    """
    shapes = state.shapes() if hasattr(state, "shapes") else {n: tuple(t.shape) for n, t in state.items()}
    expected = expected_tensors()
    missing = [name for name in expected if stored_name(shapes, name) is None]
    unknown = [name for name in shapes if name not in expected] + list(getattr(state, "unknown", ()))
    superfluous = _in_layers_of(expected, unknown)
    misshapen = {
        name: f"{name} is {list(shapes[name])}, not {list(shape)}"
        for name, shape in expected.items()
        if shapes.get(name, shape) != shape
    }
    if missing or superfluous or misshapen:
        raise _unfit(missing, unknown if missing else superfluous, misshapen, _prefix(unknown, expected))
    if unknown:
        known = {_place(name) for name in expected}
        places = dict.fromkeys(_place(name) if _place(name) not in known else name for name in unknown)
        _LOG.warning(
            "left out are %d of the checkpoint's tensors, for which the model has no place: %s",
            len(unknown),
            _listed(places),
        )


def _place(name):
    """The layer in which a tensor lies; its name where it lies in none."""
    return re.match(r"(?:[^.]*\.)*?\d+(?=\.)|.*", name)[0]


def _in_layers_of(expected, names):
    """Those of `names` that belong to a module which holds tensors of the model, or lie in one."""
    modules = sorted({name.rpartition(".")[0] for name in expected})
    last = {m for m, following in zip(modules, [*modules[1:], ""]) if not following.startswith(f"{m}.")}
    return [name for name in names if any(name[: dot.start()] in last for dot in re.finditer(r"\.", name))]


def read_tensor(state, name):
    """A tensor of the checkpoint; CheckpointError with its name where it is missing, of another type or shape, or not finite."""
    stored = stored_name(state, name)
    if stored is None:
        raise CheckpointError(f"the checkpoint has no tensor {name!r}", missing=[name])
    try:
        tensor = state[stored].detach()
    except Exception as error:
        raise CheckpointError(f"tensor {stored!r} cannot be made of what is stored: {error}") from error
    if tensor.dtype not in DTYPES:
        raise CheckpointError(f"tensor {stored!r} is {tensor.dtype}: only bfloat16, float16 and float32 can be used")
    if tensor.shape != expected_tensors().get(stored, tensor.shape):
        raise _unfit((), (), {stored: f"{stored} is {list(tensor.shape)}, not {list(expected_tensors()[stored])}"})
    # Both ends are NaN where any element is, and no temporary tensor is needed. On meta there are shapes only.
    if not tensor.is_meta and not torch.isfinite(torch.stack(tensor.aminmax())).all():
        raise CheckpointError(f"tensor {stored!r} is damaged: it has elements that are infinite or not numbers")
    return tensor


def identity(state):
    """A digest that tells one checkpoint from another; of a plain mapping, its content."""
    if hasattr(state, "identity"):
        return state.identity()
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.detach().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def _files(folder, suffix, single):
    """The files of a checkpoint: those that its index names, the `single` one, or all there are."""
    index = folder / f"{single}.index.json"
    if index.exists():
        try:
            names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{index} is damaged or no index: {error!r}") from error
        absent = [name for name in names if not (folder / name).exists()]
        if absent:
            raise FileNotFoundError(f"{folder} lacks files that its index names: {_listed(absent)}")
        return [folder / name for name in names]
    files = [folder / single] if (folder / single).exists() else sorted(folder.glob(f"*{suffix}"))
    if not files:
        raise FileNotFoundError(f"no {suffix} files in {folder}")
    return files


def _stat(file):
    stat = file.stat()
    return f"{file.name} {stat.st_size} {stat.st_mtime_ns}\n".encode()


def _prefix(names, expected):
    """A sentence where all names are the model's behind one prefix: some trainers save what they wrap around it."""
    prefix = os.path.commonprefix(list(names))
    fits = prefix.endswith(".") and all(name.removeprefix(prefix) in expected for name in names)
    return (
        f"every name begins with {prefix!r}, without which it is the model's: save the model that was wrapped"
        if fits
        else ""
    )


def _unfit(missing, superfluous, misshapen, hint=""):
    """`misshapen`: name -> what is wrong with it."""
    lines = [f"the checkpoint is not one of {cfg.MODEL_NAME}"]
    for kind, found in (("missing", missing), ("superfluous", superfluous), ("misshapen", misshapen.values())):
        if found:
            lines.append(f"{len(found)} {kind}: {_listed(found)}")
    lines += [hint] if hint else []
    return CheckpointError("\n  ".join(lines), list(missing), list(superfluous), list(misshapen))


def _listed(names):
    names = list(names)
    more = len(names) - NAMED_IN_MESSAGE
    return ", ".join(names[:NAMED_IN_MESSAGE]) + (f" and {more} more" if more > 0 else "")
