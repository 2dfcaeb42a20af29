"""How fast the library is, against its baselines and against what the machine allows: ``make bench``."""
