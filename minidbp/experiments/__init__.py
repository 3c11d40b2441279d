"""The paper's experiments: what is run, how it is kept, and how it is shown."""
