"""An object store as create-only storage, and a whole study in one."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import obstore
import pytest

from backtest_farm.errors import InputError, PlatformError, StoreError
from backtest_farm.storage import AlreadyExists, Missing, S3Storage, open_storage, s3
from tests.soak import s3 as soak
from tests.storage.s3_double import BUCKET, Line, running, unreliable

OPERATIONS = 500


@pytest.fixture(scope="module")
def served() -> Iterator[Line]:
    with running() as line:
        yield line


@pytest.fixture
def line(served: Line) -> Line:
    served.headers.clear()
    served.happened.clear()
    return served


def place(request: pytest.FixtureRequest) -> str:
    return f"s3://{BUCKET}/{request.node.name}"


def test_what_is_put_can_be_read_and_listed_by_prefix(line, request) -> None:
    storage = open_storage(place(request) + "/deep/study/")
    assert open_storage(storage.uri).uri == storage.uri == place(request) + "/deep/study"
    assert storage.list("") == []
    storage.put_new("log/00000001.json", b"one")
    storage.put_new("fragments/ab-1.arrow", b"")
    storage.put_new("fragments/ac-1.arrow", b"two" * 2**20)
    assert storage.read("fragments/ab-1.arrow") == b""
    assert storage.read("fragments/ac-1.arrow") == b"two" * 2**20
    assert storage.list("") == ["fragments/ab-1.arrow", "fragments/ac-1.arrow", "log/00000001.json"]
    assert storage.list("fragments/ab") == ["fragments/ab-1.arrow"]
    assert storage.list("nowhere/") == []
    assert len(storage.list("", limit=2)) == 2
    assert storage.sizes("fragments/") == {"fragments/ab-1.arrow": 0, "fragments/ac-1.arrow": 3 * 2**20}
    with pytest.raises(AlreadyExists, match="never replaced"):
        storage.put_new("log/00000001.json", b"one")
    storage.remove("log/00000001.json")
    storage.remove("log/00000001.json")
    with pytest.raises(Missing, match="is not there"):
        storage.read("log/00000001.json")
    for name in ("", "/a", "../a", "a/.b"):
        with pytest.raises(InputError, match="not a name inside"):
            storage.put_new(name, b"")


def test_puts_are_conditional_and_carry_no_trailers(line, request) -> None:
    """Older servers keep checksum trailers as if they were content."""
    open_storage(place(request)).put_new("a", b"x")
    assert len(line.headers) == 3, "two to try the store, and the one"
    for headers in line.headers:
        assert headers["HTTP_IF_NONE_MATCH"] == "*"
        assert not [name for name in headers if "CHECKSUM" in name or "TRAILER" in name]
        assert "STREAMING" not in headers["HTTP_X_AMZ_CONTENT_SHA256"]


def test_a_store_is_tried_once_a_process_and_before_the_first_write_only(line, request) -> None:
    assert open_storage(place(request)).list("") == []
    assert line.headers == []
    for name in "ab":
        open_storage(place(request)).put_new(name, b"x")
    assert len(line.headers) == 4
    assert open_storage(place(request)).list("") == ["a", "b"]


def test_a_store_that_ignores_the_condition_is_refused(line, request, monkeypatch) -> None:
    monkeypatch.setattr(line, "ignores_conditions", True)
    storage = open_storage(place(request))
    for _ in range(2):
        with pytest.raises(StoreError, match=r"ignores If-None-Match[\s\S]*nothing was written\n  -> use"):
            storage.put_new("a", b"x")
    assert list(obstore.list(storage._client)) == []


def test_a_store_that_gives_back_other_bytes_is_refused(line, request, monkeypatch) -> None:
    storage = S3Storage(place(request))
    read = S3Storage._read
    monkeypatch.setattr(S3Storage, "_read", lambda self, name: (read(self, name) or b"") + b"\r\n0\r\n")
    with pytest.raises(StoreError, match="gives back other bytes"):
        storage.put_new("a", b"x")


def test_every_fifth_request_goes_wrong_and_every_outcome_is_right(line) -> None:
    for seed in range(OPERATIONS // soak.OPERATIONS):
        storage = S3Storage(f"s3://{BUCKET}/operations-{seed}")
        storage.put_new("first", b"")
        storage.remove("first")
        with unreliable(line, seed):
            assert list(soak.wrong(storage, soak.Random(seed))) == [], f"seed {seed}"
    share = 1.0 - line.happened["well"] / line.happened.total()
    assert 0.1 < share < 0.3
    assert all(line.happened[kind] > 3 for kind in ("503", "409", "drop", "drop after", "500 after"))
    assert line.happened["too late"] > 0


def test_an_answer_that_got_lost_is_found_out(line, request, monkeypatch) -> None:
    storage = S3Storage(place(request))
    storage.put_new("other", b"theirs")
    put, calls = obstore.put, []

    def lost(*given, **options):
        calls.append(given[1])
        put(*given, **options)
        if len(calls) == 1:
            raise TimeoutError("no answer")

    monkeypatch.setattr(obstore, "put", lost)
    storage.put_new("a", b"mine")
    assert (calls, storage.read("a")) == (["a", "a"], b"mine")
    with pytest.raises(AlreadyExists):
        storage.put_new("a", b"mine")
    calls.clear()
    with pytest.raises(AlreadyExists):
        storage.put_new("other", b"mine")


def test_what_never_works_is_said_without_secrets(line, request, monkeypatch) -> None:
    storage = S3Storage(place(request))
    storage.put_new("a", b"")
    monkeypatch.setattr(s3, "_WAITS_S", (0.0, 0.0))
    secrets = [os.environ[name] for name in ("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID")]

    def fails(*_, **__):
        raise TimeoutError(f"no answer to {secrets}\nmore")

    monkeypatch.setattr(obstore, "put", fails)
    with pytest.raises(StoreError) as caught:
        storage.put_new("b", b"")
    said = str(caught.value)
    assert "could not write" in said and "no answer" in said and "AWS_ENDPOINT_URL" in said
    assert not any(secret in said for secret in secrets)


def test_wrong_places_are_said(line, request, monkeypatch) -> None:
    for wrong in ("s3://", "s3://x/", "s3://key:secret@bucket/p", "s3://bucket/p?x=1", "s3://Bucket/p"):
        with pytest.raises(InputError, match=r"write s3://bucket/prefix") as caught:
            open_storage(wrong)
        assert "secret" not in str(caught.value)
    with pytest.raises(StoreError, match="could not list s3://not-there-at-all/x: "):
        open_storage("s3://not-there-at-all/x").list("")
    with pytest.raises(StoreError, match=r"could not write s3://not-there-at-all/x/\.probe"):
        open_storage("s3://not-there-at-all/x").put_new("a", b"")
    monkeypatch.setattr(s3, "_WAITS_S", (0.0,))
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(StoreError, match="could not list"):
        open_storage(place(request)).list("")


def test_without_the_extra_it_says_what_to_install(line, request, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    s3._connected.cache_clear()
    with pytest.raises(PlatformError, match=r"pip install 'backtest-farm\[s3\]'"):
        open_storage(place(request)).list("")


def test_sharing_needs_no_lock_and_nobody_is_alone(line, request) -> None:
    storage = open_storage(place(request))
    with storage.hold(alone=False), storage.hold(alone=False):
        pass
    with pytest.raises(StoreError, match="no locks"), storage.hold(alone=True):
        pass


SWEEP = """\
panel: panel
strategy:
  kind: TopN
  signal: {factor: momentum, lookback: [5, 10]}
  n: [1, 2]
  rebalance: 5
"""


def test_a_study_lives_there_as_it_does_in_a_folder(line, tmp_path: Path, monkeypatch, capsys) -> None:
    import backtest_farm as bf
    from backtest_farm.cli.app import run

    monkeypatch.chdir(tmp_path)
    bf.synthetic_panel("panel", n_bars=120, n_assets=8, seed=4)
    Path("sweep.yaml").write_text(SWEEP)
    there = f"s3://{BUCKET}/momentum"

    def said(*words: str, code: int = 0) -> str:
        ended = run([*words])
        out, err = capsys.readouterr()
        assert ended == code, out + err
        return out + err

    for store in (there, "folder"):
        said("sweep", "sweep.yaml", "--store", store, "--executor", "inline")
    assert bf.Study.open(there).digest == bf.Study.open("folder").digest
    assert "nothing to do" in said("sweep", "sweep.yaml", "--store", there, "--executor", "inline")
    assert said("study", "top", there).splitlines()[3:] == said("study", "top", "folder").splitlines()[3:]
    assert "equal to the stored one" in said("study", "replay", there, "2")
    assert "everything is as it was written" in said("study", "verify", there, "--sample", "2")
    said("study", "show", there)
    said("study", "export", there, "rows.csv")
    said("report", there)
    assert Path("momentum.html").stat().st_size > 1000
    assert "no locks" in said("study", "compact", there, code=2)
    with unreliable(line, 1):
        assert bf.Study.open(there).digest == bf.Study.open("folder").digest
