"""The seed runbook's workload as real processes: who consumes, who produces, and what it says.

The names are those of the runbook: requests to deploy an API travel through ``deploy-requests`` to
the ``deployment-worker`` group, which launches one AWX job for each. ``api-events`` and its
``audit-writer`` group share the broker with it and nothing else, so that an incident of the worker
leaves them untouched.
"""
