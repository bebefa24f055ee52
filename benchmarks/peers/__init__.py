"""What others use to hand a value from task to task, measured beside xcargo, each in an environment of its own.

Not to be confused with ``tests/peers``, which pushes and pulls the values of other projects' test suites.
"""
