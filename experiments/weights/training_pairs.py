"""The pairs that a fusion network is trained on: scenes and textures, cut out and seen by random cameras."""

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from experiments.weights.cameras import draw_camera
from experiments.weights.images import Image
from experiments.weights.textures import draw_texture_pair
from fusion_env.data import ImagePair, ProceduralScenes, luma_levels
from fusion_env.data.scene_seeds import scene_seed

__all__ = ["Pictures", "draw_batch", "load_scenes", "load_textures", "texture_pairs"]

Pictures = Sequence[NDArray[np.uint8]]
"""Pairs of pictures, uint8 [2, H, W], infrared and visible luma, of any sizes."""

_AS_IT_IS = 0.4
"""Share of the scenes that keep the cameras they were rendered with."""
_UNRELATED = 0.1
"""Share of the pairs whose infrared picture shows something else: the network must not rely on common edges."""


def load_scenes(count: int, height: int, width: int, seed: int) -> Pictures:
    """Render procedural scenes."""
    source = ProceduralScenes(count, height, width, scene_seed("embedded", seed))
    pictures = []
    for index in tqdm(range(count), f"scenes {height}x{width}"):
        pair = source.load(index)
        pictures.append(torch.cat([pair.ir, luma_levels(pair.vis)]).numpy())
    return pictures


def load_textures(count: int, height: int, width: int, seed: int) -> Pictures:
    """Draw texture pairs; tones beyond 0..1 are clipped."""
    pictures = []
    for index in tqdm(range(count), f"textures {height}x{width}"):
        pair = np.stack(draw_texture_pair(np.random.default_rng([seed, index]), height, width))
        pictures.append((pair * 200 + 27.5).clip(0, 255).astype(np.uint8))
    return pictures


def texture_pairs(count: int, height: int, width: int, seed: int) -> Iterator[ImagePair]:
    """Draw texture pairs, each seen by cameras of its own; visible images are grey."""
    for index in range(count):
        rng = np.random.default_rng([seed, index])
        ir, vis = draw_texture_pair(rng, height, width)
        seen = draw_camera(rng, infrared=True).see(ir, rng), draw_camera(rng, infrared=False).see(vis, rng)
        levels = torch.from_numpy(np.stack(seen) * 255).round().to(torch.uint8)
        yield ImagePair(f"texture_{index:05d}", levels[:1], levels[1:].expand(3, -1, -1))


def draw_batch(
    scenes: Pictures, textures: Pictures, size: tuple[int, int], batch: int, rng: np.random.Generator
) -> Tensor:
    """Draw cut-outs of pairs, half scenes and half textures, each seen by cameras of its own.

    Args:
        scenes: From `load_scenes`.
        textures: From `load_textures`.
        size: Height and width; one picture of each kind at least is as large.
        batch: Number of pairs.
        rng: Decides everything.

    Returns:
        Infrared and visible luma in 0..1, [2, B, 1, H, W].
    """
    pairs = [_draw_pair(scenes, textures, size, rng) for _ in range(batch)]
    return torch.from_numpy(np.stack(pairs, axis=1)[:, :, None])


def _draw_pair(
    scenes: Pictures, textures: Pictures, size: tuple[int, int], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Draw one pair [2, H, W]."""
    is_scene = rng.random() < 0.5
    ir, vis = _cut(scenes if is_scene else textures, size, rng)
    if rng.random() < _UNRELATED:
        ir, _ = _cut(textures if is_scene else scenes, size, rng)
    elif is_scene and rng.random() < _AS_IT_IS:
        return np.stack([ir, vis])
    ir = draw_camera(rng, infrared=True).see(ir, rng)
    return np.stack([ir, draw_camera(rng, infrared=False).see(vis, rng)])


def _cut(pictures: Pictures, size: tuple[int, int], rng: np.random.Generator) -> tuple[Image, Image]:
    """Cut a random rectangle out of a random pair that is large enough, enlarge or shrink it to ``size``, mirror it."""
    height, width = size
    fitting = [pair for pair in pictures if pair.shape[1] >= height and pair.shape[2] >= width]
    pair = fitting[int(rng.integers(len(fitting)))]
    zoom = max(2 ** rng.uniform(-0.7, 0.5), height / pair.shape[1], width / pair.shape[2])
    rows, columns = round(height / zoom), round(width / zoom)
    top, left = int(rng.integers(pair.shape[1] - rows + 1)), int(rng.integers(pair.shape[2] - columns + 1))
    part = pair[:, top : top + rows, left : left + columns]
    part = part[..., ::-1] if rng.random() < 0.5 else part
    how = cv2.INTER_AREA if zoom < 1 else cv2.INTER_CUBIC
    ir, vis = (cv2.resize(np.ascontiguousarray(picture), (width, height), interpolation=how) for picture in part)
    return ir.astype(np.float32) / 255, vis.astype(np.float32) / 255
