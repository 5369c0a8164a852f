"""Laws, resamples and intervals: numbers in, numbers out.

Other rooms read `bootstrap` (Interval, RESAMPLES, interval), `efficiency` (LAW_TITLES, MIN_POINTS,
ReferencePoints, fit_reference, point_weights, require_falling), `equivalents` (Equivalents, amount,
equivalents, ratio), `inference` (CurveFit, fit_curve, residual_noise), `points` (FitResult,
fit_points).
"""
