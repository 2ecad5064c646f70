"""Fragments: same rows, same file; and no damaged byte gets as far as the parser."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from backtest_farm.errors import StoreError
from backtest_farm.identity import digest_bytes
from backtest_farm.storage import LocalStorage, Missing
from backtest_farm.store import Fragment, arrow_file, read_fragment, write_fragment

SWEEP = "0123456789abcdef0123456789abcdef"


def rows(n: int = 8) -> pa.Table:
    values = np.random.default_rng(1).normal(size=n)
    values[0] = np.nan
    status = ["error" if i == 2 else "ok" for i in range(n)]
    return pa.table({"trial": np.arange(n), "status": status, "sharpe": values})


def test_the_name_says_sweep_atom_and_content(tmp_path: Path) -> None:
    fragment = write_fragment(LocalStorage(tmp_path), SWEEP, 7, rows())
    assert fragment.name == f"fragments/0123456789ab-000007-{fragment.sha256[:16]}.arrow"
    assert (fragment.atom, fragment.rows, fragment.failed) == (7, 8, 1)
    assert fragment.bytes == (tmp_path / fragment.name).stat().st_size
    assert Fragment.from_dict({**fragment._asdict(), "pid": 1}) == fragment
    assert write_fragment(LocalStorage(tmp_path), SWEEP, 7, rows(), copied=3) == fragment._replace(copied=3)


def test_values_come_back_bit_by_bit(tmp_path: Path) -> None:
    storage, table = LocalStorage(tmp_path), rows()
    back = read_fragment(storage, write_fragment(storage, SWEEP, 0, table).name)
    assert back.schema == table.schema
    for name in table.column_names:
        if name != "status":
            assert back[name].to_numpy().tobytes() == table[name].to_numpy().tobytes()
    assert back["status"].to_pylist() == table["status"].to_pylist()


def test_a_retried_atom_finds_its_own_file(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    first = write_fragment(storage, SWEEP, 7, rows())
    whole = rows(20)
    chunked = pa.concat_tables([whole.slice(0, 3), whole.slice(3, 5), whole.slice(8, 0)])
    assert chunked.column("trial").num_chunks > 1
    assert write_fragment(storage, SWEEP, 7, rows()) == first
    assert write_fragment(storage, SWEEP, 8, chunked) == write_fragment(storage, SWEEP, 8, whole.slice(0, 8))
    assert len(storage.list("fragments/")) == 2


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())]
)
def test_failed_rows_are_counted_whatever_the_string_type(tmp_path: Path, kind: pa.DataType) -> None:
    table = rows().set_column(1, "status", rows()["status"].combine_chunks().cast(kind))
    assert write_fragment(LocalStorage(tmp_path), SWEEP, 0, table).failed == 1
    assert write_fragment(LocalStorage(tmp_path), SWEEP, 1, table.slice(0, 0)).failed == 0


def test_every_flipped_byte_is_noticed_before_parsing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = LocalStorage(tmp_path)
    fragment = write_fragment(storage, SWEEP, 7, rows())
    path = tmp_path / fragment.name
    whole = path.read_bytes()
    monkeypatch.setattr(arrow_file.pa.ipc, "open_file", lambda *_: pytest.fail("it was parsed"))
    for place in range(0, len(whole), max(1, len(whole) // 50)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(StoreError, match="damaged"):
            read_fragment(storage, fragment.name, fragment.sha256)
    for length in (0, 1, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(StoreError, match=f"damaged: {length} bytes"):
            read_fragment(storage, fragment.name, fragment.sha256)
    path.unlink()
    with pytest.raises(Missing):
        read_fragment(storage, fragment.name)


def test_a_damaged_file_under_the_right_name_is_not_taken_for_ours(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    fragment = write_fragment(storage, SWEEP, 7, rows())
    (tmp_path / fragment.name).write_bytes(b"torn")
    with pytest.raises(StoreError, match="damaged"):
        write_fragment(storage, SWEEP, 7, rows())


def test_bytes_with_the_right_hash_are_still_validated() -> None:
    with pytest.raises(StoreError, match=r"not a valid Arrow file[\s\S]*mend it"):
        arrow_file.table_from_bytes(b"ARROW1 no", digest_bytes(b"ARROW1 no"), "x", "mend it")
    # String offsets that run backwards parse, and only a full validation notices.
    sink = pa.BufferOutputStream()
    table = pa.table({"key": pa.array(["abcd", "efgh"])})
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    data = sink.getvalue().to_pybytes()
    good = np.array([0, 4, 8], dtype=np.int32).tobytes()
    assert data.count(good) == 1
    bad = data.replace(good, np.array([0, 9, 8], dtype=np.int32).tobytes())
    with pytest.raises(StoreError, match=r"not a valid Arrow file[\s\S]*mend it"):
        arrow_file.table_from_bytes(bad, digest_bytes(bad), "x", "mend it")
