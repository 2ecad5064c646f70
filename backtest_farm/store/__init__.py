"""A study on disk: result fragments, the log that says which of them count, and everything beside them."""

from backtest_farm.store.commit_log import CommitLog
from backtest_farm.store.compaction import compact
from backtest_farm.store.fragment import Fragment, read_fragment, write_fragment
from backtest_farm.store.study_store import StudyStore, SweepEntry

__all__ = ["CommitLog", "Fragment", "StudyStore", "SweepEntry", "compact", "read_fragment", "write_fragment"]
