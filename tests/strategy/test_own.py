"""Classes of the user's: parameters, what a signal reads, what is refused, and what code is part of keys."""

from __future__ import annotations

import os
import subprocess
import sys
import types
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import Field

import backtest_farm as bf
from backtest_farm.errors import InputError
from backtest_farm.spec import has_axes, leaves_of
from backtest_farm.strategy.own import RESERVED, block_of, class_of, signal_of, usable, warmup_of
from tests.contracts.tree import ROOT


class Base(bf.Strategy):
    lookback: Annotated[int, Field(ge=1)] = 5

    def signal(self, panel):
        return self._scaled(panel) * self.scale_of

    def _scaled(self, panel):
        return panel["close"] * self.lookback

    @property
    def scale_of(self):
        return self.scale


class Mine(Base):
    scale: float = 1.0
    n: int = 3
    word: str = "equal"

    def portfolio(self):
        return bf.TopN(n=self.n)

    def warmup(self):
        return self.lookback + 1


def stages(strategy: bf.Strategy) -> dict[str, str]:
    return {leaf.path: leaf.stage for leaf in leaves_of(strategy)}


def test_what_the_signal_reads_is_found_in_what_it_calls() -> None:
    assert stages(Mine()) == {
        "kind": "portfolio", "lookback": "factor", "scale": "factor", "n": "portfolio", "word": "portfolio",
    }  # fmt: skip
    assert has_axes(Mine(lookback=bf.axis([1, 2]), n=bf.axis([3, 4]))) == ["lookback", "n"]


def test_every_parameter_of_on_bar_and_steps_is_a_group_of_its_own() -> None:
    class Told(bf.Strategy):
        n: int = 1

        def on_bar(self, ctx): ...

    assert stages(Told())["n"] == stages(stepped(n=1, size=2.0))["n"] == "filter"


@bf.step
def stepped(bar, params, out):
    out[params.n] = params.size / params.n


def test_a_step_has_the_parameters_that_it_reads() -> None:
    assert set(stepped.model_fields) == {"n", "size"}
    assert stepped.spec_name == f"{__name__}:stepped"
    with pytest.raises(InputError) as caught:
        stepped(n=1, sise=0.5)
    assert "size: is missing" in str(caught.value)
    assert "sise: unknown key: did you mean 'size'?" in str(caught.value)


def test_numpy_numbers_and_whole_floats_are_plain_ones() -> None:
    import numpy as np

    assert Mine(lookback=np.int64(7)) == Mine(lookback=7.0) == Mine(lookback=7)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Mine(lookback=0), "lookback: 0 is not allowed: give a whole number >= 1"),
        (lambda: Mine(n="3"), "n: '3' is not allowed: give a whole number, without quotes"),
        (lambda: Mine(m=3), "m: unknown key"),
        (lambda: Mine(lookbck=3), "did you mean 'lookback'?"),
        (lambda: Mine(n=bf.axis([1, "2"])), "n[1]: '2' is not allowed"),
        (lambda: made({"window": int}), "window cannot be the name of a parameter"),
        (lambda: made({"sharpe": float, "cash": int}), "cash, sharpe cannot be"),
        (lambda: made({"sizes": list})(sizes=[1]), "[1] is no number, text or switch"),
        (lambda: bf.step(lambda bar, out: None), "is no function of (bar, params, out)"),
    ],
)
def test_wrong_classes_and_values_are_named(make, says) -> None:
    with pytest.raises(InputError) as caught:
        make()
    assert says in str(caught.value)


def made(fields: dict[str, type]) -> type[bf.Strategy]:
    return type(bf.Strategy)("Made", (bf.Strategy,), {"__module__": __name__, "__annotations__": fields})


def test_no_parameter_can_take_the_name_of_a_column_of_results() -> None:
    from backtest_farm.farm.rows import OUTCOME
    from backtest_farm.sweep import SweepSpec

    columns = {
        "trial", "key", "sweep", "profile", "universe", "fold", "window_start", "window_end", "numerics",
        "bars", "bars_per_year", "segment_bars", *OUTCOME.names, *SweepSpec.model_fields,
    }  # fmt: skip
    assert columns <= RESERVED
    assert {name for name, part in vars(SweepSpec).items() if isinstance(part, property)} <= RESERVED


class Portfolio(bf.Strategy):
    gives: str = ""

    def signal(self, panel): ...

    def portfolio(self):
        return {
            "own": lambda: bf.TopN(signal=bf.factor.rsi(14), n=3),
            "axis": lambda: bf.TopN(n=bf.axis([1, 2])),
            "none": lambda: None,
            "raises": lambda: 1 / 0,
            "cross": lambda: bf.CrossOver(slots=4),
            "half": lambda: bf.CrossOver(fast=3),
        }[self.gives]()


@pytest.mark.parametrize(
    ("gives", "says"),
    [
        ("own", "which has a signal of its own"),
        ("axis", "with axes at n"),
        ("none", "gives None"),
        ("half", "which has a signal of its own"),
        ("raises", "raised ZeroDivisionError at test_own.py:"),
    ],
)
def test_wrong_portfolios_are_named(gives, says) -> None:
    with pytest.raises(InputError) as caught:
        block_of(Portfolio(gives=gives))
    assert "portfolio() of tests.strategy.test_own:Portfolio" in caught.value.message
    assert says in caught.value.message
    assert block_of(Portfolio(gives="cross")).slots == 4


def test_what_cannot_run_is_named() -> None:
    class Nothing(bf.Strategy):
        n: int = 1

    class Both(bf.Strategy):
        def on_bar(self, ctx): ...

        def portfolio(self): ...

    for strategy, says in (
        (Nothing(), "defines neither signal nor on_bar"),
        (Both(), "defines on_bar and portfolio"),
        (bf.TopN(n=3), "TopN has no signal"),
        (bf.CrossOver(fast=3), "CrossOver has no slow"),
        (bf.Weights(), "Weights has no field"),
    ):
        with pytest.raises(InputError, match=says):
            usable(strategy)


def test_a_signal_sees_no_parameter_that_it_does_not_name() -> None:
    def outside(strategy):
        return strategy.n

    class Sly(bf.Strategy):
        n: int = 3

        def signal(self, panel):
            return outside(self)

    assert stages(Sly())["n"] == "portfolio"
    with pytest.raises(InputError, match=r"reads n, but does not name it[\s\S]*write self\.n in signal"):
        signal_of(Sly())._compute(None)


def test_a_warmup_is_that_of_the_longest_look_back() -> None:
    assert warmup_of(Mine(lookback=bf.axis([5, 40, 10]), word=bf.axis(["a", "b"]))) == 41


# --------------------------------------------------------------------------------------------------- code

MAIN = """
from __future__ import annotations
import numpy as np
import backtest_farm as bf
from own_package.parts import scale  # one more

class Mine(bf.Strategy):
    def signal(self, panel):
        from . import late
        return scale(panel)
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    for name, text in {
        "__init__.py": "",
        "mine.py": MAIN,
        "parts.py": "from .deeper import one as uno\ndef scale(x): return uno.FACTOR\n",
        "late.py": "",
        "deeper/__init__.py": "",
        "deeper/one.py": "FACTOR = 1\n",
        "unused.py": "",
    }.items():
        path = tmp_path / "own_package" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return tmp_path


def code_of(folder: Path, name: str = "own_package.mine:Mine", code: str = "") -> str:
    """Return what another process makes of a class's code."""
    told = "from backtest_farm.strategy.by_name import class_of, own_class"
    done = subprocess.run(
        [sys.executable, "-B", "-c", f"{told}\n{code}\nprint(class_of(own_class('{name}'))['code'])"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}"},
        capture_output=True,
        text=True,
    )
    return done.stdout.strip() or done.stderr


@pytest.mark.parametrize("file", ["mine.py", "parts.py", "deeper/one.py", "late.py", "__init__.py"])
def test_every_module_of_the_users_is_part_of_the_code(package: Path, file: str) -> None:
    before = code_of(package)
    assert len(before) == 32
    path = package / "own_package" / file
    path.write_text(path.read_text() + "# a comment counts too\n")
    assert code_of(package) not in ("", before)


def test_other_modules_are_not(package: Path) -> None:
    before = code_of(package)
    (package / "own_package" / "unused.py").write_text("X = 1\n")
    assert code_of(package) == before
    assert code_of(package, code="import numpy, pandas") == before


def test_a_file_that_changed_after_its_import_is_refused(package: Path) -> None:
    change = "import own_package.mine, time; time.sleep(0.05); open('own_package/parts.py', 'a').write('#')"
    assert "parts.py was changed after it was imported" in code_of(package, code=change)


def test_without_a_file_the_texts_of_what_a_class_names_count(tmp_path: Path) -> None:
    def code(factor: int = 2, method: str = "self.n * twice(1)", unused: int = 1) -> str:
        text = f"""
import linecache, backtest_farm as bf
text = '''
FACTOR, OTHER = {factor}, {unused}
def twice(x): return x * FACTOR
class Here(bf.Strategy):
    n: int = 1
    def signal(self, panel): return {method}
'''
linecache.cache["<cell>"] = (len(text), None, text.splitlines(True), "<cell>")
exec(compile(text, "<cell>", "exec"), globals())
"""
        return code_of(tmp_path, "__main__:Here", text)

    before = code()
    assert len(before) == 32
    assert code(unused=9) == before
    assert len({before, code(factor=3), code(method="twice(self.n)")}) == 3


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("own_package.mine", "names no class"),
        ("own_package.nothing:Mine", "there is no module 'own_package.nothing'"),
        ("nothing_at_all:Mine", "there is no module 'nothing_at_all'"),
        ("own_package.mine:Mien", "did you mean 'Mine'?"),
        ("own_package.parts:scale", "and no strategy"),
        ("own_package.broken:X", "importing own_package.broken failed: SyntaxError"),
        ("own_package.needs:X", "needs not_installed, which is not installed"),
    ],
)
def test_classes_that_cannot_be_had_are_named(package: Path, name: str, says: str) -> None:
    (package / "own_package" / "broken.py").write_text("def\n")
    (package / "own_package" / "needs.py").write_text("import not_installed\n")
    assert says in code_of(package, name)


def test_a_class_is_known_by_name_code_and_what_its_signal_reads() -> None:
    known = class_of(Mine)
    assert known["name"] == f"{__name__}:Mine"
    assert known["signal"] == ["lookback", "scale"]
    values = {"lookback": 5, "scale": 1.0, "n": 4, "word": "equal"}
    assert Mine(n=4).model_dump(mode="json") == {"class": known, **values}


_NOTEBOOK = """
import functools
from typing import ClassVar
import numpy as np
import backtest_farm as bf
TABLE = {table}
def helper(x=[{default}]):
    return x
def closure(k):
    def inner():
        return k
    return inner
INNER = closure({cell})
PART = functools.partial(helper, [{part}])
class Mine(bf.Strategy):
    look: int = 5
    HELD: ClassVar = ({held}, 2)
    def signal(self, panel):
        TABLE, helper, INNER, PART, self.HELD
        return panel["close"]
"""
_FIRST = {"table": "[1, np.array([2.0])]", "default": 1, "cell": 1, "part": 1, "held": 1}


def _code_of(**changes: Any) -> str:
    """The digest of a class that stands in no file, as in a notebook."""
    space: dict[str, Any] = {"__name__": "notebook"}
    sys.modules["notebook"] = types.ModuleType("notebook")
    try:
        text = _NOTEBOOK.format(**{**_FIRST, **changes})
        exec(compile(text, "notebook", "exec", dont_inherit=True), space)
        return class_of(space["Mine"])["code"]
    finally:
        del sys.modules["notebook"]


@pytest.mark.parametrize(
    "change",
    [
        {"table": "[1, np.array([2.5])]"},
        {"table": "{'a': 1}"},
        {"default": 2},
        {"cell": 2},
        {"part": 2},
        {"held": 3},
    ],
)
def test_what_a_class_in_a_notebook_names_is_part_of_its_key(change) -> None:
    assert _code_of() == _code_of()
    assert _code_of(**change) != _code_of()


def test_what_cannot_be_known_is_refused() -> None:
    with pytest.raises(InputError, match="reads TABLE, a object: whether that changes cannot be seen"):
        _code_of(table="object()")


def test_a_class_made_by_a_function_is_known_by_what_that_was_given() -> None:
    def make(look: int) -> type[bf.Strategy]:
        class Made(bf.Strategy):
            def signal(self, panel):
                return bf.factor.momentum(look)

        return Made

    assert class_of(make(5))["code"] == class_of(make(5))["code"] != class_of(make(40))["code"]
