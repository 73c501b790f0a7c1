"""Train the package's own teacher, of the LDFusion architecture, on procedural scenes and textures.

    python experiments/weights/train_teacher.py --start fusion_env/assets/teacher.safetensors --out runs/teacher

The network learns to do in one pass what multi-scale fusion does with Laplacian pyramids (`fuse_laplacian`): at every
scale the stronger detail, over a base that keeps hot targets and lit areas. It is also held to the visual information
fidelity to both sources. Its pairs are seen by random cameras, because those of real pictures differ more than scenes
do. An interrupted training continues from its checkpoint beside the output.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.command_line import exit_on_error, make_parser
from experiments.output import markdown_table, write_text
from experiments.weights.against_averaging import check_sources, compare_with_averaging, comparison_table
from experiments.weights.training import Checkpoint, as_options, fit, one_cycle, seeded
from experiments.weights.training_pairs import Pictures, draw_batch, load_scenes, load_textures
from fusion_env import teachers
from fusion_env.filters import gaussian_window, halve, local_moments, stack_rows_first
from fusion_env.metrics import ssim_index
from fusion_env.teachers.base import Teacher
from fusion_env.teachers.laplacian import LaplacianTeacher
from fusion_env.teachers.ldfusion import EmbeddedLDFusion
from student.weights import load_into, load_state, save_state

GRADIENT_WEIGHT, SIMILARITY_WEIGHT, OVERSHOOT_WEIGHT = 2.0, 1.0, 5.0
MARGIN = 3 / 255
"""What the target keeps away from black and white: noise on a black area is not to be cut off at 0."""
CHECKPOINT_EVERY = 200
NOISE_VARIANCE = 2.0
EDGE_FLOOR = 1e-6
"""Keeps the derivatives of strength and orientation finite in flat areas."""
SMALL_PIXELS = 1 << 16
LARGE_PIXELS = 100_000, 640 * 480
SCENES = (200, 320, 416), (40, 480, 640)
TEXTURES = (400, 320, 416), (60, 480, 640)
"""Number, height and width of the pictures that are cut up."""


@dataclass(frozen=True)
class Settings:
    """How the teacher is trained.

    Attributes:
        iterations: Steps of the optimiser.
        learning_rate: Its highest.
        small_until: Share of the iterations on small pictures; the network normalises over the whole input and must
            know large ones.
        fidelity_weight: Weight of the visual information fidelity to the sources.
        edge_weight: Weight of the edge preservation from the sources.
        dtype: In which the network computes; bfloat16 halves the time where the processor multiplies in it.
        seed: Of the pictures and of all draws.
        threads: Of the processor.
    """

    iterations: int = 2600
    learning_rate: float = 4e-4
    small_until: float = 0.75
    fidelity_weight: float = 0.5
    edge_weight: float = 1.0
    dtype: str = "bfloat16"
    seed: int = 2
    threads: int = 1


def objective(fused: Tensor, target: Tensor) -> Tensor:
    """Compare a fused image with its target; lower is better.

    Args:
        fused: [B, 1, H, W], may leave 0..1.
        target: Same shape, 0..1.

    Returns:
        A scalar: mean absolute difference of the images and of their gradients, 1 minus mean SSIM, and how far the
        fused image leaves its range.
    """
    intensity = F.l1_loss(fused, target)
    gradient = F.l1_loss(_gradient(fused), _gradient(target))
    similarity = 1 - ssim_index(fused, target).mean()
    overshoot = ((fused - 0.5).abs() - (0.5 - MARGIN / 2)).clamp_min(0).mean()
    return intensity + GRADIENT_WEIGHT * gradient + SIMILARITY_WEIGHT * similarity + OVERSHOOT_WEIGHT * overshoot


def visual_information(fused: Tensor, *, ir: Tensor, vis: Tensor) -> Tensor:
    """Compute the pixel-domain VIF to both sources, differentiably; see `fusion_env.metrics.vif`.

    Args:
        fused: [B, 1, H, W], H and W at least 41.
        ir: Infrared, same shape, 0..1.
        vis: Visible luma, same shape, 0..1.

    Returns:
        The sum for both sources, a mean over the batch.
    """
    images = stack_rows_first(fused, vis, ir) * 255
    kept = available = torch.zeros(())
    for scale, size in enumerate((17, 9, 5, 3)):
        window = gaussian_window(size, size / 5)
        if scale > 0:
            images = halve(images, window)
        _, _, variance, source_variances, covariances = local_moments(images, window)
        explained = covariances.clamp_min(0).square() / source_variances.clamp_min(0.1)
        explained = torch.minimum(explained, variance.clamp_min(0))
        noise = (variance - explained).clamp_min(0) + NOISE_VARIANCE
        kept = kept + (explained / noise).log1p().sum(dim=(0, 3))
        available = available + (source_variances.clamp_min(0) / NOISE_VARIANCE).log1p().sum(dim=(0, 3))
    return (kept / available.clamp_min(1.0)).sum(0).mean()


def edge_preservation(fused: Tensor, *, ir: Tensor, vis: Tensor) -> Tensor:
    """Compute the edge preservation from both sources, differentiably; see `fusion_env.metrics.qabf`.

    Args:
        fused: [B, 1, H, W].
        ir: Infrared, same shape, 0..1.
        vis: Visible luma, same shape, 0..1.

    Returns:
        A mean over the batch.
    """
    fused_slope, fused_strength = _sobel(fused)
    kept = available = torch.zeros(())
    for source in (ir, vis):
        slope, strength = _sobel(source)
        ratio = torch.minimum(strength, fused_strength) / torch.maximum(strength, fused_strength)
        along = (slope * fused_slope).sum(1, keepdim=True)
        across = slope[:, :1] * fused_slope[:, 1:] - slope[:, 1:] * fused_slope[:, :1]
        agreement = 1 - torch.atan2(across.abs() + EDGE_FLOOR, along.abs() + EDGE_FLOOR) / (torch.pi / 2)
        preserved = 0.9994 * 0.9879 * torch.sigmoid(15 * (ratio - 0.5)) * torch.sigmoid(22 * (agreement - 0.8))
        kept = kept + (preserved * strength).sum(dim=(1, 2, 3))
        available = available + strength.sum(dim=(1, 2, 3))
    return (kept / available).mean()


def _sobel(image: Tensor) -> tuple[Tensor, Tensor]:
    """Sobel responses across and down, [B, 2, H - 2, W - 2], and their strength, [B, 1, H - 2, W - 2]."""
    kernel = image.new_tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
    slope = F.conv2d(image, torch.stack([kernel, kernel.T])[:, None])
    return slope, (slope.square().sum(1, keepdim=True) + EDGE_FLOOR).sqrt()


def _gradient(image: Tensor) -> Tensor:
    """Forward differences in both directions, [B, 2, H - 1, W - 1]."""
    across = image[..., :-1, 1:] - image[..., :-1, :-1]
    down = image[..., 1:, :-1] - image[..., :-1, :-1]
    return torch.cat([across, down], dim=1)


def draw_shape(small: bool, rng: np.random.Generator) -> tuple[int, tuple[int, int]]:
    """Draw the number of pairs of an iteration, and their height and width."""
    if small:
        batch = int(rng.choice((1, 2, 4)))
        pixels = SMALL_PIXELS / batch
    else:
        batch, pixels = 1, rng.uniform(*LARGE_PIXELS)
    aspect = rng.uniform(0.75, 1.7)
    return batch, (min(int((pixels / aspect) ** 0.5), 480), min(int((pixels * aspect) ** 0.5), 640))


def train(settings: Settings, start: Path | None, checkpoint: Path) -> EmbeddedLDFusion:
    """Train the network from the weights in `start` or from a seed, continuing from `checkpoint` where it exists."""
    torch.set_num_threads(settings.threads)
    cv2.setNumThreads(settings.threads)
    network = seeded(EmbeddedLDFusion, settings.seed)
    if start is not None:
        load_into(network, load_state(start), str(start))
    network = network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), lr=settings.learning_rate)
    schedule = one_cycle(optimizer, settings.iterations, warm_up=0.05)
    made_with = asdict(settings) | {"start": network.fingerprint()}
    kept = Checkpoint(checkpoint, made_with, network, optimizer, schedule, CHECKPOINT_EVERY)
    done = kept.resume()
    scenes, textures = pictures(settings.seed)
    dtype = getattr(torch, settings.dtype)

    def loss_at(iteration: int) -> Tensor:
        rng = np.random.default_rng([settings.seed, iteration])
        batch, size = draw_shape(iteration < settings.small_until * settings.iterations, rng)
        ir, vis = draw_batch(scenes, textures, size, batch, rng)
        with torch.autocast("cpu", dtype, enabled=dtype is not torch.float32):
            fused = network.forward_signed(ir=ir, vis=vis)
        fused = fused.float()[..., : size[0], : size[1]]
        target = LaplacianTeacher().fuse_luma(ir=ir, vis=vis).clamp(MARGIN, 1 - MARGIN)
        fidelity, edges = (measure(fused, ir=ir, vis=vis) for measure in (visual_information, edge_preservation))
        return objective(fused, target) - settings.fidelity_weight * fidelity - settings.edge_weight * edges

    fit(network, optimizer, schedule, loss_at, "teacher", start=done, after_step=kept.keep)
    return network.eval()


def pictures(seed: int) -> tuple[Pictures, Pictures]:
    """Return the scenes and the textures that are cut up."""
    scenes = [pair for size in SCENES for pair in load_scenes(*size, seed)]
    return scenes, [pair for size in TEXTURES for pair in load_textures(*size, seed)]


def stored(path: Path) -> EmbeddedLDFusion:
    """Load the teacher from a file."""
    network = EmbeddedLDFusion()
    load_into(network, load_state(path), str(path))
    return network.eval()


def evaluate(network: EmbeddedLDFusion, folders: Sequence[Path], sage: Path | None) -> str:
    """Compare the teacher with other methods on unseen scenes and on folders of real pairs.

    Args:
        network: The teacher.
        folders: Each with a list ``val.txt``, or measured whole: no real pair is trained on.
        sage: Official weights of SAGE, None to leave it out.
    """
    methods: dict[str, Teacher] = {"laplacian": LaplacianTeacher(), "teacher": network}
    if sage is not None:
        methods["SAGE"] = teachers.load("sage", sage)
    sections = [
        f"{title}:\n\n{comparison_table(compare_with_averaging(source, indices, methods))}"
        for title, (source, indices) in check_sources(folders).items()
    ]
    return "\n\n".join(sections)


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, store and evaluate."""
    parser = make_parser(__doc__)
    text = "folder for teacher.safetensors and its card"
    parser.add_argument("--out", type=Path, default=Path("runs/teacher"), help=text)
    parser.add_argument("--data", type=Path, nargs="+", default=[], help="folders of real pairs to evaluate on as well")
    parser.add_argument("--sage", type=Path, help="official weights of SAGE, to evaluate beside the teacher")
    parser.add_argument("--evaluate", action="store_true", help="only evaluate the stored file")
    parser.add_argument("--start", type=Path, help="weights to start from instead of random ones")
    for item in fields(Settings):
        parser.add_argument(f"--{item.name.replace('_', '-')}", type=item.type, default=item.default)
    args = parser.parse_args(arguments)
    settings = Settings(**{item.name: getattr(args, item.name) for item in fields(Settings)})
    path = args.out / "teacher.safetensors"
    if not args.evaluate:
        args.out.mkdir(parents=True, exist_ok=True)
        checkpoint = args.out / "teacher.checkpoint.pt"
        save_state(train(settings, args.start, checkpoint).state_dict(), path, half=True)
        checkpoint.unlink(missing_ok=True)
    table = evaluate(stored(path), args.data, args.sage)
    print(table)
    if not args.evaluate:
        write_text(args.out / "teacher.md", card(path, args.start, settings, table))
    return 0


def card(path: Path, start: Path | None, settings: Settings, table: str) -> str:
    """Write the card that lies beside the weights."""
    beginning = f"`{start.name}`, fingerprint `{stored(start).fingerprint()}`" if start else "random weights"
    given = f" --start {start.name}" if start else ""
    sizes = [", ".join(f"{count} of {height}x{width}" for count, height, width in kind) for kind in (SCENES, TEXTURES)]
    return f"""# teacher.safetensors

LDFusion architecture (5.776977 M parameters), stored as float16, loaded as float32, fingerprint
`{stored(path).fingerprint()}`. Trained by this project on its own procedural scenes
({sizes[0]}) and texture pairs ({sizes[1]}), seen by random cameras;
no published weights and no real images are in it. Licence: Apache-2.0.

Command: `python experiments/weights/train_teacher.py --out fusion_env/assets{as_options(settings)}{given}`,
from {beginning}.

{markdown_table(["setting", "value"], asdict(settings).items())}

Measured on this file (`python experiments/weights/train_teacher.py --evaluate --out fusion_env/assets [--data DIR ...]
[--sage FILE]`); higher is better for all metrics, VIF and SSIM are sums over both sources:

{table}
"""


if __name__ == "__main__":
    exit_on_error(main)
