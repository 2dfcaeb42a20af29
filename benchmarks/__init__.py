"""How fast the library is, against its baselines and against what the machine allows: ``make bench``.

What is measured is a ratio: ours and its alternatives take turns in one process, repetition by repetition (``case.take_turns``).
pytest-benchmark and asv finish one benchmark before they begin the next, so that a machine that slows down meanwhile moves the ratio.
Either would replace the 35 lines of that loop and none of the cases.
"""
