"""Labelled incidents by the hundred: scripts as data, real faults, sealed labels.

``script`` knows the format, ``faults`` what can be broken and mended, ``making`` how one incident
is made and recorded. The scripts are the TOML files beside this one. None of them knows lagkit's
ranking: a label says what the injector did, and when by its own clock.
"""
