import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments.studies.action_signal import FRACTIONS, NEAR, REGIONS, explained_by_weight, main, variance_shares
from fusion_env.action import ACTION_NAMES
from fusion_env.errors import ConfigError

ACTIONS, STREAMS = 12, 6


def numbers(row: dict[str, str]) -> list[float]:
    return [float(row[f"action_{name}"]) for name in ACTION_NAMES]


def test_returns_that_depend_on_the_action_only() -> None:
    shares = variance_shares(np.repeat(np.arange(4.0)[:, None], 3, axis=1))
    assert shares.action == pytest.approx(1)
    assert shares.stream == shares.rest == pytest.approx(0)
    assert shares.deviation == pytest.approx(np.arange(4.0).std())


def test_returns_that_depend_on_the_stream_only() -> None:
    assert variance_shares(np.repeat(np.arange(4.0)[None], 3, axis=0)).stream == pytest.approx(1)


def test_constant_returns() -> None:
    assert vars(variance_shares(np.ones((4, 3)))) == {"action": 0, "stream": 0, "rest": 0, "deviation": 0}


def test_estimates_are_not_biased_by_noise() -> None:
    rng = np.random.default_rng(0)
    pure_noise, half = [], []
    for _ in range(200):
        noise = rng.normal(size=(ACTIONS, STREAMS))
        shares = variance_shares(noise)
        assert shares.action + shares.stream + shares.rest == pytest.approx(1)
        pure_noise.append(shares.action)
        half.append(variance_shares(noise + rng.normal(size=(ACTIONS, 1))).action)
    assert np.mean(pure_noise) < 0.05  # the plain ratio of the sums of squares would be 11 / 71
    assert np.mean(half) == pytest.approx(0.5, abs=0.06)


def test_what_the_weights_alone_explain() -> None:
    rng = np.random.default_rng(0)
    weights = rng.uniform(size=200)
    curve = (2 * weights - weights**2)[:, None].repeat(3, axis=1)
    assert explained_by_weight(curve, weights) == pytest.approx(1)
    other = rng.normal(size=(200, 1)) * curve.std()
    assert explained_by_weight(curve + other, weights) == pytest.approx(0.5, abs=0.1)
    assert explained_by_weight(other.repeat(3, axis=1), weights) < 0.05
    assert explained_by_weight(np.ones((4, 2)), weights[:4]) == 0


@pytest.mark.parametrize(("option", "low"), [("actions", 4), ("streams", 2), ("horizon", 1)])
def test_numbers_that_say_nothing_are_refused(tmp_path: Path, option: str, low: int) -> None:
    with pytest.raises(ConfigError, match=f"{option} must be at least {low}. Got {low - 1}"):
        main(["--preset", "tiny", f"--{option}", str(low - 1), "--out", str(tmp_path)])


@pytest.mark.slow
def test_the_command(cache: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    common = ["--preset", "tiny", "--cache-dir", cache, "--threads", "1", "--rounds", "4"]
    common += ["--batch-size", "1", "--score-crops", "1"]
    arguments = [*common, "--actions", "4", "--streams", "2", "--horizon", "1"]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 0
    rows = list(csv.DictReader((tmp_path / "out" / "action_signal.csv").open()))
    assert len(rows) == len(FRACTIONS) * len(REGIONS) * 4 * 2
    printed = capsys.readouterr().out
    assert printed.count("| gap |") == printed.count("| gap_delta |") == len(FRACTIONS) * len(REGIONS)

    for fraction in map(str, FRACTIONS):
        here = [row for row in rows if row["fraction"] == fraction]
        means = {(row["region"], row["action"]): 0.0 for row in here}
        for row in here:
            means[row["region"], row["action"]] += float(row["gap"])
        best = max((key for key in means if key[0] == "all"), key=lambda key: means[key])
        (centre, *_) = [numbers(row) for row in here if (row["region"], row["action"]) == best]
        near = np.array([numbers(row) for row in here if row["region"] == "near"])
        assert (np.abs(near - centre) <= NEAR + 1e-6).all()
        assert len(np.unique(near, axis=0)) == 4

    for row in rows:
        logits = float(row["action_guidance_logit"]) - float(row["action_self_learning_logit"])
        assert float(row["guidance_weight"]) == pytest.approx(1 / (1 + np.exp(-3 * logits)))

    # The table again, from the file, by the textbook's sums of squares.
    here = np.array([float(row["gap"]) for row in rows if (row["fraction"], row["region"]) == ("0.5", "near")]).reshape(
        4, 2
    )
    action = 2 * ((here.mean(1) - here.mean()) ** 2).sum()
    stream = 4 * ((here.mean(0) - here.mean()) ** 2).sum()
    total = ((here - here.mean()) ** 2).sum()
    error = (total - action - stream) / 3
    expected = max(0, (action - 3 * error) / (total + error))
    (line,) = [line for line in printed.splitlines() if "| near | 50% | gap |" in line]
    assert float(line.split("|")[5]) == pytest.approx(expected, abs=0.006)

    assert np.asarray(Image.open(tmp_path / "out" / "action_signal.png")).std() > 10
    main([*arguments, "--out", str(tmp_path / "again")])
    assert (tmp_path / "again" / "action_signal.csv").read_text() == (
        tmp_path / "out" / "action_signal.csv"
    ).read_text()

    with pytest.raises(ConfigError, match="too short"):
        main([*arguments, "--horizon", "2", "--out", str(tmp_path / "x")])
