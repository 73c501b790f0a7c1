import numpy as np
import pytest
import torch

from experiments.evaluation.baselines import average, classical, contrast, post_processed, unsharp


def test_post_processing_by_hand() -> None:
    flat = torch.full((1, 1, 16, 16), 0.4)
    assert torch.allclose(unsharp(flat), flat, atol=1e-6)
    point = flat.clone()
    point[0, 0, 8, 8] = 0.5
    # Amount 1: the point gains what the Gaussian (sigma 1, its middle weight 0.3989 squared) takes from it.
    assert float(unsharp(point)[0, 0, 8, 8]) == pytest.approx(0.5 + 0.1 * (1 - 0.15915), abs=1e-4)
    stripes = torch.tensor([0.2, 0.6]).repeat(8).expand(1, 1, 16, 16)
    assert torch.allclose(contrast(stripes), torch.tensor([0.16, 0.64]).repeat(8).expand(1, 1, 16, 16))
    assert float(contrast(torch.eye(16)[None, None]).max()) == 1.0


def test_methods_fuse_what_they_say() -> None:
    ir, vis = torch.from_numpy(np.random.default_rng(0).random((2, 1, 1, 48, 64), np.float32))
    assert torch.equal(average(ir=ir, vis=vis), (ir + vis) / 2)
    assert set(classical()) == {"average", "laplacian"}
    made = {name: fuse(ir=ir, vis=vis) for name, fuse in post_processed(average).items()}
    assert torch.equal(made["unsharp"], unsharp((ir + vis) / 2))
    assert torch.equal(made["contrast"], contrast((ir + vis) / 2))
