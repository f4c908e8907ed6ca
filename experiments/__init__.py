"""Programs that researchers launch: a config in, a run's directory out."""
