"""The environment variables that Ray reads, set for as long as an executor lives.

A value that the user has set wins over ours.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator, Mapping

_COMMON = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Under `uv run` Ray would upload the working directory and rebuild the environment in each worker.
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    # Says now what later versions do anyway; without it every start prints a FutureWarning.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # Skips every line: Ray's reports of dead workers go to standard output, where results belong, and the
    # sweep tells of them itself.
    "RAY_DEDUP_LOGS_SKIP_REGEX": "^",
}
_LOCAL = {
    **_COMMON,
    # Workers at nice 15 get a few per cent of a core that anything else wants.
    "RAY_worker_niceness": "0",
    # Ray's own limit is none: a task that always runs out of memory would be tried for ever.
    "RAY_task_oom_retries": "2",
    # Nobody scrapes a node that lives for one sweep, and its exporter makes every start a second longer.
    "RAY_enable_metrics_collection": "0",
    # Imported while the node still starts, so that the first tasks find them loaded.
    "RAY_preload_python_modules": "numpy,pyarrow,pyarrow.compute,numba,polars,pydantic",
}
_TOKEN_NAMES = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
# Ray reads the token once per process and keeps it, so all our nodes of one process share one.
_token = ""


def local_environment() -> contextlib.AbstractContextManager[None]:
    """Set what a node of our own needs; its ports are open to the network, so only holders of a token get in.

    The token is random, lives in the environment of this process and its children alone, and no file of it is
    written.
    """
    global _token
    wanted = dict(_LOCAL)
    mode = os.environ.get("RAY_AUTH_MODE", "token")
    wanted["RAY_AUTH_MODE"] = mode
    if mode.lower() == "token" and not any(name in os.environ for name in _TOKEN_NAMES):
        _token = _token or secrets.token_hex(32)
        wanted["RAY_AUTH_TOKEN"] = _token
    return _while_set(wanted)


def cluster_environment() -> contextlib.AbstractContextManager[None]:
    """Set what joining a cluster needs: with an explicit address Ray uses a token only when told to."""
    wanted = dict(_COMMON)
    if any(name in os.environ for name in _TOKEN_NAMES):
        wanted["RAY_AUTH_MODE"] = "token"
    return _while_set(wanted)


@contextlib.contextmanager
def _while_set(wanted: Mapping[str, str]) -> Iterator[None]:
    ours = [name for name in wanted if name not in os.environ]
    os.environ.update({name: wanted[name] for name in ours})
    try:
        yield
    finally:
        for name in ours:
            os.environ.pop(name, None)
