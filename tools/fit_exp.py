#!/usr/bin/env python3
"""Prints minimax coefficients for exp: q of degree 4 in exp(r) = 1 + r + r^2 q(r) on |r| <= ln 2 / 2. Needs numpy.

Lawson's algorithm: weighted least squares on Chebyshev nodes, the weights driven to where the relative error is largest."""
import numpy as np

DEGREE = 4
limit = np.log(2) / 2 * 1.0001  # rounding may leave r a little outside
r = np.cos(np.pi * (np.arange(4000) + 0.5) / 4000) * limit
r = r[np.abs(r) > 1e-3]  # nearer to 0 the target cancels, and its weight vanishes
target = (np.expm1(r) - r) / r**2
to_relative_error = r**2 / np.exp(r)
powers = np.vander(r, DEGREE + 1, increasing=True)

weight = np.ones_like(r)
for _ in range(400):
    scale = (to_relative_error * np.sqrt(weight))[:, None]
    coefficients, *_ = np.linalg.lstsq(powers * scale, target * scale[:, 0], rcond=None)
    error = np.abs((powers @ coefficients - target) * to_relative_error)
    weight *= np.sqrt(error / error.max() + 1e-3)
    weight /= weight.mean()

print([float(np.float32(c)) for c in coefficients], "relative error", error.max())
