"""What runs are judged by besides held-out losses, and how much of it they trained on."""
