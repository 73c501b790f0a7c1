"""Training of the student for pictures."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments.weights import train_student
from experiments.weights.beside_teacher import student_tables
from experiments.weights.training import Checkpoint, one_cycle
from fusion_env.errors import ConfigError
from student import FusionStudent
from student.weights import save_state


@pytest.mark.slow
def test_an_interrupted_training_continues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = [np.random.default_rng(0).integers(256, size=(2, 64, 64), dtype=np.uint8)]
    monkeypatch.setattr(train_student, "pictures", lambda _: (kind, kind))
    monkeypatch.setattr(train_student, "CHECKPOINT_EVERY", 4)
    monkeypatch.setattr(train_student, "draw_shape", lambda *_: (1, (41, 48)))
    settings, start = train_student.Settings(iterations=8, uses=2, window=2), tmp_path / "start.safetensors"
    save_state(FusionStudent().state_dict(), start)
    whole = train_student.train(settings, start, tmp_path / "whole.pt").state_dict()

    drawn, objective = [], train_student.objective

    def crash(fused: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        drawn.append(target)
        if len(drawn) == 7:
            raise KeyboardInterrupt
        return objective(fused, target)

    with monkeypatch.context() as patch:
        patch.setattr(train_student, "objective", crash)
        with pytest.raises(KeyboardInterrupt):
            train_student.train(settings, start, tmp_path / "cut.pt")
    assert len({float(target.sum()) for target in drawn}) < len(drawn)  # one image of the teacher serves several steps
    for changed, given, named in (
        (replace(settings, uses=4), start, "uses 2 in place of 4"),
        (settings, None, "start [0-9a-f]+ in place of"),
    ):
        with pytest.raises(ConfigError, match=f"cut.pt is of an unfinished training with {named}.*delete the file"):
            train_student.train(changed, given, tmp_path / "cut.pt")
    continued = train_student.train(settings, start, tmp_path / "cut.pt").state_dict()
    assert all(torch.equal(whole[name], continued[name]) for name in whole)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04"])
def test_a_damaged_checkpoint_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "cut.pt"
    path.write_bytes(content)
    network = torch.nn.Linear(1, 1)
    optimiser = torch.optim.Adam(network.parameters())
    kept = Checkpoint(path, {}, network, optimiser, one_cycle(optimiser, 20, warm_up=0.2), 1)
    with pytest.raises(ConfigError, match="cut.pt is damaged, or of an earlier version: delete it"):
        kept.resume()
    torch.save({"done": 3}, path)
    with pytest.raises(ConfigError, match="of an earlier version"):
        kept.resume()


def test_the_card_has_the_whole_command() -> None:
    settings = train_student.Settings(seed=12, small_until=0.5)
    written = train_student.card(Path("folder/first.safetensors"), settings, "table")
    assert "student/assets --small-until 0.5 --seed 12 --start first.safetensors`" in written
    assert "train_student.py --out student/assets`" in train_student.card(None, train_student.Settings(), "table")


@pytest.mark.slow
def test_tables_say_how_far_a_student_is_from_its_teacher(reference_dir: Path) -> None:
    tables = student_tables(FusionStudent().eval(), [reference_dir / "data" / "mini"])
    assert tables.count("E of the student is") == 2
    assert tables.count("mean absolute difference") == 2
    assert "| student |" in tables
