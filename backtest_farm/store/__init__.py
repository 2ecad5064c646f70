"""A study on disk: result fragments, the log that says which of them count, and everything beside them."""

from backtest_farm.store.commit_log import CommitLog
from backtest_farm.store.compaction import compact
from backtest_farm.store.fragment import Fragment, read_fragment, write_fragment
from backtest_farm.store.history import SweepEntry
from backtest_farm.store.recovery import Recovery, recover
from backtest_farm.store.repair import repair
from backtest_farm.store.study_store import StudyStore

__all__ = [
    "CommitLog",
    "Fragment",
    "Recovery",
    "StudyStore",
    "SweepEntry",
    "compact",
    "read_fragment",
    "recover",
    "repair",
    "write_fragment",
]
