"""Laws, resamples and intervals: numbers in, numbers out."""
