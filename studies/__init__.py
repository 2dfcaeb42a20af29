"""What only one claim needs, one module each, named as its chapter: ``K7`` is behind K7."""
