"""From a study to a schedule: what to use, how sure, what to run next."""
