"""Images on the host give the numbers that images on the device give, to the last bit."""

import weakref
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from fusion_env import places
from fusion_env import task as tasks
from fusion_env.action import LossWeights
from fusion_env.config import DistillConfig
from fusion_env.degradation import Degradation
from fusion_env.distillation import GUIDANCE_ONLY
from fusion_env.env import FusionDistillEnv
from fusion_env.places import choose_places
from fusion_env.stored_images import Feed, StoredImages, stored_bytes
from fusion_env.task import DistillationTask, build_task

MakeConfig = Callable[..., DistillConfig]
CPU = torch.device("cpu")
MIB = 2**20


def images(streamed_to: torch.device | None = None) -> StoredImages:
    draws = torch.Generator().manual_seed(0)
    levels = [torch.randint(0, 256, (5, c, 6, 7), dtype=torch.uint8, generator=draws) for c in (1, 1, 2)]
    ir, vis, chroma = levels
    return StoredImages(ir, vis, torch.rand(5, 1, 6, 7, generator=draws).half(), chroma, streamed_to)


def test_mini_batches_are_the_same_wherever_the_images_live() -> None:
    resident, streamed = images(), images(CPU)
    assert resident.device == streamed.device == CPU
    index = torch.tensor([4, 0, 4])
    for one, other in zip(resident.batch(index), streamed.batch(index), strict=True):
        assert torch.equal(one, other)
        assert other.dtype == torch.float32
    assert torch.equal(resident.chroma_batch(index), streamed.chroma_batch(index))


def test_a_feed_keeps_its_places() -> None:
    feed, reference = Feed(images(CPU), 2), images()
    where = set()
    for numbers in ([3, 1], [0, 4]):
        index = torch.tensor(numbers)
        feed.bring(np.array(numbers))
        for one, other in zip(feed.batch(torch.zeros(2, dtype=torch.int64)), reference.batch(index), strict=True):
            assert torch.equal(one, other)
        where.add(feed._window.ir.data_ptr() if feed._window else 0)
    assert len(where) == 1


def test_a_feed_takes_no_memory_for_images_on_their_device() -> None:
    feed, reference = Feed(images(), 2), images()
    feed.bring(np.array([3, 1]))
    index = torch.tensor([0, 2])
    assert feed._window is None
    assert torch.equal(feed.batch(index).ir, reference.batch(index).ir)


def test_room_is_filled_and_is_what_was_announced() -> None:
    source = images()
    for chroma in (False, True):
        room = StoredImages.empty(5, (6, 7), chroma=chroma, device=CPU)
        given = source if chroma else StoredImages(source.ir, source.vis, source.target)
        for first in (0, 3):
            part = slice(first, 3 if first == 0 else 5)
            room.fill(first, StoredImages(*(tensor[part] for tensor in given.tensors().values())))
        assert all(torch.equal(room.tensors()[name], tensor) for name, tensor in given.tensors().items())
        assert sum(t.nbytes for t in room.tensors().values()) == stored_bytes(5, 6 * 7, chroma=chroma)


def test_clean_images_are_kept_where_they_are_others() -> None:
    source, index = images(), torch.tensor([4, 0])
    given = replace(source, clean=source.chroma)
    room = StoredImages.empty(5, (6, 7), chroma=True, clean=True, device=CPU)
    room.fill(0, given)
    assert torch.equal(torch.cat(room.clean_batch(index), 1), source.chroma_batch(index))
    assert sum(t.nbytes for t in room.tensors().values()) == stored_bytes(5, 6 * 7, chroma=True, clean=True)


@pytest.mark.parametrize(
    ("free", "streamed"),
    [(None, []), (100, []), (99, ["scored"]), (80, ["scored"]), (79, ["crops"]), (19, ["crops", "scored"])],
)
def test_half_of_what_is_free_is_for_images(
    free: int | None, streamed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "free_bytes", lambda device: None if free is None else free * MIB)
    chosen = choose_places(torch.device("cuda"), {"crops": 40 * MIB, "scored": 10 * MIB})
    assert [kind for kind, place in chosen.kinds.items() if place.streamed] == streamed
    assert chosen.any_streamed == bool(streamed)
    told = chosen.describe()
    assert told.count("on the host, brought to cuda in mini-batches") == len(streamed)
    assert "crops 40 MiB" in told
    assert "scored 10 MiB" in told
    assert (f"half of the {free} MiB that were free" in told) == (free is not None)


@pytest.fixture
def with_free_memory(monkeypatch: pytest.MonkeyPatch) -> Callable[[int | None], None]:
    """Sets the bytes that seem to be free, and forgets the tasks that were built before."""

    def set_free(free: int | None) -> None:
        monkeypatch.setattr(places, "free_bytes", lambda device: free)
        monkeypatch.setattr(tasks, "_tasks", weakref.WeakValueDictionary())

    return set_free


@pytest.mark.parametrize(
    "change",
    [
        {"capture": "on", "feature_cache_mib": 0, "iterations": 5},
        {"score_size": None, "score_crops": None, "iqa_colour": True},
        pytest.param({"capture": "on", "iterations": 5}, marks=pytest.mark.slow),
        pytest.param({"feature_cache_mib": 0}, marks=pytest.mark.slow),
    ],
)
def test_a_run_is_the_same_without_room_on_the_device(
    change: dict[str, object],
    tiny_config: MakeConfig,
    with_free_memory: Callable[[int | None], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = tiny_config(stage0_rounds=0, **change)
    results = []
    for free in (None, 0):
        with_free_memory(free)
        env = FusionDistillEnv(config=config)
        observations = [env.reset(seed=3)[0]]
        observations.append(env.step(np.full(7, 0.3, np.float32))[0])
        results.append((np.concatenate(observations), [weight.detach().clone() for weight in env.student.parameters()]))
        streamed = [image.streamed_to for image in (env.task.bank, *env.task.scored)]
        assert all(device == (None if free is None else CPU) for device in streamed)
    assert np.array_equal(results[0][0], results[1][0])
    assert all(torch.equal(*pair) for pair in zip(results[0][1], results[1][1], strict=True))
    assert "on the host, brought to cpu" in caplog.text  # a warning, before the first crop is cut


def test_what_is_kept_is_stated_and_so_large(tiny_config: MakeConfig) -> None:
    task = build_task(tiny_config(bank_size=64, crop_size=64, stage0_rounds=0))
    assert sum(tensor.nbytes for tensor in task.bank.tensors().values()) == MIB
    assert task.describe()["memory"].startswith("training crops 1 MiB on cpu, scored images 0 MiB on cpu; the teach")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
class TestOnCuda:
    @pytest.fixture
    def streamed(self, tiny_config: MakeConfig, with_free_memory: Callable[[int | None], None]) -> DistillationTask:
        with_free_memory(0)
        return build_task(tiny_config(device="cuda", iterations=8, feature_cache_mib=0))

    def test_mini_batches(self, streamed: DistillationTask) -> None:
        index = torch.tensor([5, 0, 5], device="cuda")
        stored = streamed.bank
        assert not stored.ir.is_cuda
        batch = stored.batch(index)
        assert batch.ir.is_cuda
        assert torch.equal(batch.ir.cpu(), stored.ir[[5, 0, 5]].float() / 255)
        assert torch.equal(batch.target.cpu(), stored.target[[5, 0, 5]].float())

    def test_captured_rounds_are_those_of_the_eager_resident_bank(
        self,
        streamed: DistillationTask,
        tiny_config: MakeConfig,
        with_free_memory: Callable[[int | None], None],
    ) -> None:
        with_free_memory(None)
        resident = build_task(tiny_config(device="cuda", iterations=8, feature_cache_mib=0, capture="off"))
        assert resident.bank.ir.is_cuda
        engines = [task.new_engine(1, 2) for task in (resident, streamed)]
        for weights in (GUIDANCE_ONLY, LossWeights(0.5, 0.5)) * 3:
            one, other = (engine.run_round(weights, Degradation(3, 60, 0.1, 0.1, 0.02)) for engine in engines)
            assert other.total == pytest.approx(one.total, rel=1e-2)
