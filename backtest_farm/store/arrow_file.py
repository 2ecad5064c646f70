"""Tables to and from the bytes of an Arrow IPC file, checked on the way in."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from backtest_farm.errors import StoreError
from backtest_farm.identity import digest_bytes


def table_to_bytes(table: pa.Table) -> bytes:
    """Return `table` as an uncompressed Arrow IPC file of one record batch.

    How the table was chunked or sliced leaves no trace, so that equal tables give equal bytes. For that
    strings held as views, which share buffers between rows, become plain strings; all else stays as it is.
    """
    plain = table.cast(pa.schema([_plain(field) for field in table.schema], table.schema.metadata))
    # Taking every row copies it: a slice or a joint of chunks keeps foreign bits in its buffers' padding.
    whole = plain.combine_chunks().take(pa.array(np.arange(table.num_rows)))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, whole.schema) as writer:
        writer.write_table(whole)
    return sink.getvalue().to_pybytes()


def table_from_bytes(data: bytes | pa.Buffer, sha256: str, name: str, hint: str) -> pa.Table:
    """Return the table in `data` after three checks: its hash, its form, its values.

    Parameters
    ----------
    data : bytes or pyarrow.Buffer
        A whole Arrow IPC file.
    sha256 : str
        The hash (64 hexadecimal digits, or the first digits of it) that the content must have.
    name : str
        The file's name, for messages.
    hint : str
        What to do when it is damaged.

    Raises
    ------
    StoreError
        If the hash differs (nothing is parsed then: a reader that is fed mutated IPC can crash the process or
        return wrong rows), or the content is not a valid table.
    """
    found = digest_bytes(memoryview(data))
    if not found.startswith(sha256):
        raise StoreError(
            f"{name} is damaged: {len(data)} bytes with sha256 {found[:16]}, not {sha256[:16]}",
            hint=hint,
        )
    try:
        with pa.ipc.open_file(pa.py_buffer(data)) as reader:
            table = reader.read_all()
        table.validate(full=True)
    except (pa.ArrowInvalid, OSError) as error:
        raise StoreError(f"{name} is not a valid Arrow file: {error}", hint=hint) from error
    return table


def _plain(field: pa.Field) -> pa.Field:
    return field.with_type(pa.string()) if pa.types.is_string_view(field.type) else field
