"""Both ways compute the same gradients before they are timed."""

import pytest
import torch

from experiments.measurements.batched_students import Students, main
from experiments.measurements.rounds import ROWS
from fusion_env.errors import FusionEnvError

CPU = torch.device("cpu")


def test_gradients_of_all_students_are_those_of_each() -> None:
    students = Students(ROWS["tiny"].config(), 3, CPU)
    students.check()
    with torch.no_grad():
        students.students[2].decoder.model_up[0].weight.mul_(-1)
    with pytest.raises(FusionEnvError, match="student 2 of 3 is off"):
        students.check()


def test_both_ways_are_timed(capsys: pytest.CaptureFixture) -> None:
    assert main(["--rows", "tiny", "--students", "2", "--repeats", "1", "--threads", "1"]) == 0
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| tiny")]
    assert [row[3] for row in rows] == ["in turn", "batched"]
    assert all(float(cell.strip(" |")) > 0 for row in rows for cell in row[4:])


def test_training_changes_all_students_either_way() -> None:
    students = Students(ROWS["tiny"].config(), 2, CPU)
    before = [students.students[1].decoder.model_up[0].weight.clone(), students.stacked[_name(students)].clone()]
    students.train_in_turn()
    students.train_batched()
    after = [students.students[1].decoder.model_up[0].weight, students.stacked[_name(students)]]
    assert all(not torch.equal(old, new) for old, new in zip(before, after, strict=True))
    assert (before[1] != after[1]).flatten(1).any(1).tolist() == [True, True]


def _name(students: Students) -> str:
    return next(iter(students.stacked))
