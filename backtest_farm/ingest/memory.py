"""How much of a source is held at once: less where a process may hold little."""

from __future__ import annotations

import os
import resource
from pathlib import Path

LARGEST_BLOCK = 256 * 2**20
"""Most bytes of values that are read, and written into one file, at once."""

_LIBRARIES = 400 * 2**20
"""What numpy, pyarrow and polars set aside before the first block."""

_COPIES = 4
"""How often reading and writing hold a block's values."""

_SMALLEST_BLOCK = 16 * 2**20


def block_bytes() -> int:
    """Return the most bytes of values to hold at once in this process; no digest depends on it."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    limits += [resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_DATA, resource.RLIMIT_AS)]
    group = Path("/sys/fs/cgroup/memory.max")  # a container's share
    limits += [int(text) for text in group.read_text().split() if text.isdecimal()] if group.exists() else []
    known = [limit for limit in limits if limit != resource.RLIM_INFINITY]
    return min(LARGEST_BLOCK, max(_SMALLEST_BLOCK, (min(known) - _LIBRARIES) // _COPIES))
