"""Replications of two papers on in-context learning: Part I in ``softmax``, Part II in ``mean_field``; `studies` stand beside it.

Prompts or a measure go into training or a flow, tables with a column of seeds come out, and intervals over seeds of these.
"""

from icl_lib import source as source  # first: it notes what the library's files are before they are read
