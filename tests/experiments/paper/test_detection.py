"""Table 2: what detectors read, and the arithmetic of their numbers; training itself needs Ultralytics."""

import csv
import subprocess
import sys
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from experiments.detection import main
from experiments.paper import detection as tables
from experiments.paper import detection_page as pages
from experiments.paper.detection import DATA, RECIPES, labelled_pairs, make
from experiments.paper.detection_images import parts_of, write_lists, write_pair
from experiments.paper.detection_page import results_table, seed_noise, seeds_needed
from experiments.paper.detection_picture import Seen, draw_seen
from experiments.paper.detection_training import MEASURES, Training, train_detector
from experiments.paper.methods import classical_methods
from experiments.paper.order import Order
from fusion_env.data import ProceduralScenes, named, read_boxes, write_png
from fusion_env.data.split_scenes import SplitScenes
from fusion_env.errors import ConfigError, DataError, FusionEnvError, MissingRequirementsError, UnknownNameError

SCENES = SplitScenes(10, 64, 80, seed=3)


def row(method: str, seed: int, value: float) -> dict:
    return {"method": method, "seed": seed, **dict.fromkeys(MEASURES, value)}


def test_reward_and_report_are_tested_on() -> None:
    parts = parts_of(SCENES)
    assert parts == {"train": tuple(range(8)), "test": (8, 9)}


def test_a_published_set_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingRequirementsError, match=r"M3FD .*is not in .*--data-root"):
        labelled_pairs(DATA, tmp_path / "m3fd")
    with pytest.raises(UnknownNameError, match="m3fd-detection"):
        labelled_pairs("m3fd-detektion")


def test_an_order_says_what_is_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple] = []
    monkeypatch.setattr(tables, "detection", lambda *args, **_: calls.append(args) or args[4])
    monkeypatch.setattr(tables, "ordered_methods", lambda order: classical_methods())
    assert make(Order(tmp_path, seeds=(7,))) == tmp_path / "table2"
    assert (calls[0][1].name, calls[0][2], calls[0][3]) == ("procedural", RECIPES["demo"], (7,))
    with pytest.raises(MissingRequirementsError, match="M3FD"):
        make(Order(tmp_path, preset="paper", data_root=tmp_path))


def test_pairs_without_boxes_or_lists_are_refused(tmp_path: Path) -> None:
    for side, shape in (("ir", (8, 9)), ("vi", (8, 9, 3))):
        write_png(tmp_path / side / "a.png", np.zeros(shape, np.uint8))
    with pytest.raises(ConfigError, match="has no boxes"):
        parts_of(named("roadscene", tmp_path))
    with pytest.raises(ConfigError, match=r"no lists.*train\.txt"):
        parts_of(ProceduralScenes(3, 64, 80))


def test_a_seed_that_is_given_twice_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "check_installed", lambda: None)
    with pytest.raises(ConfigError, match=r"seeds must name each once. Got \(0, 1, 0\)"):
        tables.detection(classical_methods(), SCENES, RECIPES["demo"], (0, 1, 0), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_all_faults_are_told_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "check_installed", lambda: None)
    for part, stems in (("train", ("010001", "010002")), ("test", ("190001",))):
        for stem in stems:
            for side, shape in (("infrared", (8, 9)), ("visible", (8, 9, 3))):
                write_png(tmp_path / side / part / f"{stem}.png", np.zeros(shape, np.uint8))
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "Annotations" / "010002.txt").write_text("7 0.5 0.5 0.2 0.2")
    source = named("llvip", tmp_path)
    with pytest.raises(DataError, match=r"no file of labels for 'train_010001'.*of class 7.*'test_190001'"):
        tables.detection(classical_methods(), source, RECIPES["demo"], (0,), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (tmp_path / "infrared" / "train" / "010001.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"llvip in .* faults that change the numbers: .*the file is empty"):
        labelled_pairs("llvip", tmp_path)


def test_images_and_boxes_lie_as_a_detector_reads_them(tmp_path: Path) -> None:
    method, parts = classical_methods()[0], {"train": (0,), "test": (9,)}
    stale = tmp_path / method.name / "images" / "train" / "stale.png"
    write_png(stale, np.zeros((8, 8), np.uint8))
    count = sum(write_pair(SCENES, part, indices[0], [method], tmp_path) for part, indices in parts.items())
    write_lists(SCENES, parts, [method], tmp_path)
    told = yaml.safe_load((tmp_path / method.name / "data.yaml").read_text())
    root = Path(told["path"])
    assert told["names"] == {0: "person", 1: "vehicle"}
    boxes = {index: SCENES.boxes(index) for indices in parts.values() for index in indices}
    assert count == sum(map(len, boxes.values())) > 0
    for key, part in (("train", "train"), ("val", "test")):
        folder = root / "images" / part
        assert (root / told[key]).read_text() == f"./images/{part}/{SCENES.names[parts[part][0]]}.png\n"  # no stale one
        for index in parts[part]:
            name, pair = SCENES.names[index], SCENES.load(index)
            pixels = np.array(Image.open(folder / f"{name}.png")).transpose(2, 0, 1)
            np.testing.assert_array_equal(pixels, method.fuse("", pair).numpy())  # RGB, not BGR
            label = root / "labels" / part / f"{name}.txt"
            for read, written in zip(read_boxes(label, (64, 80), SCENES.classes), boxes[index], strict=True):
                assert read.label == written.label
                corners = [(box.left, box.top, box.right, box.bottom) for box in (read, written)]
                np.testing.assert_allclose(*corners, atol=1e-4)


def test_the_table_pairs_detectors_by_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "interval", partial(pages.interval, resamples=20))
    values = {"average": (0.1, 0.2, 0.3), "student": (0.2, 0.3, 0.4)}
    rows = [row(method, seed, value) for method, scores in values.items() for seed, value in enumerate(scores)]
    lines = [line.split(" | ") for line in results_table(rows).splitlines()]
    assert [line[0] for line in lines[2:]] == ["| average", "| student", "| *deviation between seeds*"]
    assert lines[2][2].startswith("0.200 [")
    assert lines[2][5] == "-"
    assert lines[3][5] == "0.100 [0.100, 0.100]"  # the same for every seed: no chance in it
    assert lines[4][2] == "0.100"


def test_noise_between_seeds_is_pooled_over_methods() -> None:
    rows = [row("a", 0, 0.0), row("a", 1, 2.0), row("b", 0, 5.0), row("b", 1, 5.0), row("b", 2, 5.0)]
    assert seed_noise(rows, "map") == pytest.approx((2.0 / 3) ** 0.5)
    assert np.isnan(seed_noise(rows[:1], "map"))
    assert seeds_needed(0.0, 0.01) == 0
    assert seeds_needed(0.02, 0.01) == 31  # 2 * (1.96 * 2) ** 2 = 30.7


def test_boxes_are_drawn(tmp_path: Path) -> None:
    image = np.zeros((20, 30, 3), np.uint8)
    draw_seen([Seen("a", image, [("car", 2, 3, 9, 12)], [])], tmp_path / "boxes.png")
    drawn = np.array(Image.open(tmp_path / "boxes.png").convert("RGB"))
    red = (drawn == (214, 39, 40)).all(2)
    assert red.any()


def test_a_detector_whose_process_dies_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Pool:
        def __init__(self, *_: object, **options: object) -> None:
            self._processes: dict = {}

        def submit(self, *_: object) -> None:
            raise BrokenProcessPool

        def shutdown(self, **options: object) -> None:
            pass

    monkeypatch.setattr("experiments.paper.detection_training.ProcessPoolExecutor", Pool)
    with pytest.raises(FusionEnvError, match=r"the detector in .*average-0 died.*goes on"):
        train_detector(Training(tmp_path, tmp_path / "average-0", RECIPES["demo"], 0, "cpu", 1))


def test_without_ultralytics_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("experiments.paper.detection_training.find_spec", lambda name: None)
    options = "--scenes 3 --size 64 80 --classical average --teachers --students"
    with pytest.raises(MissingRequirementsError, match=r"-e .\.\[detect\]"):
        main([*options.split(), "--out", str(tmp_path / "o")])
    assert not (tmp_path / "o").exists()


@pytest.mark.slow
def test_the_command_imports_nothing_of_ultralytics() -> None:
    code = "import sys, experiments.detection; sys.exit('ultralytics' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=300).returncode == 0


@pytest.mark.slow
# Not importorskip: Ultralytics writes into the home of the process that imports it.
@pytest.mark.skipif(find_spec("ultralytics") is None, reason="needs pip install -e '.[detect]'")
def test_two_methods_for_two_epochs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    home.mkdir()
    for name in ("HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(home))
    monkeypatch.chdir(home)
    out = tmp_path / "out"
    options = "--scenes 10 --size 64 80 --teachers --students --epochs 2 --image-size 64 --batch 4 --seeds 0"
    command = [*options.split(), "--device", "cpu", "--threads", "1", "--out", str(out)]
    assert main(command) == 0
    with (out / "raw.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["method"] for row in rows] == ["average", "laplacian"]
    assert all(0 <= float(row[measure]) <= 1 for row in rows for measure in MEASURES)
    assert (out / "detectors" / "average-0" / "boxes.png").exists()
    # Nothing outside the folder of results, but for the fonts that Matplotlib remembers.
    assert not [path for path in home.rglob("*") if path.is_file() and "matplotlib" not in path.parts]
    page = (out / "table2.md").read_text()
    assert main(command) == 0
    assert (out / "table2.md").read_text() == page
