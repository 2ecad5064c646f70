"""Reports in a real browser: nothing is refused or fetched, and what can be pressed works."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from backtest_farm.analysis import report_result, report_study

BROWSERS = (
    "chromium-headless-shell",
    "chromium",
    "google-chrome",
    "google-chrome-stable",
    "chromium-browser",
)
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
MISSING = "to run this: apt-get install chromium-headless-shell, pip install playwright"


@pytest.fixture(scope="module")
def browser() -> Iterator:
    playwright = pytest.importorskip("playwright.sync_api", reason=MISSING)
    if BROWSER is None:
        pytest.skip(MISSING)
    with playwright.sync_playwright() as driver:
        # Root, as in a container, has no sandbox; the page is ours and fetches nothing.
        sandbox = [] if os.getuid() else ["--no-sandbox"]
        running = driver.chromium.launch(executable_path=BROWSER, args=sandbox)
        yield running
        running.close()


@pytest.fixture
def opened(browser, tmp_path: Path) -> Iterator:
    """Open a file, and hold that it asked for nothing and complained of nothing."""
    said: list[str] = []
    asked: list[str] = []

    def open_file(file: Path, width: int = 1400, scheme: str = "light"):
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(file.as_uri())
        return page

    yield open_file
    assert said == []
    assert [url for url in asked if not url.endswith(".html")] == []


@pytest.fixture(scope="module")
def file(study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return report_study(study, tmp_path_factory.mktemp("reports") / "study.html")


def column(page, name: str) -> list[str]:
    heads = page.locator("#leaderboard thead th")
    at = [heads.nth(i).get_attribute("data-column") for i in range(heads.count())].index(name)
    return page.locator(f"#leaderboard tbody tr td:nth-child({at + 1})").all_inner_texts()


def test_a_click_on_a_head_sorts(opened, file: Path, study) -> None:
    page = opened(file)
    assert column(page, "trial") == [str(trial) for trial in study.best(24)["trial"]]
    for name, order in (("max_drawdown", "descending"), ("n", "ascending")):
        page.locator(f"th[data-column='{name}'] button").click()
        values = [float(text.rstrip("%").replace(",", "")) for text in column(page, name)]
        assert values == sorted(values, reverse=order == "descending")
        assert page.locator(f"th[data-column='{name}']").get_attribute("aria-sort") == order
    page.locator("th[data-column='n'] button").click()
    assert column(page, "n")[0] == "5"


def test_the_filter_knows_conditions_and_words(opened, file: Path, study) -> None:
    page = opened(file)
    middle = study.best(24)["sharpe"][11]
    page.fill("#filter", f"n=5 sharpe>{middle - 1e-9:.9f}")
    trials = study.trials().collect()
    mine = trials.filter((trials["n"] == 5) & (trials["sharpe"] > middle - 1e-9))
    assert sorted(map(int, column(page, "trial"))) == sorted(mine["trial"])
    assert page.locator("#counted").inner_text() == f"{mine.height} of {mine.height} rows"
    page.fill("#filter", "nothing-like-this")
    assert column(page, "trial") == []


def test_columns_can_be_chosen(opened, file: Path) -> None:
    page = opened(file)
    page.locator("summary").click()
    page.locator("#columns input[data-column='win_rate']").check()
    page.locator("#columns input[data-column='cagr']").uncheck()
    names = page.locator("#leaderboard thead th").evaluate_all(
        "heads => heads.map(head => head.dataset.column)"
    )
    assert "win_rate" in names
    assert "cagr" not in names


def test_heat_maps_change_with_the_metric(opened, file: Path, study) -> None:
    page = opened(file)
    page.select_option("#metric", "volatility")
    page.select_option("#over", "max")
    assert page.locator(".map-name").inner_text() == "Volatility (annual), max"
    trials = study.trials().collect()
    cell = page.locator(
        "g[data-where='signal.lookback = 20, n = 5'], g[data-where='n = 5, signal.lookback = 20']"
    ).first
    mine = trials.filter((trials["n"] == 5) & (trials["signal.lookback"] == 20))["volatility"].max()
    assert f"{mine:.2%}, max" in cell.locator("title").text_content()
    assert cell.locator("text").text_content() == f"{mine:.1%}"


def test_the_scale_of_curves_can_be_changed(opened, file: Path) -> None:
    page = opened(file)
    linear, log = (page.locator(f"svg[data-chart=growth][data-scale={kind}]") for kind in ("linear", "log"))
    assert (linear.is_visible(), log.is_visible()) == (True, False)
    page.locator("button[data-toggles]").click()
    assert (linear.is_visible(), log.is_visible()) == (False, True)


def test_the_pointer_reads_values_off_curves(opened, file: Path, study) -> None:
    page = opened(file)
    page.locator("svg[data-chart=drawdown]").hover()
    words = page.locator(".read:visible").inner_text()
    assert f"trial {study.best(1)['trial'][0]}: " in words
    assert "%" in words


def test_the_scheme_can_be_changed(opened, file: Path) -> None:
    page = opened(file, scheme="dark")
    ground = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(ground)
    page.locator("#theme").click()
    assert page.evaluate(ground) == "rgb(245, 246, 248)" != dark


@pytest.mark.parametrize("width", [1400, 500])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_reports_fit_the_window(opened, file: Path, result, tmp_path: Path, width: int, scheme: str) -> None:
    for report in (file, report_result(result, tmp_path / "result.html")):
        page = opened(report, width, scheme)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        picture = page.screenshot(path=tmp_path / f"{report.stem}-{width}-{scheme}.png", full_page=True)
        assert len(picture) > 50_000


def test_a_foreign_script_does_not_run(opened, browser, file: Path, tmp_path: Path) -> None:
    """The test above means something: a script that the policy does not know is refused, and seen."""
    text = file.read_text(encoding="utf-8").replace("<main>", "<script>window.ran = 1</script><main>", 1)
    planted = tmp_path / "planted.html"
    planted.write_text(text, encoding="utf-8")
    page = browser.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.goto(planted.as_uri())
    assert page.evaluate("window.ran") is None
    assert any("Content Security Policy" in words for words in said)
