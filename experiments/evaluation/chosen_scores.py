"""Which scores the options of a command ask for: metrics by name, a paper's set of them, CLIP-IQA."""

import argparse
from dataclasses import replace
from typing import Literal

from experiments.evaluation.scoring import ColourScore, Score, resolve_scores
from fusion_env import metrics
from fusion_env.errors import ConfigError, unknown_name

__all__ = ["DEFAULT_METRICS", "PRESETS", "add_score_options", "chosen_scores"]

DEFAULT_METRICS = ("en", "sd", "sf", "ag", "ei", "mi", "scd", "vif", "qabf", "ssim")
PRESETS = {"agentfuse-paper": ("ag_forward", "sf_uint8", "ei", "en", "viff")}
"""Sets of metrics by name; ``agentfuse-paper`` holds the variants behind the tables of arXiv 2509.02424."""


def add_score_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that `chosen_scores` reads."""
    chosen = parser.add_argument_group("which scores").add_mutually_exclusive_group()
    text = f"of {', '.join(metrics.names())} (default: {' '.join(DEFAULT_METRICS)})"
    chosen.add_argument("--metrics", nargs="+", metavar="METRIC", help=text)
    chosen.add_argument("--preset", choices=sorted(PRESETS), help="the metrics, in their variants, of a paper")
    clip = parser.add_argument_group("CLIP-IQA (metric clip_iqa)")
    text = "weights of the whole CLIP model, or one of open_clip's tags (default: openai); adds clip_iqa to the metrics"
    clip.add_argument("--clip-weights", metavar="FILE", help=text)
    clip.add_argument("--clip-model", metavar="NAME", help="open_clip's name of the model (default: RN50-quickgelu)")
    text = "'agentfuse' (default), 'clip-iqa' (also torchmetrics and piq) or 'pyiqa'"
    clip.add_argument("--clip-prompts", metavar="NAME", help=text)
    text = "score the fused images in their own colours; the default is their luma"
    clip.add_argument("--clip-colour", action="store_true", help=text)
    text = "resize images to the model's size; the default is to score them at their own"
    clip.add_argument("--clip-resize", action="store_true", help=text)


def chosen_scores(args: argparse.Namespace, device: str) -> tuple[Score, ...]:
    """Return the scores that the options ask for; CLIP is loaded if it is among them.

    Args:
        args: Options of `add_score_options`.
        device: Where CLIP computes.

    Raises:
        FusionEnvError: A name is not known, CLIP's weights are missing, or its options come without it.
    """
    names = list(PRESETS[args.preset] if args.preset else args.metrics or DEFAULT_METRICS)
    if args.clip_weights and "clip_iqa" not in names:
        names.append("clip_iqa")
    if "clip_iqa" in names:
        resolve_scores(names)  # a misspelt name shows before the weights are looked for
        return resolve_scores([_clip_score(args, device) if name == "clip_iqa" else name for name in names])
    if args.clip_model or args.clip_prompts or args.clip_colour or args.clip_resize:
        raise ConfigError(
            "options of CLIP-IQA need clip_iqa among the metrics: give --clip-weights as well, or name it. "
            f"Got {' '.join(names)}"
        )
    return resolve_scores(names)


def _clip_score(args: argparse.Namespace, device: str) -> Score:
    from fusion_env.perception.clip_iqa import DEFAULT_MODEL, PROMPTS, load_clip_iqa  # open_clip takes seconds

    prompts = args.clip_prompts or "agentfuse"
    if prompts not in PROMPTS:
        raise unknown_name("set of prompts", prompts, PROMPTS)
    resize: Literal["model"] | None = "model" if args.clip_resize else None
    model = args.clip_model or DEFAULT_MODEL
    scorer = load_clip_iqa(args.clip_weights, model, prompts=PROMPTS[prompts], resize=resize).to(device)
    seen = "the fused image in colour" if args.clip_colour else "the fused luma"
    summary = f"{scorer.description}, prompts {prompts!r}, on {seen}"
    if args.clip_colour:
        return ColourScore("clip_iqa", scorer, scorer.smallest_side, higher_is_better=True, summary=summary)
    return replace(metrics.quality_metric("clip_iqa", scorer), minimum_size=scorer.smallest_side, summary=summary)
