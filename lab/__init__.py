"""The lab: real servers on free loopback ports, and the faults that are put into them.

Nothing here is part of the shipped package. ``python -m lab`` starts and stops everything;
``lab.stack.Stack`` is the same thing for tests. See ``lab/README.md``.
"""
