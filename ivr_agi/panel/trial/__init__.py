"""A phone in the browser: real calls to our own server over the AGI wire, with nothing real behind them.

Server, gateway simulator and journal run in a process of their own, so that no trial call touches the
journal, the metrics, the gateway or the log of the process that takes money. Only the simulator's test cards
may be keyed: any other number that could be a card ends the call, and goes nowhere.
"""

from __future__ import annotations

from ivr_agi.panel.trial.calls import NoSuchCall, Trial, TrialError, shape_of
from ivr_agi.panel.trial.shelf import Shelf

__all__ = ["NoSuchCall", "Shelf", "Trial", "TrialError", "shape_of"]
