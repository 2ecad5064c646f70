"""Runs inside another engine's environment: trade a case once for the comparison, then again for the time.

``python peer_runner.py RUNNER.py CASE.npz OUT.npz SECONDS`` loads a runner of ``tests/peers``, lets it trade
and write its account, and then repeats it until SECONDS of CPU are used, at least once. Reading the case and
writing the account are taken out of the repetitions: only what the engine needs is timed. Prints JSON:
``first`` and ``again``, CPU seconds of all threads.
"""

# mypy: ignore-errors
# It runs where the other engine is installed, and this package is not.

import functools
import importlib.util
import json
import os
import sys
import time
import types

for name in (
    "OMP_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "POLARS_MAX_THREADS",
    "RAYON_NUM_THREADS",
):
    os.environ[name] = "1"

import numpy as np  # noqa: E402 - threads are counted when it is imported


def at_the_close(module: types.ModuleType) -> None:
    """Let an engine that fills on the next bar fill at the close that its strategy has just seen."""
    if hasattr(module, "BacktestConfig"):
        from ml4t.backtest.config import ExecutionMode, ExecutionPrice

        same = {"execution_mode": ExecutionMode.SAME_BAR, "execution_price": ExecutionPrice.CLOSE}
        module.BacktestConfig = functools.partial(module.BacktestConfig, **same)
    elif module.__dict__.get("bt") is sys.modules.get("backtrader"):

        class Cerebro(module.bt.Cerebro):
            def __init__(self, *args, **options):
                super().__init__(*args, **options)
                self.broker.set_coc(True)

        module.bt.Cerebro = Cerebro


def main(runner: str, source: str, out: str, seconds: str) -> None:
    """Trade, then time."""
    spec = importlib.util.spec_from_file_location("runner", runner)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Engines copy strategies, and find their module by its name.
    sys.modules["runner"] = module
    spec.loader.exec_module(module)
    if bool(np.load(source).get("at_the_close", False)):
        at_the_close(module)
    began = time.process_time()
    module.main(source, out)
    first = time.process_time() - began
    case = dict(np.load(source))
    np.load = lambda _: {name: values.copy() for name, values in case.items()}
    np.savez = lambda *_, **__: None
    again = []
    while not again or sum(again) + again[-1] < float(seconds):
        began = time.process_time()
        module.main(source, out)
        again.append(time.process_time() - began)
    print(json.dumps({"first": first, "again": again}))


if __name__ == "__main__":
    main(*sys.argv[1:])
