"""The number that says which arithmetic a state came out of."""

# Raise it by hand with every change that alters a bit of a training step, an evaluation or an
# initialisation on any platform. States and results of another number are other states and results;
# tests/training/test_numerics.py fails where bits change and the number does not. A change that
# touches meshes of several devices alone may leave it, as no id names a mesh: what was begun under
# other code is another environment, which a working directory refuses.
NUMERICS = 2
