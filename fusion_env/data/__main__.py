"""Check a copy of a published data set.

Usage: ``python -m fusion_env.data verify NAME ROOT [--partial] [--all] [--json]``
"""

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from tqdm import tqdm

from fusion_env.data.layouts import data_sets
from fusion_env.data.verify import KINDS, Fault, Verdict, verify
from fusion_env.errors import FusionEnvError
from student.console import accept_any_console, counted, printable

__all__ = ["main"]

_SHOWN = 10


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: Without the program's name; None takes the shell's.

    Returns:
        0 if nothing is wrong, 1 if something is, 2 if the data set cannot be looked for; stderr says why.
    """
    accept_any_console()
    args = _parser().parse_args(arguments)
    try:
        verdict = verify(args.name, args.root, partial=args.partial, progress=_progress_bar)
    except FusionEnvError as error:
        sys.stderr.write(f"error: {printable(str(error))}\n")
        return 2
    if args.json:
        sys.stdout.write(json.dumps(_as_json(verdict), indent=2) + "\n")
    else:
        shown = len(verdict.faults) if args.all else _SHOWN
        sys.stdout.writelines(f"{printable(line)}\n" for line in _lines(verdict, shown))
    return 1 if verdict.faults else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m fusion_env.data", description="Published data sets on disk.")
    commands = parser.add_subparsers(dest="command", required=True)
    text = "read every file and say what is missing, extra, damaged or of another size, and which labels are wrong"
    command = commands.add_parser("verify", help=text, description=f"{text[0].upper()}{text[1:]}.")
    command.add_argument("name", metavar="NAME", help=f"one of {', '.join(data_sets.names())}")
    command.add_argument("root", metavar="ROOT", help="folder of the data set, as its makers lay it out or ir/ and vi/")
    command.add_argument("--partial", action="store_true", help="only some pairs are there: do not report the others")
    command.add_argument("--all", action="store_true", help=f"list every fault (default: {_SHOWN} of each kind)")
    command.add_argument("--json", action="store_true", help="print one JSON object with every fault")
    return parser


def _progress_bar(items: Iterable[Any], title: str) -> Iterable[Any]:
    return tqdm(items, desc=title, leave=False, disable=None)


def _lines(verdict: Verdict, shown: int) -> list[str]:
    data_set = verdict.data_set
    published = {part.name: len(data_set.pair_files) or part.pairs for part in data_set.parts}
    lines = [f"{data_set.name}: {data_set.title}", f"in {verdict.root}"]
    for part, count in verdict.pairs.items():
        known = published.get(part)
        told = f"{count:,} of {known:,} pairs" if known else f"{count:,} pairs; how many there should be is not known"
        lines.append(f"  {part or 'plain ir/ and vi/'}: {told}")
    if data_set.labels:
        lines.append(f"  labels ({data_set.labels.kind}): {verdict.labels:,} files")
    for kind, meaning in KINDS.items():
        faults = [fault for fault in verdict.faults if fault.kind == kind]
        if faults:
            lines.append(f"{kind} ({len(faults):,}): {meaning}")
            lines += [f"  {_place(fault, verdict)}: {fault.told}" for fault in faults[:shown]]
        if len(faults) > shown:
            lines.append(f"  and {len(faults) - shown:,} more (--all lists them)")
    kinds = counted(len({fault.kind for fault in verdict.faults}), "kind")
    total = f"{counted(len(verdict.faults), 'fault')} of {kinds}" if verdict.faults else "nothing is wrong"
    return [*lines, total]


def _place(fault: Fault, verdict: Verdict) -> str:
    return str(fault.path.relative_to(verdict.root)) if fault.path != verdict.root else str(verdict.root)


def _as_json(verdict: Verdict) -> dict[str, Any]:
    faults = [{"kind": fault.kind, "path": str(fault.path), "told": fault.told} for fault in verdict.faults]
    return {"data_set": verdict.data_set.name, "root": str(verdict.root), "pairs": verdict.pairs, "faults": faults}


if __name__ == "__main__":
    sys.exit(main())
