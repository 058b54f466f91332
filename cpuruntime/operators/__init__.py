"""What operators mean, whichever device runs them: rules, shapes, evaluation, demand, batch axis."""
