"""What `import replay_jax` gives: plan, run, read, export; the commands call the same."""
