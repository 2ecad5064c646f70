"""``study ls``, ``show``, ``top``, ``verify``, ``export`` and ``report``, of one sweep and of several."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from backtest_farm.store import StudyStore, write_fragment
from tests.cli.conftest import SWEEP, Command


@pytest.fixture(scope="module")
def grown(studied: Path, tmp_path_factory: pytest.TempPathFactory, farm: Command) -> Path:
    """A folder with a study of two sweeps."""
    folder = tmp_path_factory.mktemp("grown")
    for name in ("panel", "study"):
        shutil.copytree(studied / name, folder / name)
    (folder / "sweep.yaml").write_text(SWEEP.replace("n: [1, 2]", "n: [1, 2, 3]"))
    words = ("--store", "study", "--executor", "inline", "--extend")
    done = farm("sweep", "sweep.yaml", *words, cwd=folder)
    assert done.code == 0, done.err
    return folder


@pytest.fixture(scope="module")
def failing(tmp_path_factory: pytest.TempPathFactory, farm: Command) -> Path:
    """A folder with a study of which some trials failed: BOOM is bought at 1e-200 and quoted at 1e200."""
    folder = tmp_path_factory.mktemp("failing")
    rows = ["timestamp,symbol,open,high,low,close"]
    for bar, day in enumerate(np.arange("2021-03-01", "2021-03-20", dtype="datetime64[D]")):
        boom = 1e-200 * 1.1**bar if bar < 12 else 1e200
        rows += [f"{day},{name},{x!r},{x!r},{x!r},{x!r}" for name, x in (("BOOM", boom), ("FLAT", 10.0))]
    (folder / "prices.csv").write_text("\n".join(rows) + "\n")
    (folder / "sweep.yaml").write_text(SWEEP)
    assert farm("panel", "build", "prices.csv", "panel", cwd=folder).code == 0
    return folder


def test_failed_trials_are_1_and_are_told_with_their_error(failing: Path, farm: Command) -> None:
    words = ("sweep", "sweep.yaml", "--store", "study", "--executor", "inline")
    done = farm(*words, cwd=failing)
    assert done.code == 1, done.err
    assert "what failed: backtest-farm study show study" in done.out
    assert "--retry-failed" in done.out
    counts = farm(*words, "--json", cwd=failing)
    assert counts.code == 1
    said = counts.document
    assert said["error"] == said["trials"] - said["ok"] > 0

    shown = farm("study", "show", "study", cwd=failing)
    assert shown.code == 0, shown.err
    assert f"of {said['error']} failed trials" in shown.out
    assert "equity was not a finite number" in shown.out
    again = farm(*words, "--retry-failed", "--json", cwd=failing)
    assert (again.code, again.document["executed"]) == (1, said["error"])
    assert again.document["digest"] == said["digest"]


def test_show_tells_the_history(grown: Path, farm: Command) -> None:
    said = farm("study", "show", "study", "--json", cwd=grown).document
    assert [row["trials"] for row in said["sweeps"]] == [8, 12]
    assert said["sweeps"][1]["reused"] == 8
    people = farm("study", "show", "study", cwd=grown)
    assert people.code == 0, people.err
    for text in ("history: 2 sweeps", "12 of 12 trials: 12 ok", "signal.lookback", said["summary"]["digest"]):
        assert text in people.out


def test_a_sweep_of_the_history_is_named_by_number_or_first_digits(grown: Path, farm: Command) -> None:
    sweeps = farm("study", "show", "study", "--json", cwd=grown).document["sweeps"]
    whole = [farm("study", "top", "study", "-n", 20, *words, "--json", cwd=grown) for words in (
        (), ("--sweep", 1), ("--sweep", sweeps[0]["sweep"][:12]), ("--sweep", 2),
    )]  # fmt: skip
    assert [len(done.document["trials"]) for done in whole] == [12, 8, 8, 12]
    missing = farm("study", "top", "study", "--sweep", 9, cwd=grown)
    assert missing.code == 2
    assert "9" in missing.err


def test_show_of_a_trial_has_parameters_metrics_and_no_internal_sums(studied: Path, farm: Command) -> None:
    done = farm("study", "show", "study", 3, cwd=studied)
    assert done.code == 0, done.err
    for word in ("signal.lookback", "costs.commission_bps", "sharpe", "window_start", "universe"):
        assert word in done.out
    assert "segment" not in done.out
    row = farm("study", "show", "study", 3, "--json", cwd=studied).document
    assert row["trial"] == 3
    by_key = farm("study", "show", "study", row["key"], cwd=studied)
    assert by_key.out.replace(row["key"], "3") == done.out.replace(row["key"], "3")


def test_ls_lists_studies_and_names_those_that_it_cannot_read(grown: Path, farm: Command) -> None:
    broken = grown / "broken" / "sweeps"
    broken.mkdir(parents=True)
    (broken / "x.json").write_text("{}")
    try:
        done = farm("study", "ls", ".", "--json", cwd=grown)
        people = farm("study", "ls", ".", cwd=grown)
    finally:
        shutil.rmtree(grown / "broken")
    assert done.code == 0, done.err
    rows = {row["study"]: row for row in done.document["studies"]}
    assert (rows["study"]["sweeps"], rows["study"]["trials"], rows["study"]["failed"]) == (2, 12, 0)
    assert rows["broken"]["error"]
    assert "broken cannot be read" in people.out
    assert "2 studies in ." in people.out


def test_ls_of_a_folder_without_studies_is_empty(farm: Command, tmp_path: Path) -> None:
    done = farm("study", "ls", ".", cwd=tmp_path)
    assert (done.code, "0 studies" in done.out) == (0, True)


def test_export_writes_all_rows(studied: Path, farm: Command, tmp_path: Path) -> None:
    for name, read in (("a.parquet", pl.read_parquet), ("a.csv", pl.read_csv), ("a.arrow", pl.read_ipc)):
        done = farm("study", "export", "study", tmp_path / name, "--json", cwd=studied)
        assert done.code == 0, done.err
        assert read(tmp_path / name).height == done.document["rows"] == 8


def test_verify_reads_everything_and_runs_some_again(studied: Path, farm: Command) -> None:
    done = farm("study", "verify", "study", "--sample", 2, "--json", cwd=studied)
    assert done.code == 0, done.err
    assert len(done.document["replayed"]) == 2
    assert done.document["rows"] == 8
    people = farm("study", "verify", "study", cwd=studied)
    assert "everything is as it was written" in people.out


def test_verify_of_a_damaged_study_is_2_and_names_the_file(
    studied: Path, farm: Command, tmp_path: Path
) -> None:
    shutil.copytree(studied / "study", tmp_path / "study")
    fragment = next((tmp_path / "study" / "fragments").rglob("*.arrow"))
    fragment.chmod(0o644)
    fragment.write_bytes(fragment.read_bytes()[:-7])
    done = farm("study", "verify", "study", cwd=tmp_path)
    assert done.code == 2, done.out
    assert fragment.name in done.err


def test_compact_says_what_it_did_and_then_that_there_is_nothing_to_do(
    grown: Path, farm: Command, tmp_path: Path
) -> None:
    shutil.copytree(grown / "study", tmp_path / "study")
    before = farm("study", "top", "study", "--json", cwd=tmp_path).document
    done = farm("study", "compact", "study", "--json", cwd=tmp_path)
    assert done.code == 0, done.err
    said = done.document
    assert (said["fragments_before"], said["fragments_after"], said["removed"]) == (4, 2, 4)
    assert said["bytes_before"] > said["bytes_after"] > 0
    assert said["digest"] == before["digest"]
    again = farm("study", "compact", "study", cwd=tmp_path)
    assert (again.code, again.out.startswith("study: nothing to do: 2 fragments of ")) == (0, True)
    assert farm("study", "compact", "study", "--json", cwd=tmp_path).document["removed"] == 0
    assert farm("study", "top", "study", "--json", cwd=tmp_path).document == before
    assert farm("study", "verify", "study", cwd=tmp_path).code == 0
    shutil.rmtree(tmp_path / "study")
    shutil.copytree(grown / "study", tmp_path / "study")
    people = farm("study", "compact", "study", cwd=tmp_path)
    assert re.match(
        r"study: 4 fragments of [\d.]+ KiB are now 2 fragments of [\d.]+ KiB, 4 files removed", people.out
    )


def test_compact_while_a_sweep_runs_is_2(grown: Path, farm: Command) -> None:
    from backtest_farm.storage import open_storage

    with open_storage(grown / "study").hold(alone=False):
        done = farm("study", "compact", "study", cwd=grown)
    assert done.code == 2
    assert "a sweep or a compaction is at work in" in done.err and "wait until it has ended" in done.err


def test_replay_finds_a_panel_that_moved(studied: Path, farm: Command, tmp_path: Path) -> None:
    for name in ("panel", "study", "sweep.yaml"):
        source = studied / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    (tmp_path / "panel").rename(tmp_path / "moved")
    # The frozen sweep still names the panel of the folder it was run in; that one is there, so hide it.
    hidden = studied / "panel hidden"
    (studied / "panel").rename(hidden)
    try:
        lost = farm("study", "replay", "study", 0, cwd=tmp_path)
        found = farm("study", "replay", "study", 0, "--panel", "moved", "--trades", "t.csv", cwd=tmp_path)
    finally:
        hidden.rename(studied / "panel")
    assert lost.code == 2
    assert "panel" in lost.err
    assert found.code == 0, found.err
    assert "equal to the stored one" in found.out
    assert pl.read_csv(tmp_path / "t.csv").height > 0


def test_report_is_one_html_file(studied: Path, farm: Command, tmp_path: Path) -> None:
    done = farm("report", "study", "--out", tmp_path / "a.html", cwd=studied)
    assert done.code == 0, done.err
    assert "leaderboard" in (tmp_path / "a.html").read_text().lower()


def test_report_is_named_after_the_study(studied: Path, farm: Command, tmp_path: Path) -> None:
    done = farm("report", studied / "study" / ".", "--json", cwd=tmp_path)
    assert done.code == 0, done.err
    assert (tmp_path / "study.html").exists()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("study show study 99", "99"),
        ("study show study --sweep nonsense", "nonsense"),
        ("study show nowhere", "nowhere"),
        ("study ls nowhere", "nowhere"),
        ("study export study rows.xlsx", ".xlsx"),
        ("study export study no/where.csv", "where"),
        ("study verify nowhere", "nowhere"),
        ("study compact nowhere", "nowhere"),
        ("study verify study --sample -1", "--sample"),
        ("study replay study 0 --panel nowhere", "nowhere"),
        ("report nowhere", "nowhere"),
        ("report study --out a.pdf", ".pdf"),
        ("report study --out no/a.html", "no"),
    ],
)
def test_what_is_wrong_is_2_and_named(line: str, said: str, studied: Path, farm: Command) -> None:
    done = farm(*line.split(), cwd=studied)
    assert done.code == 2, done.err
    assert said in done.err
    assert "internal error" not in done.err


def test_a_damaged_log_is_told_by_every_verb_and_repaired(
    studied: Path, farm: Command, tmp_path: Path
) -> None:
    shutil.copytree(studied / "study", tmp_path / "study")
    before = farm("study", "top", "study", "--json", cwd=tmp_path).document
    record = sorted((tmp_path / "study" / "log").iterdir())[-1]
    record.write_bytes(record.read_bytes()[:-9])
    for verb in ("top", "show", "verify"):
        done = farm("study", verb, "study", cwd=tmp_path)
        assert (done.code, record.name in done.err, "study repair" in done.err) == (2, True, True)
    said = farm("study", "repair", "study", "--dry-run", cwd=tmp_path)
    assert said.code == 0 and "what a repair would do" in said.out and record.name in said.out
    assert farm("study", "top", "study", cwd=tmp_path).code == 2, "nothing was done yet"
    done = farm("study", "repair", "study", "--json", cwd=tmp_path)
    # How many rows the last commit told of is a matter of time.
    assert (done.code, done.document["rebuilt"] > 0, done.document["lost"]) == (0, True, 0)
    assert farm("study", "top", "study", "--json", cwd=tmp_path).document == before
    again = farm("study", "repair", "study", cwd=tmp_path)
    assert (again.code, "there is nothing to repair" in again.out) == (0, True)


def test_two_results_are_shown_and_explained(studied: Path, farm: Command, tmp_path: Path) -> None:
    shutil.copytree(studied / "study", tmp_path / "study")
    calm = farm("study", "explain", "study", cwd=tmp_path)
    assert (calm.code, calm.out.strip()) == (0, "study: no trials gave two results")
    assert "FLAGGED" not in farm("study", "show", "study", cwd=tmp_path).out
    store = StudyStore.open(tmp_path / "study")
    rows = store.rows(0)
    doubled = [2 * value for value in rows["turnover"].to_pylist()]
    other = rows.set_column(rows.column_names.index("turnover"), "turnover", [doubled])
    store.commit([write_fragment(store.storage, store.sweep_id, 0, other)])
    shown = farm("study", "show", "study", cwd=tmp_path)
    assert (shown.code, "backtest-farm study explain study" in shown.out) == (0, True)
    said = farm("study", "explain", "study", cwd=tmp_path)
    assert said.code == 0 and "turnover" in said.out and "random draw" in said.out
    [found] = farm("study", "explain", "study", "--json", cwd=tmp_path).document["impure"]
    assert (found["column"], found["trials"]) == ("turnover", rows.num_rows)
    assert farm("study", "verify", "study", cwd=tmp_path).code == 2
