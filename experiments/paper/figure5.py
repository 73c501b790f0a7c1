"""Figure 5: what the students of the ablation make of the same pairs."""

from pathlib import Path

from experiments.paper.ablation_variants import RUNS, VARIANTS
from experiments.paper.comparison import make_comparison
from experiments.paper.fused import fuse_pairs, written
from experiments.paper.methods import student_method
from experiments.paper.order import Order
from experiments.paper.pair_sets import ordered_sets
from experiments.running.directory import RunDirectory
from fusion_env.errors import MissingRequirementsError

__all__ = ["make", "variants"]

_NAME = "figure5"


def make(order: Order) -> Path:
    """Show the middle pair of every set, by the first student of each variant of Table 4.

    Raises:
        MissingRequirementsError: Table 4 was not made in the same folder.
    """
    found = variants(order.folder("table4"))
    methods = [student_method(str(run.student), order.device, name) for name, run in found.items()]
    text = "One student of each variant of Table 4, that of its first run: one seed, not the variant as such. Runs:\n\n"
    text += "\n".join(f"- {name}: `{run.path.relative_to(order.out)}`" for name, run in found.items())
    absent = [name for name in VARIANTS if name not in found]
    if absent:
        text += f"\n\nNot shown, as Table 4 has no finished run of them yet: {', '.join(absent)}."
    shown = [(one, one.middle) for one in ordered_sets(order)]
    fuse_pairs(shown, methods, order.folder(_NAME))
    drawn = written(methods, order.folder(_NAME))
    return make_comparison(order, _NAME, "Figure 5: students of the ablation", shown, drawn, text)


def variants(folder: Path) -> dict[str, RunDirectory]:
    """Find the first finished run of each variant, in ``folder/runs/VARIANT/...``, in the order of the table.

    Raises:
        MissingRequirementsError: There is none.
    """
    found: dict[str, RunDirectory] = {}
    for name in VARIANTS:
        runs = (RunDirectory(config.parent) for config in sorted((folder / RUNS / name).glob("**/config.json")))
        first = next((run for run in runs if run.is_finished), None)
        if first:
            found[name] = first
    if not found:
        raise MissingRequirementsError(
            f"figure 5 shows the students of table 4, and {folder} has no finished run: first "
            "`python experiments/reproduce.py --table 4` with the same --out"
        )
    return found
