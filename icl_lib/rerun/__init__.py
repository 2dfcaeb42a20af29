"""Chapters re-executed with other parameters: one run, a sweep over many, and the check of what is committed.

`book.find` names a chapter, `single.run` executes it once, `sweep.plan` and `sweep.run` many times; `verify.verify` compares.
The command ``icl`` (`icl_lib.cli`) is a thin front of these.
"""
