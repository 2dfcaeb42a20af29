"""Chapters re-executed with other parameters: one run, a sweep over many, and the check of what is committed.

The command ``icl`` (`icl_lib.cli`, its options in `options`) is a thin front. From a chapter to a result:

- Every run: `book.find` names the chapter, `point.compute` makes a folder of it: `execute.run` runs the notebook by papermill
  in a `kernel` that nothing configured outside reaches, `story` tells it as that of a run, `headline` is what stands at its
  top, `page` its HTML, and ``provenance.json`` says where it all comes from.
- `single.run` does this once, in this process.
- `sweep.plan` lists the points (`grid`); `sweep.run` has them computed by `workers`, here or on a Dask cluster. Each is a process
  of its own, `worker`, with the same `point.compute`. `gather` makes one table and figure of them, `report` a page.
- `verify.verify` runs a chapter too and compares by the rule of `near`. The stricter rule of `compare` is that of ``make record``.
- `new.new` begins a chapter: `icl new`.
"""
