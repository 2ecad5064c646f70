"""The environment variables that Ray reads, set for as long as an executor lives."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator

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
_OWN_NODE = {
    # Workers at nice 15 get a few per cent of a core that anything else wants.
    "RAY_worker_niceness": "0",
    # Nobody scrapes a node that lives for one sweep, and its exporter makes every start a second longer.
    "RAY_enable_metrics_collection": "0",
    # Imported while the node still starts, so that the first tasks find them loaded.
    "RAY_preload_python_modules": "numpy,pyarrow,pyarrow.compute,numba,polars,pydantic",
}
# Ray reads the token once per process and keeps it, so all our nodes of one process share one.
_TOKEN = secrets.token_hex(32)


@contextlib.contextmanager
def ray_environment(own_node: bool) -> Iterator[None]:
    """Set what Ray needs to start a node of our own, or to join a cluster; a value that is set already wins.

    A node's ports are open to the network, so only holders of a token get in. Ours is random, lives in the
    environment of this process and its children alone, and no file of it is written. A cluster has its token
    already; with an explicit address Ray uses it only when told to.
    """
    wanted = {**_COMMON, **(_OWN_NODE if own_node else {})}
    has_token = "RAY_AUTH_TOKEN" in os.environ or "RAY_AUTH_TOKEN_PATH" in os.environ
    if own_node or has_token:
        wanted["RAY_AUTH_MODE"] = "token"
    if own_node and not has_token:
        wanted["RAY_AUTH_TOKEN"] = _TOKEN
    ours = wanted.keys() - os.environ.keys()
    os.environ.update({name: wanted[name] for name in ours})
    try:
        yield
    finally:
        for name in ours:
            os.environ.pop(name, None)
