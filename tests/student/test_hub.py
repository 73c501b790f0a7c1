"""Students in the form of the hub: a folder as usual there, back again, offline, and pushed without a network."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("huggingface_hub")

from student import hub
from student.command_line import main
from student.hub import HubStudent
from student.network import FusionStudent
from student.origin import open_student
from student.weights import WeightsError


@pytest.fixture
def student() -> FusionStudent:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return FusionStudent(2).eval()


def same(one: FusionStudent, two: FusionStudent) -> bool:
    states = one.state_dict(), two.state_dict()
    return states[0].keys() == states[1].keys() and all(
        torch.equal(states[0][key], states[1][key]) for key in states[0]
    )


def test_there_and_back(student: FusionStudent, tmp_path: Path) -> None:
    HubStudent.of(student).save_pretrained(tmp_path / "own")
    assert sorted(path.name for path in (tmp_path / "own").iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]
    assert json.loads((tmp_path / "own" / "config.json").read_text()) == {"width": 2}
    assert same(HubStudent.from_pretrained(tmp_path / "own"), student)
    found, name = open_student(tmp_path / "own")
    assert same(found, student)
    assert name == str(tmp_path / "own")


def test_where_its_exposure_is_from_is_kept(student: FusionStudent, tmp_path: Path) -> None:
    student.exposure_of_sources = True
    HubStudent.of(student).save_pretrained(tmp_path / "own")
    assert HubStudent.from_pretrained(tmp_path / "own").exposure_of_sources
    assert open_student(tmp_path / "own")[0].exposure_of_sources


def test_card(student: FusionStudent, tmp_path: Path) -> None:
    card = {"repo": "me/mine", "metrics": {"vif": 0.61234}, "dataset": "RoadScene"}
    HubStudent.of(student).save_pretrained(tmp_path, model_card_kwargs=card)
    text = (tmp_path / "README.md").read_text()
    assert "| vif | 0.6123 |" in text
    assert "Means over RoadScene" in text
    assert 'student.load("me/mine")' in text
    assert "license: apache-2.0" in text
    assert "model-index:" in text
    with pytest.raises(ValueError, match="metrics need the dataset"):
        HubStudent.of(student).generate_model_card(metrics={"vif": 1.0})


def test_push(student: FusionStudent, monkeypatch: pytest.MonkeyPatch) -> None:
    pushed: dict[str, Any] = {}

    class Api:
        def __init__(self, **_: Any) -> None: ...

        def create_repo(self, repo_id: str, **_: Any) -> Any:
            return type("Repo", (), {"repo_id": repo_id})

        def upload_folder(self, repo_id: str, folder_path: Path, **_: Any) -> str:
            pushed[repo_id] = sorted(path.name for path in Path(folder_path).iterdir())
            return "done"

    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi", Api)
    assert HubStudent.of(student).push_to_hub("me/mine") == "done"
    assert pushed == {"me/mine": ["README.md", "config.json", "model.safetensors"]}


def test_fetched(student: FusionStudent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    HubStudent.of(student).save_pretrained(tmp_path)

    def fetch(repo_id: str, filename: str, **_: Any) -> str:
        assert repo_id == "me/mine"
        return str(tmp_path / filename)

    monkeypatch.setattr(hub, "hf_hub_download", fetch)
    monkeypatch.setattr("huggingface_hub.hub_mixin.hf_hub_download", fetch)
    assert same(open_student("me/mine")[0], student)


def test_the_width_is_in_the_weights(tmp_path: Path) -> None:
    HubStudent(4).save_pretrained(tmp_path)
    (tmp_path / "config.json").unlink()
    assert open_student(tmp_path)[0].width == 4


def test_offline_and_unknown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(*_: Any, **__: Any) -> str:
        raise OSError("the network is off")

    monkeypatch.setattr(hub, "hf_hub_download", fail)
    monkeypatch.setattr("huggingface_hub.hub_mixin.hf_hub_download", fail)
    with pytest.raises(WeightsError, match=r"me/mine is no file or folder here, and cannot be fetched .* is off"):
        open_student("me/mine")
    with pytest.raises(WeightsError, match=r"model\.safetensors cannot be opened.* of a run name its student\.safet"):
        open_student(tmp_path)


def test_a_folder_needs_no_library(
    student: FusionStudent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    HubStudent.of(student).save_pretrained(tmp_path)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.delitem(sys.modules, "student.hub")
    assert same(open_student(tmp_path)[0], student)
    assert main(["info", str(tmp_path)]) == 0
    shown = dict(re.split(r"  +", line, maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert shown["weights"] == str(tmp_path)
    assert shown["network"] == "FusionStudent, width 2"
    assert shown["file"].startswith(f"{(tmp_path / 'model.safetensors').stat().st_size:,} bytes")


def test_info_of_a_repository(
    student: FusionStudent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    HubStudent.of(student).save_pretrained(tmp_path)
    monkeypatch.setattr(hub, "hf_hub_download", lambda repo_id, filename, **_: str(tmp_path / filename))
    assert main(["info", "me/mine"]) == 0
    assert "me/mine" in capsys.readouterr().out
