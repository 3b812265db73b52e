"""Several processes behind one port: `serve --workers N`.

One process above (`supervisor.py`) takes no call and knows no card. It holds the listening sockets, one for
each worker (SO_REUSEPORT: the kernel deals calls out among them), so that no connection is lost when a worker
dies or is replaced, and watches over those below: N workers that take calls, each a whole server, and the
front, which has the HTTP port with health, metrics and the panel. All share one journal, as servers on
several machines do.

What they know of each other is in a folder in memory that goes with them: the roll of calls (`roll.py`), so
that MAX_CALLS and its like hold for all together; the metrics, which are added up (`tally.py`); a socket of
each worker on which it says what calls it has (`live.py`).
"""
