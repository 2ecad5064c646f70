"""Where bytes live: create-only files on a disk or in an object store."""

from backtest_farm.storage.local import LocalStorage, sync_folder
from backtest_farm.storage.location import open_storage
from backtest_farm.storage.protocol import AlreadyExists, Missing, Storage
from backtest_farm.storage.s3 import S3Storage

__all__ = ["AlreadyExists", "LocalStorage", "Missing", "S3Storage", "Storage", "open_storage", "sync_folder"]
