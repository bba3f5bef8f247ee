"""What each family of rows gives: a model's decode step with all of them, and with one after the other switched off. Prints markdown.

Usage: python benchmarks/ladder.py [MODEL] [TARGET]

Families are found, not listed: rows that the package took, and without which other rows take the same operations and the layer is slower,
by the ttnn function that they call. The one that gives least beside all that is left is switched off first. The last to go is the
planner's trust in collectives with buffers of their own: left out where it plans the same. Where the package prefetches weights, the
first step down is the package that does not.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace

from fx2ttnn import pipeline
from fx2ttnn.cost.calls import Load
from fx2ttnn.cost.kernels import LINKS
from fx2ttnn.fuse import fuse
from fx2ttnn.lower import lower
from fx2ttnn.lower.rules import Rule, load_rules
from fx2ttnn.lower.sampling import lower_sampling
from fx2ttnn.lower.values import Lowered
from fx2ttnn.names import layer_of
from fx2ttnn.plan import Plan, plan
from fx2ttnn.profile.predicted import SHORT, Priced, predicted

Rules = tuple[Rule, ...]


@dataclass(frozen=True)
class Rung:
    """A decode step by some rows; times in microseconds, those of a layer for the layer that the model has most often."""

    device_ops: int
    collectives: int
    layer_us: float
    step_us: float


def main() -> None:
    """Compile, then lower once for each rung."""
    model, target = [*sys.argv[1:], *("qwen3-32b", "galaxy")[len(sys.argv) - 1 :]]
    compiled = pipeline.compile_model(pipeline.Options(model, target))
    found = []
    if compiled.plan.target.prefetching:
        whole = compiled.plan
        found.append(("weights prefetched, planned for it", measured(whole, lowered_by(whole, load_rules()))))
        compiled = pipeline.compile_model(pipeline.Options(model, target, prefetch=False))
    found += rungs(compiled.plan)
    users = compiled.plan.capture.users
    print(f"{compiled.plan.capture.model_name} on {target}, {users} users with {SHORT} tokens each, predicted:\n")
    print(
        "| | device operations a layer | collectives | µs a layer | less by | tokens/s/user |\n|---|---:|---:|---:|---:|---:|"
    )
    before = None
    for name, rung in reversed(found):
        label = f"+ {name}" if name else "rows that nothing else stands in for"
        less = f"{before.layer_us - rung.layer_us:.1f}" if before else ""
        numbers = f"{rung.device_ops} | {rung.collectives} | {rung.layer_us:.1f} | {less} | {1e6 / rung.step_us:.1f}"
        print(f"| {label} | {numbers} |")
        before = rung


def rungs(best: Plan) -> Iterator[tuple[str, Rung]]:
    """From the package downwards; each with the name of what it has and the next one has not."""
    rules = load_rules()
    whole = lowered_by(best, rules)
    families, rung = found_families(best, whole, rules), measured(best, whole)
    while losses := _losses(best, rules, families, rung):
        least = min(losses, key=lambda name: (losses[name].layer_us, name))
        # A family that could not be taken without this one goes with it.
        rest = without(rules, families.pop(least))
        void = [name for name in losses.keys() & families.keys() if _taken(best, rest).isdisjoint(families[name])]
        yield " + ".join(f"`{name}`" for name in (least, *sorted(void))), rung
        families = {name: families[name] for name in losses.keys() - {least, *void}}
        rules, rung = rest, losses[least]
    # Where no buffer has room, the planner prices collectives out of the box.
    wary = plan(best.capture, replace(best.target, limits=replace(best.target.limits, buffer_bytes=0)), best.precision)
    wary = replace(wary, target=best.target)
    last = measured(wary, lowered_by(wary, rules))
    if last != rung:
        yield "a plan for collectives in place", rung
    yield "", last


def _losses(best: Plan, rules: Rules, families: dict[str, set[str]], rung: Rung) -> dict[str, Rung]:
    """By family, the step without it: only where the layer is slower then."""
    found = {name: measured(best, lowered_by(best, without(rules, rows))) for name, rows in families.items()}
    return {name: one for name, one in found.items() if one.layer_us > rung.layer_us}


def _taken(best: Plan, rules: Rules) -> set[str]:
    return {call.rule for call in lowered_by(best, rules).calls}


def found_families(best: Plan, whole: Lowered, rules: Rules) -> dict[str, set[str]]:
    """Rows, by file and line, that others can stand in for: together those that call the same function."""
    called = {call.rule for call in whole.calls if call.op.name != "reshard"}  # moves are the engine's own
    taken = {rule.where: rule for rule in rules if rule.where in called}
    spare = {where for where in taken if not lowered_by(best, without(rules, {where})).unsupported}
    needed = {call.function for where in taken.keys() - spare for call in taken[where].calls}
    families: dict[str, set[str]] = {}
    for where in sorted(spare):
        own = [call.function for call in taken[where].calls if call.function not in needed]
        name = own[-1] if own else f"{taken[where].op}, {taken[where].name}"
        families.setdefault(name, set()).add(where)
    return families


def without(rules: Rules, rows: set[str]) -> Rules:
    """The rules but for these rows of decode."""
    return tuple(rule for rule in rules if rule.where not in rows)


def lowered_by(of: Plan, rules: Rules) -> Lowered:
    """The decode step as these rules have it."""
    return lower(fuse(of, rules), rules)


def measured(of: Plan, lowered: Lowered) -> Rung:
    """What is predicted of it at a short text, with sampling."""
    load = Load(of.capture.users, SHORT)
    step = predicted(of, lowered, load)
    sampling = lower_sampling(of, lowered, of.graph.specs[of.graph.outputs[0]].shape[-1])
    seconds = step.seconds + (predicted(of, sampling, load).seconds if sampling else 0.0)
    most = max((priced for priced in step.calls if layer_of(priced.call.op.module)), key=lambda priced: priced.count)
    layer = [priced for priced in step.calls if _layer(priced) == _layer(most)]
    ops = [op for priced in layer for op in priced.device_ops]
    crossing = sum(LINKS in op.kernel.parts for op in ops)
    return Rung(len(ops), crossing, 1e6 * sum(priced.seconds for priced in layer), 1e6 * seconds)


def _layer(priced: Priced) -> str | None:
    return layer_of(priced.call.op.module)


if __name__ == "__main__":
    main()
