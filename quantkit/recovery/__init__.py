"""Steps that win accuracy back, one per file, switched by a field of ``QuantConfig``.

On the float network and its calibration table, in this order; its function stays:

- ``cross_layer_equalization``: channels between two layers use their tensor's codes evenly.
- ``linear_edge_equalization``: likewise where tensors are added up before they are read.
- ``high_bias_absorption``: what a channel always holds moves into the next biases.

On the plan:

- ``activation_range_search``: ranges by the error of the outputs that they cause.

On the constants:

- ``weight_scale_search``: weight scales of least squared error.
- ``bias_correction``: the mean error of rounded weights leaves the biases.
- ``learned_rounding``: weights are rounded for the inputs that their layer gets.
- ``empirical_bias_correction``: the mean error that is left leaves the biases (``layer_sums``,
  ``side_by_side``).
- ``block_reconstruction``: rounding, biases and activation scales fitted to the float values.

``recover`` runs all of them. Where no step helps, layers stay out of the integers:

- ``sensitivity``: what each layer loses, alone and missing; ``variants`` measures networks, and
  ``measurement_log`` keeps what was measured.
- ``mixed_precision``: the search for the cheapest set of layers to keep.
"""
