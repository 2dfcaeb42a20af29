"""What is done to the library on purpose, to see that it fails loudly or not at all: ``make reliability``.

One file per kind of fault. Each yields rows of ``results.csv``, see ``outcome.py``; the page "Reliability" shows them.
"""
