"""Train and measure the embedded quality score, `fusion_env.perception.embedded_quality`.

Usage::

    python experiments/weights/train_quality.py --out fusion_env/assets --seed 0      # train, write weights and card
    python experiments/weights/train_quality.py --evaluate [--data DIR ...] [--report PAGE]

``docs/reference/embedded-networks.md`` is such a PAGE.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from experiments.command_line import exit_on_error
from experiments.output import markdown_table
from experiments.weights.changes import add_noise, compress, gaussian_blur, scale_contrast
from experiments.weights.images import FUSIONS, Image, Lumas, draw_crop, to_batch
from experiments.weights.measures import median_ms, spearman
from experiments.weights.program import Program, run_program
from experiments.weights.training import train_from_scratch
from fusion_env.perception.embedded_quality import EmbeddedQuality, load_embedded_quality

CROP_SIZES = (48, 64, 80)
CHAINS, LEVELS = 16, 5
CLEAN_SCORE, WORST_SCORE = 0.82, 0.10
LEARNING_RATE = 3e-3

TONES = ("gain", "lift", "sink", "dim")
"""Ways to spoil the tones: multiply or add until it clips, subtract until it clips, multiply towards black."""


@dataclass(frozen=True)
class Damage:
    """Severities in 0..1, applied in this order; 0 is none.

    Attributes:
        blur: Gaussian of up to 4 px.
        tone: Severity of the change of tones `tone_kind`.
        contrast: Loss of up to 90 % of the contrast.
        noise: Gaussian noise of standard deviation up to 0.16.
        jpeg: Compression down to quality 5.
        tone_kind: One of `TONES`, or "" for none. With "gain", "lift" and "sink", severity 0 is where the picture
            begins to clip, for before it clips a change of brightness is no loss of quality.
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
    # More small severities than large ones: a trace of noise must not pass for detail.
    severities = {name: np.sort(rng.random(LEVELS) ** 1.7) for name in chosen}
    for levels in severities.values():
        levels[0] = 0.0 if rng.random() < 0.7 else levels[0]
    kind = str(rng.choice(TONES)) if "tone" in severities else ""
    return [
        Damage(tone_kind=kind, **{name: float(levels[level]) for name, levels in severities.items()})
        for level in range(LEVELS)
    ]


def draw_chain(lumas: Lumas, size: int, rng: np.random.Generator) -> tuple[list[Image], list[float]]:
    """Draw one crop in `LEVELS` versions of falling quality, and their target scores."""
    crops = draw_crop(lumas, size, rng)
    mirror = -1 if rng.random() < 0.5 else 1
    noise = rng.standard_normal((size, size), dtype=np.float32)

    def crop(kind: str) -> Image:
        return np.ascontiguousarray(crops[kind][:, ::mirror])

    if rng.random() < 0.15:
        good = str(rng.choice([name for name in FUSIONS if name in lumas and name not in ("average", "maximum")]))
        damages = [Damage(blur=float(blur)) for blur in np.sort(rng.random(LEVELS - 1)) * [0, 1, 1, 1]]
        versions = [crop(good), *(damage.apply(crop("average"), noise) for damage in damages)]
        return versions, [CLEAN_SCORE, *(0.88 * damage.target() for damage in damages)]
    image = crop(str(rng.choice(list(lumas))))
    if rng.random() < 0.3:  # real images come slightly soft or compressed, and that must not hide further damage
        mild = Damage(blur=0.3 * rng.random(), jpeg=0.3 * rng.random())
        image = mild.apply(image, noise)
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


def train(lumas: Lumas, iterations: int, seed: int) -> EmbeddedQuality:
    """Train from scratch; deterministic for one number of threads.

    Args:
        lumas: From `load_lumas`.
        iterations: Steps of `CHAINS` chains.
        seed: Of the initial weights and of all draws.

    Returns:
        The trained score, in evaluation mode.
    """
    rng = np.random.default_rng(seed)

    def loss(score: EmbeddedQuality) -> Tensor:
        size = int(rng.choice(CROP_SIZES))
        chains = [draw_chain(lumas, size, rng) for _ in range(CHAINS)]
        images = to_batch([image for versions, _ in chains for image in versions])
        targets = torch.tensor([values for _, values in chains])
        return ranking_loss(score.logits(images).view(CHAINS, LEVELS), targets)

    return train_from_scratch(EmbeddedQuality, loss, LEARNING_RATE, iterations, seed, "quality score")


def _tone_chain(kind: str) -> Callable[[Image, float, Image], Image]:
    return lambda image, severity, _: change_tone(image, kind, severity)


EVALUATED: dict[str, tuple[Sequence[float] | NDArray[np.float64], Callable[[Image, float, Image], Image]]] = {
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
def rank_correlations(score: EmbeddedQuality, lumas: Lumas) -> str:
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
    return markdown_table(head, rows, decimals=3)


@torch.inference_mode()
def side_checks(score: EmbeddedQuality, lumas: Lumas) -> str:
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
            share = float(np.mean(wins))
            rows.append([f"share of scenes where {good} outscores the average, blurred by {sigma} px", share])
    return markdown_table(["check", "value"], rows, decimals=3)


def measure(score: EmbeddedQuality, lumas: Lumas) -> str:
    """Tabulate everything that is asked of the score."""
    images = torch.rand(12, 1, 96, 96)
    with torch.inference_mode():
        milliseconds = median_ms(lambda: score(images))
    return (
        "Spearman's correlation of score and strength over eight strengths, mean over images (-1 is best), and mean "
        f"scores:\n\n{rank_correlations(score, lumas)}\n\n{side_checks(score, lumas)}\n\n"
        f"12 images of 96x96 take {milliseconds:.1f} ms on one core."
    )


PROGRAM = Program(
    asset="quality",
    title="Embedded quality score",
    about="""\
A no-reference score of image clarity in (0, 1), higher is better: `fusion_env.perception.embedded_quality`. It stands
in for CLIP-IQA in the presets that download nothing. A small network learns to rank versions of one crop that are
damaged more and more (blur, clipped or lost tones, loss of contrast, noise, JPEG, and mixtures), and crisp fusions
above blurred averages, with a margin; a weak regression keeps clean images near 0.8 and ruined ones near 0.1. It
knows nothing of what is shown, and an image is not better for containing more objects.""",
    iterations=1200,
    train=train,
    load=load_embedded_quality,
    measure=measure,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    return run_program(PROGRAM, arguments)


if __name__ == "__main__":
    exit_on_error(main)
