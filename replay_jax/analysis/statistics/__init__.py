"""Laws, resamples and intervals: numbers in, numbers out.

Other rooms read `bootstrap` (Interval, RESAMPLES, interval), `components` (Component, Layout),
`documents` (DocumentLuck, document_luck), `efficiency` (LAW_TITLES, MIN_POINTS, ReferencePoints,
fit_reference, point_weights, require_falling), `equivalents` (Equivalents, amount, equivalents,
ratio), `inference` (CurveFit, fit_curve, residual_noise), `noise` (Noise, estimate_noise,
resample_means), `points` (FitResult, fit_points).
"""
