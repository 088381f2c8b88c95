"""
Keeps what is there equal to what is asked for: a queue of targets to look at, who puts them there, and the looking.

`watch` and `resync` say which targets to look at, `queue` says when, `reconciler` looks, plans and acts.
"""
