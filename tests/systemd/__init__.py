"""The units under a real systemd, and the tests on Debian's own Python: in a Debian root that this makes and boots."""
