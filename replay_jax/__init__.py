"""Schedule scarce target data with plentiful generic data, and say how sure the answer is."""
