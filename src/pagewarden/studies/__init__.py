"""What each verb finds out, one folder a verb: the only floor that picks the model or the kernel."""
