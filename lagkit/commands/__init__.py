"""The commands of the terminal, one module a family; no logic of their own.

A command imports what is heavy inside its function: ``lagkit --help`` must not wait for it.
"""
