"""From data to a file of statistics: read samples, run the float network, count, save.

- ``preprocessing``: from a decoded picture to the array a network wants; the presets.
- ``dataset``: the contract of data sources; ``open_dataset`` finds out what it was given.
- ``batches``: samples read ahead in threads and stacked.
- ``pictures``, ``arrays``: one file per kind of source.
- ``labels``: class labels from CSV, ``.npy`` or class folders, matched to the samples.
- ``histogram``: counts in 65,536 fixed log-spaced buckets.
- ``statistics``: what is known of one tensor; merging is exact.
- ``table``: the statistics of all tensors and where they come from; the ``*.calib.npz`` file.
- ``collector``: one pass over the data through onnxruntime.

Adding a kind of source is adding a file with a class that has ``names`` and ``read`` (the protocol
``dataset.Source``) and a line in ``dataset.open_dataset``.
"""
