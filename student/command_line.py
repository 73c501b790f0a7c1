"""``fusion-student``: fuse images and videos, look at weights, export them."""

import argparse
import csv
import hashlib
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path

from student.console import accept_any_console, printable
from student.export import FORMATS, OPSET
from student.fuse import command as fuse_command
from student.network import MIN_SIZE
from student.origin import EXPOSURES, open_student, weights_file
from student.weights import PRETRAINED, WeightsError, build_student, load_metadata, load_state

__all__ = ["command", "main"]

_logger = logging.getLogger(__name__)

_EPILOG = """examples:
fusion-student fuse ir.png vis.jpg -o fused.png
fusion-student fuse IR_DIR VIS_DIR -o OUT_DIR --device cuda --half
fusion-student fuse both.mp4 --side-by-side ir-left -o fused.mp4
fusion-student info runs/NAME/student.safetensors
fusion-student export -o student.onnx
fusion-student compare IR_DIR VIS_DIR --out DIR --students NAME=WEIGHTS

compare has a page of its own: fusion-student compare --help
"""

_OTHERS = "fusion_student.commands"
"""Entry points of packages that build on this one: each is a command that reads its arguments itself."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: Without the program's name; None takes the shell's.

    Returns:
        0 if everything was done, 1 if some images failed (each is named), 2 if nothing could be done.
    """
    options = _parser().parse_args(arguments)
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.INFO)
    logging.getLogger("huggingface_hub").propagate = False  # it shows its messages itself
    try:
        return options.run(options)
    except (WeightsError, ValueError, OSError) as error:
        _logger.error("%s", printable(str(error)))
        return 2


def command() -> None:
    """Run the command as a program."""
    accept_any_console()
    for other in entry_points(group=_OTHERS, name=sys.argv[1] if len(sys.argv) > 1 else ""):
        sys.argv[:2] = [f"{sys.argv[0]} {other.name}"]
        other.load()()
        return
    try:
        status = main()
    except KeyboardInterrupt:
        _logger.error("stopped; files that are there are whole")
        status = 130  # as shells have it
    sys.exit(status)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fusion-student",
        description="Fuse registered infrared and visible images with a small network.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    fuse = commands.add_parser("fuse", help="fuse two images, folders or videos")
    fuse_command.add_options(fuse)
    fuse.set_defaults(run=fuse_command.run)
    info = commands.add_parser("info", help="say what a weights file holds")
    origin = "file, folder or OWNER/NAME on the Hugging Face hub (default: the embedded student)"
    info.add_argument("weights", nargs="?", metavar="WEIGHTS", help=origin)
    info.set_defaults(run=_info)
    export = commands.add_parser("export", help="write ONNX, a torch.export program, or a folder for the hub")
    export.add_argument("weights", nargs="?", metavar="WEIGHTS", help=origin)
    text = f"file that ends in {' or '.join(FORMATS)}, or a folder for the hub (weights, config, card)"
    export.add_argument("-o", "--out", type=Path, required=True, metavar="OUT", help=text)
    export.add_argument("--half", action="store_true", help="convolve in float16")
    text = "brightness and contrast: those of the sources, or what the network makes (default: as the weights say)"
    export.add_argument("--exposure", choices=EXPOSURES, help=text)
    card = export.add_argument_group("the hub's card")
    card.add_argument("--repo", metavar="OWNER/NAME", help="repository that the card's commands name")
    text = "summary.csv of fusion-env-evaluate, whose means the card shows"
    card.add_argument("--metrics", type=Path, metavar="FILE", help=text)
    card.add_argument("--method", default="student", help="the student's name in that file (default: student)")
    card.add_argument("--dataset", default="", help="what the metrics were measured on")
    export.set_defaults(run=_export)
    return parser


def _info(options: argparse.Namespace) -> int:
    with weights_file(options.weights) as (path, name):
        student = build_student(load_state(path), name)
        content = path.read_bytes()
        metadata = load_metadata(path) if content[8:9] == b"{" else {}
    parameters = sum(parameter.numel() for parameter in student.parameters())
    lines = {
        "weights": name,
        "network": f"{type(student).__name__}, width {student.width}",
        "parameters": f"{parameters:,}",
        "file": f"{len(content):,} bytes, {8 * len(content) / parameters:.0f} bits a parameter",
        "sha256": hashlib.sha256(content).hexdigest(),
        "smallest image": f"{MIN_SIZE} x {MIN_SIZE} pixels",
        **metadata,
    }
    width = max(map(len, lines))
    sys.stdout.write("".join(f"{printable(key):<{width}}  {printable(value)}\n" for key, value in lines.items()))
    return 0


def _export(options: argparse.Namespace) -> int:
    student, name = open_student(options.weights, options.exposure)
    write = FORMATS.get(options.out.suffix.lower())
    for_card = [f"--{name}" for name in ("repo", "metrics", "dataset") if getattr(options, name)]
    if write is not None and for_card:
        raise ValueError(f"{', '.join(for_card)}: only a folder for the hub has a card. Got {options.out}.")
    if write is not None:
        with _named(options.out):
            write(student, options.out, half=options.half)
        opset = f" (opset {OPSET})" if options.out.suffix.lower() == ".onnx" else ""
        _logger.info("%s written to %s%s", name, options.out, opset)
        return 0
    if options.out.suffix:
        raise ValueError(f"OUT must end in {' or '.join(FORMATS)}, or be a folder. Got {options.out}.")
    if options.half:
        raise ValueError(f"--half is for files that end in {' or '.join(FORMATS)}. Got {options.out}.")
    from student.hub import HubStudent

    repo = options.repo or "OWNER/NAME"
    metrics = _means(options.metrics, options.method) if options.metrics else None
    if metrics and not options.dataset:
        raise ValueError("--metrics needs --dataset: what they were measured on.")
    _refuse_other_folder(options.out)
    card = {"repo": repo, "metrics": metrics, "dataset": options.dataset}
    with _named(options.out):
        HubStudent.of(student).save_pretrained(options.out, model_card_kwargs=card)
    _logger.info("%s written to %s; `hf upload %s %s` puts it on the hub", name, options.out, repo, options.out)
    return 0


def _refuse_other_folder(out: Path) -> None:
    """Refuse a folder whose files would be replaced, such as a run's, unless it is one of a student already."""
    others = [name for name in ("config.json", "README.md") if (out / name).exists()]
    if others and not (out / PRETRAINED).exists():
        raise ValueError(
            f"{out} holds {' and '.join(others)} of something else; choose another folder for the student."
        )


@contextmanager
def _named(out: Path) -> Iterator[None]:
    """Let errors of writing name what was to be written."""
    try:
        yield
    except OSError as error:
        raise WeightsError(f"{out}: cannot be written, {error.strerror or error}") from error


def _means(path: Path, method: str) -> dict[str, float]:
    """Read the means of one method from what ``fusion-env-evaluate`` wrote."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = [*csv.DictReader(file)]
    columns = {"method", "metric", "mean"}
    if not rows or not columns <= rows[0].keys():
        raise ValueError(
            f"{path} is no summary.csv of fusion-env-evaluate: it needs the columns {', '.join(sorted(columns))}."
        )
    try:
        found = {row["metric"]: float(row["mean"]) for row in rows if row["method"] == method}
    except ValueError as error:
        raise ValueError(f"{path} holds a mean that is no number ({error}).") from error
    if not found:
        there = ", ".join(sorted({row["method"] for row in rows}))
        raise ValueError(f"{path} has no method {method!r}: name one of its own with --method ({there}).")
    return found


if __name__ == "__main__":
    command()
