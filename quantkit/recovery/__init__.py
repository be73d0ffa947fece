"""Steps that win accuracy back, one per file; each takes a QuantizedModel and gives a new one.

- ``bias_correction``: the mean error of rounded weights leaves the biases.
"""
