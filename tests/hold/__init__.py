"""The promises of echosvc, held against real processes.

``python -m tests.hold`` starts the service as a user would, through twistd, runs one promise after the other
with clients that are plain sockets or programs of others, and prints one line for each. With ``--control``
the same promises meet a stock Twisted echo, which must break them: that shows that the tests can fail.

The rooms here: `promise` (what a promise is), `run` (what it has to work with), `runner` (one promise from
start to verdict), `service` (the process under test), `control` (the stock server, a program of its own),
`clients` and `forge` (the witnesses), `peer` (what has to run in a process of its own), and one module for
each family of promises.
"""
