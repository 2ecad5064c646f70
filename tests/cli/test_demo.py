"""The demo: over a thousand trials on local Ray, and nothing left to do the second time."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from tests.cli.conftest import MAIN, Command, environment

SMALL = ("--assets", "60", "--bars", "400", "--workers", "2")


def test_demo(process: Command, tmp_path: Path) -> None:
    home = tmp_path / "home"  # Ray writes its token into the home folder
    home.mkdir()
    env = {"HOME": str(home)}

    first = process("demo", *SMALL, "--dir", "d e m o", "--json", cwd=tmp_path, env=env)
    assert first.code == 0, first.err
    said = first.document
    assert said["summary"]["trials"] == said["summary"]["executed"] == said["summary"]["ok"] == 1152
    assert len(said["leaderboard"]) == 10
    assert set(said["seconds"]) == {"panel", "sweep", "leaderboard"}
    assert any("'d e m o/study'" in line for line in said["next"])

    again = process("demo", *SMALL, "--dir", "d e m o", cwd=tmp_path, env=env)
    assert again.code == 0, again.err
    assert "0 run, 1,152 already there" in again.out
    assert said["summary"]["digest"] in again.out
    for verb in ("study top", "study replay", "panel build", "backtest-farm sweep"):
        assert verb in again.out

    # A file that somebody changed is theirs.
    changed = tmp_path / "d e m o" / "sweep.yaml"
    changed.write_text(changed.read_text() + "# mine\n")
    refused = process("demo", *SMALL, "--dir", "d e m o", cwd=tmp_path, env=env)
    assert refused.code == 2
    assert "sweep.yaml" in refused.err
    assert changed.read_text().endswith("# mine\n")


def test_ctrl_c_leaves_with_130_and_the_demo_goes_on_from_there(process: Command, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    env = {"HOME": str(home)}
    running = subprocess.Popen(
        [sys.executable, "-c", MAIN, "demo", *SMALL],
        cwd=tmp_path,
        env=environment(env),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert running.stderr is not None
    for line in running.stderr:
        if "waiting for the first task" in line:  # Ray is up, and workers are at it
            break
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=60)
    assert running.returncode == 130, err
    assert out == ""
    assert "Error: interrupted" in err

    again = process("demo", *SMALL, "--json", cwd=tmp_path, env=env)
    assert again.code == 0, again.err
    summary = again.document["summary"]
    assert summary["ok"] == summary["trials"] == summary["executed"] + summary["reused"]
