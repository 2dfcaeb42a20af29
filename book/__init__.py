"""The book around the library: the ledger read and judged, what a chapter shows and records, chapters executed again.

`claims` reads ``claims.yml`` and judges by it; a `chapter` measures, shows and records by it; `scoreboard`, `tiles` and `all_results`
show what was recorded, `hero` a live prompt; `registry` knows the chapters and their `parameters`; `identity` says what a chapter's outputs come from.

The command ``icl`` (`cli`) is a thin front. From a chapter to a result:

- Every run: `registry.find` names the chapter, `run.compute` makes a folder of it: `execute.run` runs the notebook by papermill
  in a `kernel` that nothing configured outside reaches, `render` tells it as that of a run and makes one HTML file of it, and
  ``provenance.json`` says where it all comes from. `run.run` does this once, in this process.
- `sweep.plan` lists the points; `sweep.run` has them computed by `workers`, here or on a Dask cluster, each by `run.compute` in a
  process of its own. `gather` makes one table, figure and page of them.
- `verify.verify` runs a chapter too and compares by the rules of `compare`, as nbval does in the tests and ``make record``.
- `new.new` begins a chapter: `icl new`.
"""

from icl_lib import source as source  # first: it notes what the files are before they are read
