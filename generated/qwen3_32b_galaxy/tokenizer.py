"""Text to token ids and back, with the tokenizer of a checkpoint."""

import json
from pathlib import Path

from transformers import AutoTokenizer


class NoTokenizer(ValueError):
    """A checkpoint has no tokenizer that transformers can read."""


def load_tokenizer(path):
    """The tokenizer beside the weights at `path`: a folder, a .gguf file or a folder with one."""
    path = Path(path)
    folder = path if path.is_dir() else path.parent
    gguf = [path] if path.is_file() else sorted(folder.glob("*.gguf"))
    own = any(folder.glob("tokenizer*")) or any(folder.glob("vocab*"))
    try:
        if gguf and not own:
            return AutoTokenizer.from_pretrained(folder, gguf_file=gguf[0].name)
        return AutoTokenizer.from_pretrained(folder)
    except Exception as error:
        raise NoTokenizer(f"no tokenizer in {folder}: {' '.join(str(error).split())}") from error


def encode(tokenizer, prompt, chat=True):
    """Token ids of a prompt; with `chat`, as a user's turn where the tokenizer has a chat template."""
    if not chat or not getattr(tokenizer, "chat_template", None):
        return tokenizer(prompt)["input_ids"]
    turn = [{"role": "user", "content": prompt}]
    return tokenizer.apply_chat_template(turn, add_generation_prompt=True, tokenize=True, return_dict=True)["input_ids"]


def end_tokens(path, tokenizer=None):
    """Ids of the tokens that end a text: of generation_config.json beside the weights, else of the model's config; and the tokenizer's."""
    found = set()
    for file in (Path(path or ".") / "generation_config.json", Path(__file__).parent / "config.json"):
        ids = json.loads(file.read_text()).get("eos_token_id") if file.is_file() else None
        if ids is not None:
            found |= set(ids if isinstance(ids, list) else [ids])
            break
    if tokenizer is not None and tokenizer.eos_token_id is not None:
        found.add(tokenizer.eos_token_id)
    return frozenset(found)
