"""The one comparison that all engines must pass: same fills, same prices, same money."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

QUANTITY = 1e-5
"""The largest difference of a quantity, in units."""

PRICE = 5e-9
"""The largest relative difference of a fill price: half of the shift that must be noticed."""

IDENTICAL = 1e-9
"""The largest relative difference of equity where two engines mean the same."""


@dataclass(frozen=True)
class Account:
    """What an engine did.

    Attributes
    ----------
    bars, assets : ndarray of int, shape (n_fills,)
        When and what it traded; several fills of an asset on one bar are taken together.
    quantities, prices : ndarray of float64, shape (n_fills,)
    equity : ndarray of float64, shape (n_bars,)
    """

    bars: np.ndarray
    assets: np.ndarray
    quantities: np.ndarray
    prices: np.ndarray
    equity: np.ndarray

    def by_bar(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return (bar, asset) pairs in order, with the quantity and the lowest and highest price of each.

        Both prices: a mean would hide a part of what is wrong with one of several fills.
        """
        pairs = np.stack([self.bars, self.assets], axis=1).astype(np.int64)
        found, place = np.unique(pairs, axis=0, return_inverse=True)
        place = place.ravel()
        prices = np.tile([[np.inf], [-np.inf]], len(found))
        with np.errstate(invalid="ignore"):  # a price that is no number stays one, and is noticed
            np.minimum.at(prices[0], place, self.prices)
            np.maximum.at(prices[1], place, self.prices)
        return found, np.bincount(place, self.quantities, len(found)), prices


@dataclass(frozen=True)
class Difference:
    """How far two accounts are apart.

    Attributes
    ----------
    fills : int
        How many fills ours has.
    elsewhere : int
        Fills that only one of them has on that bar.
    quantity : float
        Units.
    price, equity : float
        Relative.
    """

    fills: int
    elsewhere: int
    quantity: float
    price: float
    equity: float

    def faults(self, equity: float = IDENTICAL) -> list[str]:
        """Return what is not equal."""
        found = {
            f"{self.elsewhere} fills on other bars": self.elsewhere > 0,
            f"quantities by {self.quantity:.3g}": not self.quantity <= QUANTITY,
            f"prices by {self.price:.3g}": not self.price <= PRICE,
            f"equity by {self.equity:.3g}": not self.equity <= equity,
        }
        return [text for text, bad in found.items() if bad]


def difference(ours: Account, theirs: Account) -> Difference:
    """Compare two accounts of the same case."""
    (pairs, quantities, prices), (others, more, paid) = ours.by_bar(), theirs.by_bar()
    keys, other_keys = (
        {tuple(pair): at for at, pair in enumerate(each.tolist())} for each in (pairs, others)
    )
    common = [pair for pair in keys if pair in other_keys]
    one, two = [keys[pair] for pair in common], [other_keys[pair] for pair in common]
    return Difference(
        fills=len(pairs),
        elsewhere=len(keys) + len(other_keys) - 2 * len(common),
        quantity=float(np.abs(quantities[one] - more[two]).max(initial=0.0)),
        price=float(np.abs(prices[:, one] / paid[:, two] - 1.0).max(initial=0.0)),
        equity=float(np.abs(ours.equity / theirs.equity - 1.0).max()),
    )
