"""Predicted times: what a device operation takes on one chip, from measurements that others published.

`figures.py` holds what a kind of chip is known to take, `kernels.py` the formula of each family of device operations, `calls.py` which
device operations a ttnn call runs, `steps.py` sums up a step, `placements.py` prices what the planner chooses among with the same
formulas. `measurements.csv` are the published times; docs/cost_model.md says how far the formulas are from them.
"""
