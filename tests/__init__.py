"""The tests of echosvc."""

from hypothesis import settings

settings.register_profile("no deadline", deadline=None)  # no test here depends on how fast the machine is
settings.load_profile("no deadline")
