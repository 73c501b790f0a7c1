from itertools import pairwise

import numpy as np
import pytest

from experiments.weights import against_averaging, program, train_quality, train_teacher, training_pairs
from fusion_env.data import ProceduralScenes
from fusion_env.data.scene_seeds import SEEDS_EACH, reserved, scene_seed
from fusion_env.errors import ConfigError, UnknownNameError


def test_no_seed_serves_two_purposes() -> None:
    ranges = sorted(reserved.values(), key=lambda seeds: seeds.start)
    assert all(first.stop <= second.start for first, second in pairwise(ranges))
    for purpose, seeds in reserved.items():
        assert scene_seed(purpose) == seeds[0]
        assert scene_seed(purpose, SEEDS_EACH - 1) == seeds[-1]


def test_no_scene_serves_two_purposes() -> None:
    """A scene's own seed has 32 bits: pairs of different seeds could be one scene by chance."""
    drawn = [
        {
            int(np.random.SeedSequence([scene_seed(purpose, seed), index]).generate_state(1)[0])
            for seed in range(3)
            for index in range(500)
        }
        for purpose in reserved
    ]
    assert len(set.union(*drawn)) == sum(map(len, drawn))


@pytest.mark.parametrize("seed", [-1, SEEDS_EACH])
def test_seeds_beyond_the_range(seed: int) -> None:
    with pytest.raises(ConfigError, match="0..999999"):
        scene_seed("training", seed)


def test_unknown_purpose() -> None:
    with pytest.raises(UnknownNameError, match="report"):
        scene_seed("reports")


def test_embedded_networks_learn_and_are_measured_on_scenes_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds = []

    class Stop(Exception):
        pass

    def note(count: int, height: int, width: int, seed: int = 0) -> ProceduralScenes:
        seeds.append(seed)
        raise Stop

    for module in (program, training_pairs, against_averaging):
        monkeypatch.setattr(module, "ProceduralScenes", note)
    options = ["--out", "unused", "--seed", "3"]
    for call in (
        lambda: program.run_program(train_quality.PROGRAM, options),
        lambda: training_pairs.load_scenes(1, 64, 64, 3),
        lambda: program.run_program(train_quality.PROGRAM, ["--evaluate"]),
        lambda: train_teacher.evaluate(train_teacher.EmbeddedLDFusion(), [], None),
    ):
        with pytest.raises(Stop):
            call()
    assert [next(name for name, own in reserved.items() if seed in own) for seed in seeds] == [
        "embedded",
        "embedded",
        "embedded check",
        "embedded check",
    ]
