"""What only one claim needs, one module each, named as its chapter: ``K7`` is behind K7."""

from icl_lib import source as source  # first: it notes what the files are before they are read
