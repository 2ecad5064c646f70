"""The oracle: a plain, slow, obviously right reading of the accounting contract.

It exists to be read next to the contract page and to be compared with the kernel. It therefore imports
nothing of the package under test, and only the Python standard library: lists, dicts, floats and ``math``.

Modules: ``book`` (the contract, step by step), ``metrics`` (every metric from its formula), ``invariants``
(what must hold for any book), ``books`` (a generator of small books full of trouble).
"""
