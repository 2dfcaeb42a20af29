"""What only one claim needs, one module each, named as its chapter: ``studies/K7.py`` is behind K7."""
