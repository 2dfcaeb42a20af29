"""Replications of two papers on in-context learning: Part I is `icl_lib.softmax`, Part II `icl_lib.mean_field`.

Each names what most uses need, and says how data flows: settings go into prompts or a measure, those into training or a flow; tidy
tables with a column of seeds come out; `stats` and `summary` make intervals over seeds of these, `figures` draws them. What only one
claim needs is in ``studies``, what surrounds it all in ``book``.
"""

from icl_lib import source as source  # first: it notes what the library's files are before they are read
