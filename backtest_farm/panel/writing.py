"""Writing: arrays become blocks of a snapshot, later bars the blocks of the next one, many blocks few."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from backtest_farm.errors import InputError
from backtest_farm.ingest.attached import continued, missing_fields
from backtest_farm.ingest.calendars import survey_sessions
from backtest_farm.ingest.clock import bars_in_a_year
from backtest_farm.ingest.memory import block_bytes
from backtest_farm.ingest.readers import OnFault, Reading, ReadOptions, read_later, stream
from backtest_farm.panel.block import damaged
from backtest_farm.panel.field import Field, Piece
from backtest_farm.panel.folder import PanelFolder
from backtest_farm.panel.layout import tidy
from backtest_farm.panel.manifest import Manifest

Arrays = dict[str, np.ndarray]


def cut(arrays: Arrays) -> Iterator[tuple[int, Arrays]]:
    """Yield (first bar, arrays) in pieces that fit into blocks."""
    n_bars, n_assets = next(iter(arrays.values())).shape
    rows = _rows_of_block(n_assets, len(arrays))
    for first in range(0, n_bars, rows):
        yield first, {name: values[first : first + rows] for name, values in arrays.items()}


def _rows_of_block(n_assets: int, n_fields: int) -> int:
    return max(1, block_bytes() // (8 * n_assets * n_fields))


def write(
    folder: PanelFolder,
    room: Path,
    timestamps: np.ndarray,
    symbols: tuple[str, ...],
    blocks: Iterable[tuple[int, Arrays]],
    before: Mapping[str, Field],
) -> dict[str, Field]:
    """Write blocks to `room`, and return the fields of `before` continued by them."""
    fields = {name: field.widened(symbols) for name, field in before.items()}
    for first, arrays in blocks:
        # Taken out one by one, and all of them let go before the next block is read.
        tidied = {name: tidy(arrays.pop(name)) for name in sorted(arrays)}
        n_bars, n_assets = next(iter(tidied.values())).shape
        bars = timestamps[first : first + n_bars]
        with ThreadPoolExecutor(1) as beside:  # the bars are hashed while their file is written
            drafting = beside.submit(folder.draft_block, room, bars, symbols, tidied)
            old = {name: fields.get(name, Field.empty(symbols)) for name in tidied}
            news = {name: old[name].after(first, values) for name, values in tidied.items()}
            block = drafting.result()
        del tidied
        for name, (chain, since) in news.items():
            piece = Piece(first, n_bars, n_assets, name, block, chain)
            fields[name] = old[name].with_piece(piece, since)
    return dict(sorted(fields.items()))


def build(
    folder: PanelFolder,
    source: Any,
    on_fault: OnFault,
    ends: Any,
    bars_per_year: float | None,
    calendar: str | None,
    options: Mapping[str, Any],
) -> str:
    """Write the bars of `source` as a panel's first snapshot; see `Panel.build`."""
    _refuse_panel(source)
    folder.refuse_foreign()
    with folder.drafting() as room:
        how = ReadOptions.of(**options)
        reading = stream(source, on_fault, ends, how, max_bytes=block_bytes(), scratch=room)
        yearly = bars_in_a_year(reading.timestamps) if bars_per_year is None else float(bars_per_year)
        if not 0 < yearly < float("inf"):
            raise InputError(f"bars_per_year is {yearly}: give a positive number")
        empty = Manifest(
            reading.timestamps, reading.symbols, yearly, reading.ends, calendar, dict(reading.statics)
        )
        return _publish(folder, room, empty, reading, folder.refuse_other)


def append(
    folder: PanelFolder,
    snapshot: str,
    old: Manifest,
    source: Any,
    on_fault: OnFault,
    options: Mapping[str, Any],
) -> str:
    """Write the later bars of `source` behind those of a snapshot; see `Panel.append`."""
    _refuse_panel(source)
    folder.refuse_stale(snapshot)
    how, last = ReadOptions.of(**options), old.timestamps[-1]
    n_bars, n_known = old.shape
    ended = [old.symbols[a] for a in np.flatnonzero(old.ends.bar < n_bars)]
    with folder.drafting() as room:
        reading = read_later(
            source, old.symbols, last, on_fault, ended, how, max_bytes=block_bytes(), scratch=room
        )
        none = (None,) * len(reading.symbols)
        grown = replace(
            old,
            timestamps=np.concatenate([old.timestamps, reading.timestamps]),
            symbols=reading.symbols,
            ends=continued(old.ends, reading.ends, n_bars),
            statics={
                name: column + reading.statics.get(name, none)[n_known:]
                for name, column in old.statics.items()
            },
        )
        return _publish(folder, room, grown, reading, lambda: folder.refuse_stale(snapshot))


def compact(folder: PanelFolder, snapshot: str, old: Manifest) -> str:
    """Write the fields of a snapshot in as few blocks as they fit into; see `Panel.compact`."""
    folder.refuse_stale(snapshot)
    (n_bars, n_assets), fields = old.shape, old.fields
    rows = _rows_of_block(n_assets, len(fields))
    starts = range(0, n_bars, rows)
    if len({piece.first_bar for one in fields.values() for piece in one.pieces}) <= len(starts):
        return snapshot
    blocks = (
        (first, {name: one.read(first, min(first + rows, n_bars)) for name, one in fields.items()})
        for first in starts
    )
    with folder.drafting() as room:
        merged = replace(old, fields=write(folder, room, old.timestamps, old.symbols, blocks, {}))
        if merged.digest() != old.digest():
            raise damaged(f"{folder.path}: the bars of {snapshot} are not those that were written")
        return folder.commit(merged, room, guard=lambda: folder.refuse_stale(snapshot), again=True)


def _refuse_panel(source: Any) -> None:
    if isinstance(source, str | os.PathLike) and "://" not in str(source) and PanelFolder(source).names():
        raise InputError(
            f"{source} is a panel already, and no source of bars",
            hint="to add later bars to it: panel append PATH SOURCE, or Panel.open(path).append(source); to "
            "build another panel from its bars: Panel.build(Panel.open(path).to_frame(), other)",
        )


def _publish(
    folder: PanelFolder, room: Path, grown: Manifest, reading: Reading, guard: Callable[[], None]
) -> str:
    """Write the bars of `reading`, the last ones of `grown`, behind the fields it has, and commit it."""
    first_bar = grown.shape[0] - len(reading.timestamps)
    sessions = survey_sessions(grown.calendar, grown.timestamps, first_bar)
    missing = [name for name in grown.fields if name not in reading.fields]
    missing += [f"context {name}" for name in grown.contexts]
    blocks = ((first_bar + first, arrays) for first, arrays in reading.blocks())
    fields = write(folder, room, grown.timestamps, grown.symbols, blocks, grown.fields)
    report = reading.report + missing_fields(missing) + sessions
    return folder.commit(replace(grown, fields=fields), room, report, guard=guard)
