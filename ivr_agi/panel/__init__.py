"""The merchant's panel: pages for those who take payments at a desk and those who answer for the money.

It runs on the server's own loop, with the same payments, limits and journal as a call. It shows of a card no
more than the mask, and never stands in a call's way: whatever happens here, calls go on.
"""
