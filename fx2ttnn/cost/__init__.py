"""Predicted times: what a device operation takes on one chip, from measurements that others published.

`figures.py` holds what a kind of chip is known to take, `kernels.py` the formula of each family of device operations, `calls.py` which
device operations a ttnn call runs, `calibration.py` how far all this is from `measurements.csv`, the published times (docs/cost_model.md).
A step is summed up in profile/predicted.py; the planner prices what it chooses among with the same formulas in plan/cost.py.
"""
