"""What a train step needs and how fast it can be, on devices that need not be there."""
