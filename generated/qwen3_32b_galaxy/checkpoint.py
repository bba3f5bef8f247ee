"""A checkpoint on disk, and whether it is one of this model: checkpoint.json lists every tensor and its shape."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch

from . import model_config as cfg

DTYPES = (torch.bfloat16, torch.float16, torch.float32)
# Values that old versions of transformers stored beside the weights, and that the model computes itself.
IGNORED = ("rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias", ".attention.bias", ".attention.masked_bias")
NAMED_IN_MESSAGE = 8

_MODEL = json.loads((Path(__file__).parent / "checkpoint.json").read_text())
TIED = _MODEL["tied"]  # name -> name of the tensor that it is, too


class CheckpointError(ValueError):
    """A checkpoint is not readable, or is not of this model. Names, in full: `missing`, `superfluous`, `misshapen`."""

    def __init__(self, message, missing=(), superfluous=(), misshapen=()):
        super().__init__(message)
        self.missing, self.superfluous, self.misshapen = missing, superfluous, misshapen


def open_checkpoint(path):
    """Name -> tensor: of a folder of safetensors, a .gguf file or a folder with one, or a mapping as it is."""
    if isinstance(path, Mapping):
        return path
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no checkpoint at {path}")
    if path.is_dir() and any(path.glob("*.safetensors*")):
        return Checkpoint(path)
    found = sorted(path.glob("*.gguf")) if path.is_dir() else [path]
    if len(found) != 1 or found[0].suffix != ".gguf":
        raise CheckpointError(f"{path} is no folder of safetensors files and no .gguf file, nor a folder with one")
    return GgufCheckpoint(found[0])


class Checkpoint(Mapping):
    """The tensors of a folder of safetensors files by name. Files are mapped: a tensor is read when it is used."""

    def __init__(self, folder):
        from safetensors import SafetensorError, safe_open

        self.files = _safetensors(Path(folder))
        self._opened = {}
        for file in self.files:
            try:
                opened = safe_open(file, framework="pt")
            except SafetensorError as error:
                raise CheckpointError(f"{file} is damaged or no safetensors file: {error}") from error
            self._opened |= dict.fromkeys(opened.keys(), opened)

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
    """CheckpointError that says every tensor which is missing, misshapen or superfluous; nothing is read."""
    shapes = state.shapes() if hasattr(state, "shapes") else {n: tuple(t.shape) for n, t in state.items()}
    expected = expected_tensors()
    missing = [name for name in expected if stored_name(shapes, name) is None]
    superfluous = [name for name in shapes if name not in expected and not name.endswith(IGNORED)]
    misshapen = {
        name: f"{name} is {list(shapes[name])}, not {list(shape)}"
        for name, shape in expected.items()
        if shapes.get(name, shape) != shape
    }
    if missing or superfluous or misshapen:
        raise _unfit(missing, superfluous, misshapen)


def read_tensor(state, name):
    """A tensor of the checkpoint; CheckpointError with its name where it is missing, of another type or not finite."""
    stored = stored_name(state, name)
    if stored is None:
        raise CheckpointError(f"the checkpoint has no tensor {name!r}", missing=[name])
    tensor = state[stored].detach()
    if tensor.dtype not in DTYPES:
        raise CheckpointError(f"tensor {stored!r} is {tensor.dtype}: only bfloat16, float16 and float32 can be used")
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


def _safetensors(folder):
    """The files of a checkpoint: those that its index names, `model.safetensors`, or all there are."""
    index, single = folder / "model.safetensors.index.json", folder / "model.safetensors"
    if index.exists():
        try:
            names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{index} is damaged or no index: {error!r}") from error
        absent = [name for name in names if not (folder / name).exists()]
        if absent:
            raise FileNotFoundError(f"{folder} lacks files that its index names: {_listed(absent)}")
        return [folder / name for name in names]
    files = [single] if single.exists() else sorted(folder.glob("*.safetensors"))
    if not files:
        raise FileNotFoundError(f"no safetensors files in {folder}")
    return files


def _stat(file):
    stat = file.stat()
    return f"{file.name} {stat.st_size} {stat.st_mtime_ns}\n".encode()


def _unfit(missing, superfluous, misshapen):
    """`misshapen`: name -> what is wrong with it."""
    lines = [f"the checkpoint is not one of {cfg.MODEL_NAME}"]
    for kind, found in (("missing", missing), ("superfluous", superfluous), ("misshapen", misshapen.values())):
        if found:
            lines.append(f"{len(found)} {kind}: {_listed(found)}")
    return CheckpointError("\n  ".join(lines), list(missing), list(superfluous), list(misshapen))


def _listed(names):
    names = list(names)
    more = len(names) - NAMED_IN_MESSAGE
    return ", ".join(names[:NAMED_IN_MESSAGE]) + (f" and {more} more" if more > 0 else "")
