"""`optimal`: column generation with a proven bound, annealing and rounding, in any number of dimensions."""
