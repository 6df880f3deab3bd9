"""`compare`: a workload through every design on the model, priced; and one procedure as a listing with numbers."""
