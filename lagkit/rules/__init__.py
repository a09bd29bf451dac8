"""Alert rules for the exporter that really runs, their proofs, and what is wrong with others.

:func:`~lagkit.rules.ruleset.build` makes rules as data from a dialect's metrics and somebody's
wishes; :mod:`~lagkit.rules.writing` puts them down for Prometheus and its operator,
:mod:`~lagkit.rules.dashboard` for Grafana; :func:`~lagkit.rules.lint.lint` judges rules that others
wrote. Nothing here asks a server: :mod:`lagkit.sources.prometheus.survey` tells what one has.
"""
