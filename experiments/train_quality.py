"""Train and measure the embedded quality score, `fusion_env.perception.embedded_quality`.

Usage::

    python experiments/train_quality.py --out fusion_env/assets --seed 0      # train, write weights and card
    python experiments/train_quality.py --evaluate [--data DIR] [--report docs/embedded-networks.md]
"""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from experiments.embedded_common import (
    FUSIONS,
    Image,
    add_noise,
    compress,
    gaussian_blur,
    load_lumas,
    markdown_table,
    scale_contrast,
    spearman,
    to_batch,
    write_section,
)
from fusion_env.data import PairSource
from fusion_env.data.folder import PairedFolder
from fusion_env.data.procedural import ProceduralScenes
from fusion_env.perception.embedded_quality import EmbeddedQuality, load_embedded_quality
from student.checkpoint import save_state, write_atomic

TRAIN_SCENES, TRAIN_SIZE = 480, (160, 192)
HELD_OUT_SCENES, HELD_OUT_SIZE, HELD_OUT_SEED = 40, (192, 256), 900_000
CROP_SIZES = (48, 64, 96)
CHAINS, LEVELS = 24, 5
CLEAN_SCORE, WORST_SCORE = 0.82, 0.10
LEARNING_RATE = 3e-3

TONES = ("gain", "lift", "sink", "dim")
"""Ways to spoil the tones: multiply or add until bright parts clip, subtract until dark parts clip, multiply to black."""


@dataclass(frozen=True)
class Damage:
    """Severities in 0..1, applied in this order; 0 is none.

    Attributes:
        blur: Gaussian of up to 4 px.
        tone: Severity of the change of tones `tone_kind`.
        contrast: Loss of up to 90 % of the contrast.
        noise: Gaussian noise of standard deviation up to 0.16.
        jpeg: Compression down to quality 5.
        tone_kind: One of `TONES`, or "" for none. With "gain", "lift" and "sink", severity 0 is where the picture begins
            to clip, for before it clips a change of brightness is no loss of quality.
    """

    blur: float = 0.0
    tone: float = 0.0
    contrast: float = 0.0
    noise: float = 0.0
    jpeg: float = 0.0
    tone_kind: str = ""

    def apply(self, image: Image, noise: Image) -> Image:
        """Return the damaged image; ``noise`` is a standard normal field of its size."""
        if self.blur > 0:
            image = gaussian_blur(image, 0.05 + 4 * self.blur**1.4)
        if self.tone_kind:
            image = change_tone(image, self.tone_kind, self.tone)
        if self.contrast > 0:
            image = scale_contrast(image, 1 - 0.9 * self.contrast)
        if self.noise > 0:
            image = add_noise(image, noise, 0.16 * self.noise**1.4)
        if self.jpeg > 0:
            image = compress(image, round(5 + 95 * (1 - self.jpeg) ** 2))
        return image

    def target(self) -> float:
        """Return the score that training aims at."""
        kept = (1 - self.blur) * (1 - 0.8 * self.tone) * (1 - self.contrast) * (1 - self.noise) * (1 - 0.85 * self.jpeg)
        return WORST_SCORE + (CLEAN_SCORE - WORST_SCORE) * kept


def change_tone(image: Image, kind: str, severity: float) -> Image:
    """Brighten or darken; see `Damage.tone_kind`."""
    dark, bright = (float(value) for value in np.quantile(image, (0.01, 0.99)))
    if kind == "gain":
        return (image * (4**severity / max(bright, 0.05))).clip(0, 1)
    if kind == "lift":
        return (image + (1 - bright + 0.6 * severity)).clip(0, 1)
    if kind == "sink":
        return (image - (dark + 0.8 * (bright - dark) * severity)).clip(0, 1)
    return image * np.float32(0.1**severity)


def draw_damages(rng: np.random.Generator) -> list[Damage]:
    """Draw `LEVELS` damages, each at least as severe as the one before in every respect."""
    names = ["blur", "tone", "contrast", "noise", "jpeg"]
    chosen = rng.choice(names, size=1 if rng.random() < 0.6 else int(rng.integers(2, 4)), replace=False)
    severities = {name: np.sort(rng.random(LEVELS)) for name in chosen}
    for levels in severities.values():
        levels[0] = 0.0 if rng.random() < 0.7 else levels[0]
    kind = str(rng.choice(TONES)) if "tone" in severities else ""
    return [
        Damage(tone_kind=kind, **{name: float(levels[level]) for name, levels in severities.items()})
        for level in range(LEVELS)
    ]


def draw_chain(lumas: dict[str, list[Image]], size: int, rng: np.random.Generator) -> tuple[list[Image], list[float]]:
    """Draw one crop in `LEVELS` versions of falling quality, and their target scores."""
    scene = int(rng.integers(len(lumas["ir"])))
    height, width = lumas["ir"][scene].shape
    top, left = int(rng.integers(height - size + 1)), int(rng.integers(width - size + 1))
    mirror = -1 if rng.random() < 0.5 else 1
    noise = rng.standard_normal((size, size), dtype=np.float32)

    def crop(kind: str) -> Image:
        return np.ascontiguousarray(lumas[kind][scene][top : top + size, left : left + size][:, ::mirror])

    if rng.random() < 0.15:
        good = str(rng.choice([name for name in FUSIONS if name in lumas and name not in ("average", "maximum")]))
        damages = [Damage(blur=float(blur)) for blur in np.sort(rng.random(LEVELS - 1)) * [0, 1, 1, 1]]
        versions = [crop(good), *(damage.apply(crop("average"), noise) for damage in damages)]
        return versions, [CLEAN_SCORE, *(0.88 * damage.target() for damage in damages)]
    image = crop(str(rng.choice(list(lumas))))
    if rng.random() < 0.3:  # real images come slightly soft or compressed, and that must not hide further damage
        mild = Damage(blur=0.3 * rng.random(), jpeg=0.3 * rng.random(), noise=0.15 * rng.random())
        image = mild.apply(image, rng.standard_normal((size, size), dtype=np.float32))
    damages = draw_damages(rng)
    return [damage.apply(image, noise) for damage in damages], [damage.target() for damage in damages]


def ranking_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Compute a margin ranking loss within chains plus a weak regression to the targets.

    Args:
        logits: Of the score, [chains, levels].
        targets: Target scores, same shape, falling along the levels.
    """
    wanted = torch.logit(targets)
    first, second = torch.triu_indices(targets.shape[1], targets.shape[1], offset=1)
    margins = 0.7 * (wanted[:, first] - wanted[:, second])
    ranking = F.relu(margins - (logits[:, first] - logits[:, second])).mean()
    return ranking + 0.3 * F.smooth_l1_loss(logits, wanted)


def train(lumas: dict[str, list[Image]], iterations: int, seed: int) -> EmbeddedQuality:
    """Train from scratch; deterministic for one number of threads.

    Args:
        lumas: From `load_lumas`.
        iterations: Steps of `CHAINS` chains.
        seed: Of the initial weights and of all draws.

    Returns:
        The trained score, in evaluation mode.
    """
    rng = np.random.default_rng(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        score = EmbeddedQuality()
    optimiser = torch.optim.AdamW(score.parameters(), lr=LEARNING_RATE, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=iterations, pct_start=0.1)
    progress = tqdm(range(iterations), desc="quality score")
    mean_loss = 0.0
    for step in progress:
        size = int(rng.choice(CROP_SIZES))
        chains = [draw_chain(lumas, size, rng) for _ in range(CHAINS)]
        images = to_batch([image for versions, _ in chains for image in versions])
        targets = torch.tensor([values for _, values in chains])
        loss = ranking_loss(score.logits(images).view(CHAINS, LEVELS), targets)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(score.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        mean_loss += (loss.item() - mean_loss) / min(step + 1, 100)
        if step % 20 == 0:
            progress.set_postfix(loss=f"{mean_loss:.3f}")
    return score.eval().requires_grad_(False)


def _tone_chain(kind: str) -> Callable[[Image, float, Image], Image]:
    return lambda image, severity, _: change_tone(image, kind, severity)


EVALUATED: dict[str, tuple[Sequence[float], Callable[[Image, float, Image], Image]]] = {
    "Gaussian blur, sigma 0.5 to 4 px": (np.geomspace(0.5, 4, 8), lambda image, sigma, _: gaussian_blur(image, sigma)),
    "JPEG, quality 50 to 5": (
        (-50, -40, -32, -25, -20, -15, -10, -5),
        lambda image, quality, _: compress(image, int(-quality)),
    ),
    "noise, std 0.01 to 0.16": (np.geomspace(0.01, 0.16, 8), lambda image, std, noise: add_noise(image, noise, std)),
    "contrast, loss of 10 to 90 %": (
        np.linspace(0.1, 0.9, 8),
        lambda image, loss, _: scale_contrast(image, 1 - loss),
    ),
    "brighter until it clips, by factor": (np.linspace(0.05, 1, 8), _tone_chain("gain")),
    "brighter until it clips, by offset": (np.linspace(0.05, 1, 8), _tone_chain("lift")),
    "darker until it clips, by offset": (np.linspace(0.05, 1, 8), _tone_chain("sink")),
    "darker, factor 0.8 to 0.1": (np.linspace(0.1, 1, 8), _tone_chain("dim")),
}
"""Eight rising strengths of each change that must lower the score."""


@torch.inference_mode()
def rank_correlations(score: EmbeddedQuality, lumas: dict[str, list[Image]]) -> str:
    """Tabulate the mean Spearman correlation per image of score and strength, for every kind of image in ``lumas``."""
    rng = np.random.default_rng(7)
    rows = []
    for name, (strengths, change) in EVALUATED.items():
        cells, curves = [], []
        for images in lumas.values():
            correlations = []
            for image in images:
                noise = rng.standard_normal(image.shape, dtype=np.float32)
                batch = to_batch([image, *(change(image, strength, noise) for strength in strengths)])
                values = score(batch).tolist()
                correlations.append(spearman(values[1:], strengths))
                curves.append(values)
            cells.append(float(np.mean(correlations)))
        curve = np.mean(curves, axis=0)
        rows.append([name, *cells, *(float(curve[index]) for index in (0, 1, 4, 8))])
    head = ["change", *lumas, "score unchanged", "strength 1", "strength 4", "strength 8"]
    return markdown_table(head, rows)


@torch.inference_mode()
def side_checks(score: EmbeddedQuality, lumas: dict[str, list[Image]]) -> str:
    """Tabulate agreement of crops with whole images, and how often a crisp fusion beats a blurred average."""
    rows: list[list[str | float]] = []
    for size in (64, 96):
        differences, pairs = [], []
        for image in lumas["laplacian"]:
            tiles = [
                image[top : top + size, left : left + size]
                for top in range(0, image.shape[0] - size + 1, size)
                for left in range(0, image.shape[1] - size + 1, size)
            ]
            whole, mean = float(score(to_batch([image]))), float(score(to_batch(tiles)).mean())
            differences.append(mean - whole)
            pairs.append((whole, mean))
        correlation = float(np.corrcoef(np.array(pairs).T)[0, 1])
        rows.append([f"mean score of {size} px tiles minus score of the whole image", float(np.mean(differences))])
        rows.append([f"correlation of both over images, {size} px tiles", correlation])
    for good in ("laplacian", "teacher"):
        for sigma in (0, 1, 2):
            if good not in lumas:
                continue
            rivals = [gaussian_blur(image, sigma) if sigma else image for image in lumas["average"]]
            wins = [
                float(score(to_batch([best]))) > float(score(to_batch([rival])))
                for best, rival in zip(lumas[good], rivals, strict=True)
            ]
            rows.append([f"share of scenes where {good} outscores the average, blurred by {sigma} px", np.mean(wins)])
    return markdown_table(["check", "value"], rows)


def timing(score: EmbeddedQuality) -> str:
    """Time 12 crops of 96 pixels on one thread, median of 30."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    images, seconds = torch.rand(12, 1, 96, 96), []
    with torch.inference_mode():
        for _ in range(33):
            start = time.perf_counter()
            score(images)
            seconds.append(time.perf_counter() - start)
    torch.set_num_threads(threads)
    return f"12 images of 96x96 on one core: {1e3 * float(np.median(seconds[3:])):.1f} ms."
