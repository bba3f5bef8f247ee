"""A checkpoint as transformers loads it: tensors renamed, put together of parts and dequantised, each when it is read.

The rules are transformers' own: its conversion mapping for names and parts, its quantizers for what is quantised.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter, WeightRenaming, dot_natural_key, rename_source_key
from transformers.initialization import no_init_weights


class Loaded(Mapping):
    """The model's tensors by name, made of those of `stored`. `unknown`: stored ones that belong to none of them.

    `expected`: name -> shape of the model's tensors. `quantizer`: that of transformers for what is stored, where it is quantised.
    """

    def __init__(self, stored, expected, quantizer=None):
        self._stored, self._expected, self._quantizer = stored, expected, quantizer
        self._model = _without_weights()
        steps = get_model_conversion_mapping(self._model, hf_quantizer=quantizer)
        renamings = [step for step in steps if isinstance(step, WeightRenaming)]
        converters = [step for step in steps if isinstance(step, WeightConverter)]
        converter_of = {pattern: converter for converter in converters for pattern in converter.source_patterns}
        prefix = self._model.base_model_prefix
        self._plain = {}  # name -> stored name
        self._made = {}  # name -> converter, and pattern -> stored names
        self.unknown = []
        for name in sorted(stored, key=dot_natural_key):
            alone = name
            target, pattern = rename_source_key(alone, renamings, converters, prefix, expected)
            if target not in expected and alone in expected:  # it has its new name already
                target, pattern = rename_source_key(alone, [], [], prefix, expected)
            if target not in expected:
                self.unknown.append(name)
            elif pattern is None:
                self._plain.setdefault(target, name)
            else:
                _, parts = self._made.setdefault(target, (converter_of[pattern], {}))
                parts.setdefault(pattern, []).append(name)
        self._first = {}  # name -> that under which what makes it stands in `_made`: some make several
        for first, (converter, _) in self._made.items():
            for pattern in converter.target_patterns:
                self._first[first.replace(converter.target_patterns[0], pattern)] = first

    def __getitem__(self, name):
        if name in self._plain:
            return self._stored[self._plain[name]]
        return self._convert(self._first[name], self._stored.__getitem__)[name]

    def __contains__(self, name):
        return name in self._plain or name in self._first

    def __iter__(self):
        yield from self._plain
        yield from self._first

    def __len__(self):
        return len(self._plain) + len(self._first)

    def shapes(self):
        """Name -> shape; of what is dequantised, that of the model, and it is compared when the tensor is read."""
        known = self._stored.shapes()
        found = {name: known[stored] for name, stored in self._plain.items()}
        if self._quantizer is not None:
            return found | {name: self._expected.get(name) for name in self._first}
        for first in self._made:
            try:
                made = self._convert(first, lambda name: torch.empty(known[name], device="meta"))
            except Exception:  # it lacks a part, and so counts as missing
                continue
            found |= {name: tuple(tensor.shape) for name, tensor in made.items()}
        return found

    def identity(self):
        """A digest that changes with the files."""
        return self._stored.identity()

    def _convert(self, first, read):
        """What the converter of `first` makes of its parts, by name."""
        converter, parts = self._made[first]
        for pattern, names in parts.items():
            for name in names:
                converter.add_tensor(first, name, pattern, lambda name=name: read(name))
        made = converter.convert(first, model=self._model, config=self._model.config)
        return {name: tensor[0] if isinstance(tensor, list) else tensor for name, tensor in made.items()}


def _without_weights():
    """The model on meta: the rules ask it for its parts and their types."""
    fields = json.loads((Path(__file__).parent / "config.json").read_text())
    config = AutoConfig.for_model(**fields)
    with torch.device("meta"), no_init_weights():
        return AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
