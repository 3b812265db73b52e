"""Reconciliation: the bank's or PayStar's settlement list against our own attempts.

`reading` makes values of a list's lines, `matching` lays them beside the attempts, `report` words the
result for a person. Pure: no database, no settings, no printing. It decides nothing: it says what agrees.
"""
