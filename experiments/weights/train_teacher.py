"""Train the package's own teacher, of the LDFusion architecture, on procedural scenes.

    python experiments/weights/train_teacher.py --out fusion_env/assets

The network learns to do in one pass what multi-scale fusion does with Laplacian pyramids (`fuse_laplacian`): at every
scale the stronger detail, over a base that keeps hot targets and lit areas. In the second half it is also held to the
visual information fidelity to both sources, and in a short refinement of the stored file most of all to that. An
interrupted training continues from its checkpoint beside the output; ``--refine`` starts at the refinement.
"""

import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from experiments.command_line import exit_on_error, make_parser
from experiments.output import markdown_table, write_text
from experiments.weights.against_averaging import compare_with_averaging, comparison_table
from experiments.weights.training import fit, one_cycle, seeded
from fusion_env.data import PairedFolder, ProceduralScenes, luma_levels, make_splits
from fusion_env.filters import gaussian_window, halve, local_moments, stack_rows_first
from fusion_env.metrics import ssim_index
from fusion_env.teachers.laplacian import LaplacianTeacher
from fusion_env.teachers.ldfusion import LDFusion
from student.files import write_atomic
from student.weights import load_into, load_state, save_state

GRADIENT_WEIGHT, SIMILARITY_WEIGHT = 2.0, 0.5
FIDELITY_WEIGHTS = ((0.6, 0.6), (0.5, 0.2), (0.0, 0.0))
"""Weights of the fidelity to the sources, from these shares of the iterations on: a blurred image has next to none."""
REFINE_FIDELITY_WEIGHT = 1.5
CHECKPOINT_EVERY = 500
NOISE_VARIANCE = 2.0
SMALL_CROPS_UNTIL = 0.9
"""Share of the iterations on crops of `crop_size`; the rest, on `last_crop_size`, gets used to larger images."""


@dataclass(frozen=True)
class Settings:
    """How the teacher is trained; the defaults made the weights of the package."""

    iterations: int = 12000
    batch_size: int = 4
    crop_size: int = 64
    last_crop_size: int = 160
    last_batch_size: int = 2
    scenes: int = 400
    height: int = 192
    width: int = 256
    learning_rate: float = 1e-3
    refine_iterations: int = 1500
    refine_batch_size: int = 2
    refine_crop_size: int = 128
    refine_learning_rate: float = 4e-4
    seed: int = 0
    threads: int = 1


def objective(fused: Tensor, target: Tensor) -> Tensor:
    """Compare a fused image with its target; lower is better.

    Args:
        fused: [B, 1, H, W], may leave 0..1.
        target: Same shape, 0..1.

    Returns:
        A scalar: mean absolute difference of the images and of their gradients, and 1 minus mean SSIM.
    """
    intensity = F.l1_loss(fused, target)
    gradient = F.l1_loss(_gradient(fused), _gradient(target))
    similarity = 1 - ssim_index(fused, target).mean()
    return intensity + GRADIENT_WEIGHT * gradient + SIMILARITY_WEIGHT * similarity


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


def _gradient(image: Tensor) -> Tensor:
    """Forward differences in both directions, [B, 2, H - 1, W - 1]."""
    across = image[..., :-1, 1:] - image[..., :-1, :-1]
    down = image[..., 1:, :-1] - image[..., :-1, :-1]
    return torch.cat([across, down], dim=1)


def load_images(settings: Settings) -> Tensor:
    """Render the training scenes: uint8 [N, 2, H, W], visible luma and infrared."""
    source = ProceduralScenes(settings.scenes, settings.height, settings.width, settings.seed)
    images = []
    for index in tqdm(range(len(source)), desc="scenes"):
        pair = source.load(index)
        images.append(torch.cat([luma_levels(pair.vis), pair.ir]))
    return torch.stack(images)


def draw_batch(images: Tensor, batch: int, size: int, generator: torch.Generator) -> Tensor:
    """Cut random crops [B, 2, S, S] in 0..1, flipped, each channel with its own brightness, contrast and gamma."""
    height, width = images.shape[-2:]
    chosen = torch.randint(len(images), (batch,), generator=generator).tolist()
    top = torch.randint(height - size + 1, (batch,), generator=generator).tolist()
    left = torch.randint(width - size + 1, (batch,), generator=generator).tolist()
    crops = torch.stack(
        [images[n, :, y : y + size, x : x + size] for n, y, x in zip(chosen, top, left, strict=True)]
    ).float()
    flip = torch.rand(batch, generator=generator) < 0.5
    crops[flip] = crops[flip].flip(-1)
    # Real cameras differ more than the scenes do: vary the tone curve of both images independently.
    gamma, gain, shift = torch.rand((3, batch, 2, 1, 1), generator=generator)
    tone = (crops / 255).pow(2 ** (gamma * 1.4 - 0.7))
    return (tone * (0.6 + 0.5 * gain) + (shift - 0.5) * 0.2).clamp(0, 1)


def train(settings: Settings, checkpoint: Path) -> LDFusion:
    """Train the network, continuing from `checkpoint` where it exists."""
    torch.set_num_threads(settings.threads)
    network = seeded(LDFusion, settings.seed)
    optimizer = torch.optim.Adam(network.parameters(), lr=settings.learning_rate)
    schedule = one_cycle(optimizer, settings.iterations, warm_up=0.05)
    generator = torch.Generator().manual_seed(settings.seed)
    start = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        generator.set_state(state["generator"])
        start = state["iteration"]
    images = load_images(settings)

    def loss_at(iteration: int) -> Tensor:
        small = iteration < SMALL_CROPS_UNTIL * settings.iterations
        batch = settings.batch_size if small else settings.last_batch_size
        size = settings.crop_size if small else settings.last_crop_size
        fidelity = next(weight for share, weight in FIDELITY_WEIGHTS if iteration >= share * settings.iterations)
        return batch_loss(network, draw_batch(images, batch, size, generator), fidelity)

    def keep(done: int) -> None:
        if done % CHECKPOINT_EVERY == 0:
            state = {
                "network": network.state_dict(),
                "optimizer": optimizer.state_dict(),
                "schedule": {k: v for k, v in schedule.state_dict().items() if not callable(v)},
                "generator": generator.get_state(),
                "iteration": done,
            }
            buffer = io.BytesIO()
            torch.save(state, buffer)
            write_atomic(checkpoint, buffer.getvalue())

    fit(network, optimizer, schedule, loss_at, "teacher", start=start, after_step=keep)
    return network.eval()


def batch_loss(network: LDFusion, crops: Tensor, fidelity: float) -> Tensor:
    """Return the loss of a batch [B, 2, S, S] of `draw_batch`."""
    vis, ir = crops.split(1, dim=1)
    fused = network.forward_signed(ir=ir, vis=vis)[..., : vis.shape[-2], : vis.shape[-1]]
    loss = objective(fused, LaplacianTeacher().fuse_luma(ir=ir, vis=vis))
    return loss - fidelity * visual_information(fused, ir=ir, vis=vis) if fidelity > 0 else loss


def refine(network: LDFusion, settings: Settings) -> LDFusion:
    """Go on from trained weights with small steps and a high weight of the fidelity to both sources."""
    torch.set_num_threads(settings.threads)
    optimizer = torch.optim.Adam(network.parameters(), lr=settings.refine_learning_rate)
    schedule = one_cycle(optimizer, settings.refine_iterations, warm_up=0.05)
    generator = torch.Generator().manual_seed(settings.seed + 1)
    images = load_images(settings)

    def loss_at(_: int) -> Tensor:
        crops = draw_batch(images, settings.refine_batch_size, settings.refine_crop_size, generator)
        return batch_loss(network, crops, REFINE_FIDELITY_WEIGHT)

    fit(network, optimizer, schedule, loss_at, "refinement")
    return network.eval()


def stored(path: Path) -> LDFusion:
    """Load the teacher from a file."""
    network = LDFusion()
    load_into(network, load_state(path), str(path))
    return network.eval()


def evaluate(network: LDFusion, data: Path | None) -> str:
    """Compare the teacher with averaging on unseen scenes and, where given, on the report split of a folder."""
    unseen = ProceduralScenes(24, 192, 256, seed=90_001)
    table = comparison_table(compare_with_averaging(unseen, range(len(unseen)), {"teacher": network}))
    text = f"Unseen procedural scenes (24, 192x256):\n\n{table}"
    if data is not None:
        folder = PairedFolder(data)
        indices = make_splits(folder, 0).report
        table = comparison_table(compare_with_averaging(folder, indices, {"teacher": network}))
        text += f"\n\n{data.name}, report split ({len(indices)} pairs):\n\n{table}"
    return text


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, store and evaluate."""
    parser = make_parser(__doc__)
    text = "folder for teacher.safetensors and its card"
    parser.add_argument("--out", type=Path, default=Path("runs/teacher"), help=text)
    parser.add_argument("--data", type=Path, help="folder of real pairs to evaluate on as well")
    parser.add_argument("--evaluate", action="store_true", help="only evaluate the stored file")
    parser.add_argument("--refine", action="store_true", help="only refine the stored file")
    for item in fields(Settings):
        parser.add_argument(f"--{item.name.replace('_', '-')}", type=item.type, default=item.default)
    args = parser.parse_args(arguments)
    settings = Settings(**{item.name: getattr(args, item.name) for item in fields(Settings)})
    path = args.out / "teacher.safetensors"
    if not (args.evaluate or args.refine):
        checkpoint = args.out / "teacher.checkpoint.pt"
        save_state(train(settings, checkpoint).state_dict(), path, half=True)
        checkpoint.unlink(missing_ok=True)
    if not args.evaluate:
        save_state(refine(stored(path), settings).state_dict(), path, half=True)
    table = evaluate(stored(path), args.data)
    print(table)
    if not args.evaluate:
        write_text(args.out / "teacher.md", card(settings, table))
    return 0


def card(settings: Settings, table: str) -> str:
    """Write the card that lies beside the weights."""
    return f"""# teacher.safetensors

LDFusion architecture (5.776977 M parameters), stored as float16, loaded as float32. Trained by this project on its own
procedural scenes; no published weights and no real images are in it. Licence: Apache-2.0.

Command: `python experiments/weights/train_teacher.py --out fusion_env/assets`

{markdown_table(["setting", "value"], asdict(settings).items())}

Measured on this file (`python experiments/weights/train_teacher.py --evaluate --out fusion_env/assets [--data DIR]`);
higher is better for all metrics, VIF and SSIM are sums over both sources:

{table}
"""


if __name__ == "__main__":
    exit_on_error(main)
