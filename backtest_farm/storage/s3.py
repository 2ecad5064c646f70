"""A bucket of an S3-compatible object store as create-only storage."""

from __future__ import annotations

import contextlib
import functools
import importlib
import itertools
import os
import random
import re
import secrets
import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, TypeVar
from urllib.parse import urlsplit

from backtest_farm.errors import InputError, PlatformError, StoreError
from backtest_farm.storage.protocol import AlreadyExists, Missing, Names, refuse_strange

Answer = TypeVar("Answer")

_WAITS_S = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Pauses before a request is sent again, up to half as long again; after the last one it has failed."""
_TIMEOUT = "60s"
_SECRETS = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ACCESS_KEY_ID")
_REFUSED = re.compile(r"status code: 4(?!08|09|25|29)\d\d(?![\s\S]*RequestTimeout)")
"""Answers that stay the same however often one asks."""
_PLACE = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])((?:/[^/?#@]+)*)/?")
_CHECK = "check the bucket's name, AWS_ENDPOINT_URL, AWS_REGION, and the rights of AWS_ACCESS_KEY_ID"

_probed: set[tuple[object, ...]] = set()
"""Places that were seen to keep their word, by this process and with these settings."""


class S3Storage:
    """Objects under one prefix of a bucket, each put once.

    A put carries ``If-None-Match: *``: the store takes it only where nothing is there yet. Requests that fail
    in passing are sent again. When an answer got lost, the next put finds the object there, and whose it is
    is settled by comparing its bytes. Whether the store knows the condition is tried before the first write.

    Address and credentials are those of the environment, by the usual names: ``AWS_ENDPOINT_URL``,
    ``AWS_REGION``, ``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY``, ``AWS_SESSION_TOKEN``. No checksum
    trailers are sent, which older servers store as if they were content.

    Parameters
    ----------
    place : str
        ``s3://bucket/prefix``.

    Raises
    ------
    InputError
        If `place` is not of that form.
    """

    def __init__(self, place: str) -> None:
        match = _PLACE.fullmatch(place)
        if match is None:
            # It is not shown in full: somebody may have written credentials into it.
            shown = urlsplit(place).netloc.rpartition("@")[2]
            hint = "write s3://bucket/prefix; address and credentials come from AWS_* variables"
            raise InputError(f"s3://{shown}...: no place in an object store", hint=hint)
        self._bucket, self._prefix = match[1], match[2].strip("/")

    def __repr__(self) -> str:
        return f"S3Storage({self.uri!r})"

    @property
    def uri(self) -> str:
        """``s3://bucket/prefix``, which every process understands that has the same variables set."""
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    def put_new(self, name: str, data: bytes) -> None:
        """Create `name` with content `data`; see `Storage.put_new`."""
        refuse_strange(name, self.uri)
        self._probe()
        self._create(name, data)

    def read(self, name: str) -> bytes:
        """Return the content of `name`; see `Storage.read`."""
        refuse_strange(name, self.uri)
        found = self._read(name)
        if found is None:
            raise Missing(f"{self.uri}/{name} is not there")
        return found

    def list(self, prefix: str, limit: int | None = None) -> Names:
        """Return the sorted names that start with `prefix`; see `Storage.list`."""
        return sorted(itertools.islice(self.sizes(prefix), limit))

    def sizes(self, prefix: str) -> dict[str, int]:
        """Return the sizes of the files that start with `prefix`; see `Storage.sizes`."""
        # The client knows prefixes by whole parts only.
        folder = prefix.rpartition("/")[0] or None

        def found() -> dict[str, int]:
            every = itertools.chain.from_iterable(_obstore().list(self._client, prefix=folder))
            return {one["path"]: one["size"] for one in every}

        return {
            name: size
            for name, size in sorted(self._again("list", "", found).items())
            if name.startswith(prefix) and not any(part.startswith(".") for part in name.split("/"))
        }

    def remove(self, name: str) -> None:
        """Remove `name`; see `Storage.remove`."""
        refuse_strange(name, self.uri)
        self._remove(name)

    @contextlib.contextmanager
    def hold(self, *, alone: bool) -> Iterator[None]:
        """Share the place, which needs no lock; nobody can be alone in an object store."""
        if alone:
            raise StoreError(
                f"{self.uri}: an object store has no locks, so nobody can be kept from writing meanwhile",
                hint="nothing was changed; when no sweep runs, copy the study into a folder, do this there, "
                "and copy the result to a new prefix",
            )
        yield

    @property
    def _client(self) -> Any:
        return _connected(self._bucket, self._prefix, _settings())

    def _create(self, name: str, data: bytes) -> None:
        lost = False

        def put() -> None:
            nonlocal lost
            try:
                _obstore().put(self._client, name, data, mode="create", use_multipart=False)
            except _obstore().exceptions.AlreadyExistsError as error:
                found = self._read(name)
                if found is None:
                    raise  # 409: another put is under way, and may fail
                # Of an earlier try the answer may have got lost on its way here.
                if not (lost and found == data):
                    raise AlreadyExists(f"{self.uri}/{name} exists already and is never replaced") from error
            except Exception:
                lost = True
                raise

        self._again("write", name, put)

    def _read(self, name: str) -> bytes | None:
        def get() -> bytes | None:
            try:
                return bytes(_obstore().get(self._client, name).bytes())
            except FileNotFoundError:
                return None

        return self._again("read", name, get)

    def _remove(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._again("remove", name, lambda: _obstore().delete(self._client, name))

    def _again(self, what: str, name: str, ask: Callable[[], Answer]) -> Answer:
        """Return an answer, asking again with growing pauses where that may help."""
        for wait in (*_WAITS_S, None):
            try:
                return ask()
            except FileNotFoundError as error:
                if what == "remove":
                    raise
                self._refuse(what, name, error)  # there is no such bucket
            except (_obstore().exceptions.BaseError, OSError) as error:
                if wait is None or _REFUSED.search(str(error)):
                    self._refuse(what, name, error)
                time.sleep(wait * random.uniform(1.0, 1.5))
        raise AssertionError("the last try returns or raises")

    def _refuse(self, what: str, name: str, error: Exception) -> NoReturn:
        said = re.split(r"\n|: <", str(error))[0]
        for secret in filter(None, map(os.environ.get, _SECRETS)):
            said = said.replace(secret, "***")
        where = f"{self.uri}/{name}".rstrip("/")
        raise StoreError(f"could not {what} {where}: {said[:400]}", hint=_CHECK) from None

    def _probe(self) -> None:
        """Make sure that the store refuses to replace and gives back what it took."""
        place = self.uri, _settings()
        if place in _probed:
            return
        name, ours, other = f".probe-{secrets.token_hex(8)}", secrets.token_bytes(64), b"replaced"
        self._create(name, ours)
        try:
            with contextlib.suppress(AlreadyExists):
                self._create(name, other)
                raise StoreError(
                    f"{self.uri}: this object store ignores If-None-Match and replaces what is there: two "
                    "drivers would overwrite each other's records; nothing was written",
                    hint="use a store that knows conditional puts (AWS S3, current Ceph, MinIO, R2 do), or a "
                    "folder",
                )
            if self._read(name) != ours:
                raise StoreError(
                    f"{self.uri}: this object store gives back other bytes than it took; nothing was written",
                    hint="use another store, or a folder",
                )
        finally:
            with contextlib.suppress(StoreError):
                self._remove(name)
        _probed.add(place)


def _settings() -> tuple[tuple[str, str], ...]:
    return tuple(sorted((key, value) for key, value in os.environ.items() if key.startswith("AWS_")))


@functools.lru_cache(maxsize=8)
def _connected(bucket: str, prefix: str, settings: tuple[tuple[str, str], ...]) -> Any:
    values = dict(settings)
    endpoint = (
        values.get("AWS_ENDPOINT_URL_S3") or values.get("AWS_ENDPOINT_URL") or values.get("AWS_ENDPOINT")
    )
    options: dict[str, Any] = {
        "timeout": _TIMEOUT,
        "connect_timeout": "5s",
        "allow_http": bool(endpoint and endpoint.startswith("http://")),
    }
    # How to go on after an answer that got lost has to be known here, so that the client does not retry.
    more: Any = {"endpoint": endpoint} if endpoint else {}
    more |= {"retry_config": {"max_retries": 0}, "client_options": options}
    return _obstore().store.S3Store(bucket, prefix=prefix or None, **more)


def _obstore() -> Any:
    # Imported when a study lies in an object store, and by nobody else.
    try:
        importlib.import_module("obstore.exceptions")
        importlib.import_module("obstore.store")
        return importlib.import_module("obstore")
    except ImportError as error:
        raise PlatformError(
            f"object stores need the package obstore: {error}",
            hint="python -m pip install 'backtest-farm[s3]'",
        ) from None
