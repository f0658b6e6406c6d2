"""The promises of echosvc, held against real processes.

``python -m tests.hold`` starts the service as a user would, through twistd, runs one promise after the other
with clients that are plain sockets or programs of others, and prints one line for each. With ``--control stock``
and ``--control xinetd`` the same promises meet the echoes of others, with ``--without-guard`` the service with that
switched off which a promise rests on. It must break the promise then: that shows that the tests can fail.

The rooms here: `promise` (what a promise is), `run` (what it has to work with), `runner` (one promise from
start to verdict), `service` (the process under test), `control` (the stock server, a program of its own) and `xinetd`,
`unguarded` (the guards and how each is switched off),
`carriers` (what clients connect over) and `tls_stream`, `clients` and `forge` (the witnesses), `peer` (what has to run in a process of its own), and one module for
each family of promises.
"""
