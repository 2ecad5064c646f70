"""The oracle: a plain, slow, obviously right reading of the accounting contract.

It exists to be read next to the contract page and to be compared with the kernel. It therefore imports
nothing of the package under test, and only the Python standard library: lists, dicts, floats and ``math``.

The contract: ``book`` (the order of the steps), ``case`` (what a backtest starts from), ``state`` (what is
carried from bar to bar and comes out), ``events``, ``passes``, ``costs``, ``rules``, ``decisions``,
``constraints``, ``sizing`` (the steps), ``metrics`` (every metric from its formula). The checks:
``invariants``, ``invariants_of_rules`` and ``ledger_walk`` (what must hold for any book), ``books`` and
``features`` (a generator of small books full of trouble), ``troubles`` (a count of them).
"""
