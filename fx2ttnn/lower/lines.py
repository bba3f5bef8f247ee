"""Lines of a row, written as Python would write them: what a tensor is, and which call makes it.

    name: tensor(shape, dtype, layout, axes=..., name=...)                 says what it is
    name[: tensor(...)] = operation(...) [in MEMORY]                       makes it
    one, other = operation(...) [in (MEMORY, MEMORY)]                      makes several
    operation(...)                                                         changes its first argument

Where only the shape is said, `name: shape` will do. A call that makes several has what is said of them in lines before it. Every part is an
expression (expressions.py).
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from fx2ttnn.lower.expressions import ExpressionError, parse

FACTS = ("shape", "dtype", "layout", "axes", "name")


@dataclass(frozen=True)
class Line:
    """A line of a row; all texts are expressions. `facts` go by FACTS, one mapping for each of `names`; `memory` has none, one, or one for each."""

    names: tuple[str, ...]
    facts: tuple[Mapping[str, str], ...] = ()
    function: str = ""  # none where the line only says what a tensor is
    args: tuple[str, ...] = ()
    kwargs: Mapping[str, str] = field(default_factory=dict)
    memory: tuple[str, ...] = ()

    @property
    def texts(self) -> tuple[str, ...]:
        """Every expression of the line."""
        return (
            *(text for said in self.facts for text in said.values()),
            *self.args,
            *self.kwargs.values(),
            *self.memory,
        )

    def memory_of(self, position: int) -> str | None:
        """What `in` says of the tensor at `position` of `names`."""
        return self.memory[position if len(self.memory) > 1 else 0] if self.memory else None


def parse_line(text: str) -> Line:
    """The line that `text` is; raises ExpressionError for anything else."""
    try:
        (statement,) = ast.parse(text.strip()).body
    except SyntaxError as error:
        raise ExpressionError(f"{text!r}: {error.msg}") from None
    except ValueError:
        raise ExpressionError(f"{text!r}: a line is one statement") from None
    match statement:
        case ast.AnnAssign(target=ast.Name(id=name), annotation=annotation, value=None):
            return Line((name,), (_facts(annotation),))
        case ast.AnnAssign(target=ast.Name(id=name), annotation=annotation, value=ast.expr() as value):
            return replace(_made((name,), value, text), facts=(_facts(annotation),))
        case ast.Assign(targets=[ast.Name(id=name)], value=value):
            return _made((name,), value, text)
        case ast.Assign(targets=[ast.Tuple(elts=elements)], value=value):
            names = tuple(element.id for element in elements if isinstance(element, ast.Name))
            if len(names) == len(elements):
                return _made(names, value, text)
        case ast.Expr(value=value):
            return _made((), value, text)
    raise ExpressionError(f"{text!r}: wanted is `name: tensor(...) = operation(...) in MEMORY`, or a part of it")


def _made(names: tuple[str, ...], value: ast.expr, text: str) -> Line:
    memory: tuple[str, ...] = ()
    if isinstance(value, ast.Compare) and isinstance(value.ops[0], ast.In) and isinstance(value.left, ast.Call):
        (places,) = value.comparators
        memory = tuple(map(_text, places.elts)) if isinstance(places, ast.Tuple) else (_text(places),)
        value = value.left
    if not isinstance(value, ast.Call):
        raise ExpressionError(f"{text!r}: {ast.unparse(value)} is no call")
    if len(memory) not in (0, 1, len(names)):
        raise ExpressionError(f"{text!r}: {len(memory)} places for {len(names)} tensors")
    args, kwargs = _arguments(value)
    return Line(names, ({},) * len(names), _text(value.func), args, kwargs, memory)


def _facts(annotation: ast.expr) -> Mapping[str, str]:
    if not (
        isinstance(annotation, ast.Call) and isinstance(annotation.func, ast.Name) and annotation.func.id == "tensor"
    ):
        return {"shape": _text(annotation)}
    args, kwargs = _arguments(annotation)
    if unknown := kwargs.keys() - FACTS:
        raise ExpressionError(f"a tensor has no {', '.join(sorted(unknown))}; it has {', '.join(FACTS)}")
    return {**dict(zip(FACTS, args, strict=False)), **kwargs}


def _arguments(call: ast.Call) -> tuple[tuple[str, ...], dict[str, str]]:
    if any(keyword.arg is None for keyword in call.keywords):
        raise ExpressionError(f"{ast.unparse(call)!r}: ** is not part of the rule language")
    return tuple(map(_text, call.args)), {str(keyword.arg): _text(keyword.value) for keyword in call.keywords}


def _text(node: ast.expr) -> str:
    text = ast.unparse(node)
    parse(text)
    return text


def parse_calls(texts: Sequence[str]) -> Iterator[Line]:
    """The calls of a row, each with what lines before it say of the tensors it makes."""
    said: dict[str, Mapping[str, str]] = {}
    for line in map(parse_line, texts):
        if line.function:
            yield replace(
                line, facts=tuple({**said.pop(n, {}), **f} for n, f in zip(line.names, line.facts, strict=True))
            )
        else:
            said[line.names[0]] = line.facts[0]
    if said:
        raise ExpressionError(f"no call makes {', '.join(said)}")
