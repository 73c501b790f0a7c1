"""Time a training iteration of K students one after the other, beside each other, and in batched kernels.

    python experiments/measurements/batched_students.py --threads 1
    python experiments/measurements/batched_students.py --device cuda --rows demo

*Batched* means that each call serves all students: their weights are stacked, and `torch.func.vmap` turns a convolution
with K kernels into one with K groups. *In turn* is what the package does: on a CPU with the layers of `student.on_cpu`.
An iteration is the guidance loss (Eq. 1) with embedded features, its gradient, and Adam's step; the teacher's features
are given. That both have the same gradients is checked first. On CUDA each way is captured in CUDA graphs, and *at a
time* is one graph for each student on a stream of its own.

Ways take turns; medians count. With one thread on a CPU, its own seconds are counted.
"""

import os
import statistics
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from experiments.command_line import exit_on_error, make_parser
from experiments.measurements.rounds import ROWS
from experiments.measurements.timing import Clock, seconds
from experiments.output import markdown_table
from fusion_env.captured import WARM_UPS, CudaGraphs
from fusion_env.config import DistillConfig
from fusion_env.errors import FusionEnvError
from fusion_env.losses import guidance_loss
from fusion_env.perception.embedded_features import load_embedded_features
from fusion_env.task import resolve_device
from fusion_env.updates import give_gradients, new_optimizer, take_step
from student import FusionStudent
from student.layout import arranged
from student.on_cpu import quickest

__all__ = ["Students", "main", "measure"]

_SIZES = ("tiny", "bench", "demo", "paper")
"""Rows whose batch and crop are taken; the others differ from these in settings that play no part here."""
TOLERANCE = 0.02
"""Largest relative difference of two gradients of the same loss: normalisations amplify what rounding does."""


class Students:
    """K students with a mini-batch each, and an iteration of all of them in either way.

    Attributes:
        device: Where they are.
        students: The students.
        optimizers: One for each.
        stacked: The weights of all, [K, ...] each, with ``/`` for ``.`` in their names.
        optimizer: That of the stacked weights.
        features: Feature network of Eq. 1.
        ir: Infrared, [K, B, 1, H, W].
        vis: Visible luma, same shape.

    Args:
        config: Batch and crop.
        count: Number of students K.
        device: Where they are.
    """

    def __init__(self, config: DistillConfig, count: int, device: torch.device) -> None:
        torch.manual_seed(0)
        self.device = device
        self.students = [arranged(FusionStudent(), device) for _ in range(count)]
        if config.channels_last:
            for student in self.students:
                student.to(memory_format=torch.channels_last)
        stacked, _ = stack_module_state(self.students)  # type: ignore[arg-type]
        # An `OrderedDict`, because the names of a plain one would be sorted.
        self.stacked = nn.ParameterDict(OrderedDict((name.replace(".", "/"), one) for name, one in stacked.items()))
        self._one = FusionStudent().to("meta")
        self.features = arranged(load_embedded_features(), device)
        shape = (count, config.batch_size, 1, config.crop_size, config.crop_size)
        self.ir, self.vis, target = (torch.rand(shape, device=device) for _ in range(3))
        with torch.no_grad():
            self._wanted = [self.features(one) for one in target]
        self._all_wanted = [torch.cat(taps) for taps in zip(*self._wanted, strict=True)]
        self.optimizers = [new_optimizer(student, config.learning_rate) for student in self.students]
        self.optimizer = new_optimizer(self.stacked, config.learning_rate)

    def gradients_of(self, number: int) -> Sequence[Tensor]:
        """Return the gradient of one student's loss."""
        student = self.students[number]
        fused = quickest(student)(ir=self.ir[number], vis=self.vis[number])
        loss = guidance_loss(self.features(fused), self._wanted[number])
        return torch.autograd.grad(loss, list(student.parameters()))

    def gradients(self) -> Sequence[Tensor]:
        """Return the gradients of all students' losses, stacked."""
        fused = vmap(self._fuse)(
            {name.replace("/", "."): tensor for name, tensor in self.stacked.items()}, self.ir, self.vis
        )
        # A mean over all students is that of each, divided by their number.
        loss = guidance_loss(self.features(fused.flatten(0, 1)), self._all_wanted) * len(self.students)
        return torch.autograd.grad(loss, list(self.stacked.values()))

    def _fuse(self, weights: dict[str, Tensor], ir: Tensor, vis: Tensor) -> Tensor:
        return functional_call(self._one, weights, kwargs={"ir": ir, "vis": vis})

    def train_one(self, number: int) -> None:
        """Train one student on its mini-batch."""
        give_gradients(list(self.students[number].parameters()), self.gradients_of(number))
        take_step(self.optimizers[number], self.device)

    def train_in_turn(self) -> None:
        """Train one student after the other."""
        for number in range(len(self.students)):
            self.train_one(number)

    def train_batched(self) -> None:
        """Train all students with each call."""
        give_gradients(list(self.stacked.values()), self.gradients())
        take_step(self.optimizer, self.device)

    def check(self) -> None:
        """Check that both ways have the same gradients, but for rounding to single precision.

        Raises:
            FusionEnvError: They have not, so that a comparison would mean nothing.
        """
        with _no_tf32():
            together = self.gradients()
            apart = [self.gradients_of(number) for number in range(len(self.students))]
        for number, parts in enumerate(apart):
            alone = torch.cat([part.flatten() for part in parts])
            batched = torch.cat([part[number].flatten() for part in together])
            error = float((alone - batched).norm() / alone.norm())
            if not error <= TOLERANCE:
                raise FusionEnvError(f"the gradient of student {number} of {len(self.students)} is off by {error:.2g}")


@contextmanager
def _no_tf32() -> Iterator[None]:
    """Convolve with all digits on CUDA: in TF32 a gradient is off by several hundredths, more than a slip may be."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def _captured(work: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """Capture some work, on CUDA."""
    graph = CudaGraphs(device, torch.Generator(device))()
    for _ in range(WARM_UPS):
        graph.warm_up(work)
    graph.capture(work)
    return graph.replay


def _on_streams(works: Sequence[Callable[[], None]], device: torch.device) -> Callable[[], None]:
    """Start some captured work on a stream each, and let the caller's stream wait for all."""
    streams = [torch.cuda.Stream(device) for _ in works]

    def start() -> None:
        outside = torch.cuda.current_stream(device)
        for work, stream in zip(works, streams, strict=True):
            stream.wait_stream(outside)
            with torch.cuda.stream(stream):
                work()
        for stream in streams:
            outside.wait_stream(stream)

    return start


def _ways(students: Students, device: torch.device) -> dict[str, Callable[[], None]]:
    if device.type != "cuda":
        return {"in turn": students.train_in_turn, "batched": students.train_batched}
    each = [
        _captured(lambda number=number: students.train_one(number), device)  # type: ignore[misc]
        for number in range(len(students.students))
    ]

    def in_turn() -> None:
        for replay in each:
            replay()

    return {
        "in turn": in_turn,
        "at a time": _on_streams(each, device),
        "batched": _captured(students.train_batched, device),
    }


def measure(config: DistillConfig, count: int, device: torch.device, repeats: int, clock: Clock) -> dict[str, float]:
    """Time an iteration of all students in each way, in seconds."""
    students = Students(config, count, device)
    students.check()
    works = _ways(students, device)
    taken: dict[str, list[float]] = {way: [] for way in works}
    for _ in range(repeats + 1):
        for way, work in works.items():
            taken[way].append(seconds(work, device, clock))
    return {way: statistics.median(times[1:]) for way, times in taken.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = make_parser(__doc__)
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="CPU threads")
    parser.add_argument("--rows", nargs="+", choices=_SIZES, default=["tiny", "bench"], help="batch and crop")
    parser.add_argument("--students", nargs="+", type=int, default=[2, 8], metavar="K", help="numbers of students")
    parser.add_argument("--repeats", type=int, default=5, help="iterations of each way")
    args = parser.parse_args(arguments)
    torch.set_num_threads(args.threads)
    device = resolve_device(args.device)
    clock = time.process_time if device.type == "cpu" and args.threads == 1 else time.perf_counter
    print(f"torch {torch.__version__}, {args.device}, {args.threads} CPU thread(s), medians of {args.repeats}\n")
    lines: list[list[Any]] = []
    for row in args.rows:
        config = ROWS[row].config()
        for count in args.students:
            taken = measure(config, count, device, args.repeats, clock)
            batch = f"{config.batch_size} of {config.crop_size} px"
            lines += [[row, batch, count, way, 1e3 * spent, taken["in turn"] / spent] for way, spent in taken.items()]
    columns = ["row", "batch", "K", "way", "ms", "times as fast as in turn"]
    print(markdown_table(columns, lines, decimals=2, right_from=2))
    return 0


if __name__ == "__main__":
    exit_on_error(main)
